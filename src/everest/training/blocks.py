"""How the transformer blocks of a model compute in training: compiled, or with less memory."""

from torch import nn

from everest.models.recomputing import BlockBase, recompute_blocks


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
    """Compile every transformer block in place, whole: they share one graph, so it is compiled once for each shape.

    Args:
        model: On its device.
        backend: PyTorch's name of what makes code of the graph.
    """
    for module in model.modules():
        if isinstance(module, BlockBase):
            module.compile(backend=backend, dynamic=False, fullgraph=True)
