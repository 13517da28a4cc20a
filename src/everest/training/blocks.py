"""How the transformer blocks of a model compute in training: compiled, or with less memory."""

from torch import _dynamo, nn

from everest.models.recomputing import BlockBase, recompute_blocks

NUM_SHAPES = 128
"""Shapes of its inputs that a block may be compiled for in one process. PyTorch's 8 are fewer than one network has, if
its blocks differ, in training and in evaluation. Beyond it they compute as they are, and PyTorch says so."""


def prepare_blocks(model: nn.Module, *, compile: bool = False, activation_checkpointing: bool = False) -> None:
    """Let the transformer blocks of a model compute as a run asks for, in place.

    Args:
        model: On its device.
        compile: See :func:`compile_blocks`.
        activation_checkpointing: See :func:`~everest.models.recomputing.recompute_blocks`.
    """
    if activation_checkpointing:
        recompute_blocks(model)
    if compile:
        compile_blocks(model)


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile every transformer block in place: once for each shape, as blocks of one kind share what is compiled.

    Args:
        model: On its device.
        backend: PyTorch's name of what makes code of the graph.
    """
    # All blocks of a class count together, those of other models in this process too.
    _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, NUM_SHAPES)
    for module in model.modules():
        if isinstance(module, BlockBase):
            module.compile(backend=backend, dynamic=False)
