"""One training step to be measured: what training does with a batch that has arrived, from uint8 clips to new weights.

Shapes: B clips, T frames, H height, W width.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everest.bench.described import PLAIN, Peer
from everest.bench.distilled import bench_objective
from everest.bench.foreign import TRANSFORMERS, build_transformers, load_foreign, transformers_loss
from everest.bench.hardware import wait_for
from everest.bench.made_up import made_motion, moving_clips
from everest.bench.marked import marked_finetuning_loss, marked_pretraining_loss
from everest.bench.plain import PlainAutoencoder, PlainClassifier, build_plain, plain_choice, plain_targets
from everest.bench.timeline import Marks
from everest.config import (
    VARYING,
    AugmentConfig,
    CheckpointInfo,
    FinetuneConfig,
    OptimConfig,
    RunConfig,
)
from everest.datasets import Batch
from everest.draws import ClipDraws, seed_of_step, seeds_of_clips
from everest.errors import ConfigError
from everest.models import Classifier, MaskedModel, build_classifier, build_masked_model, grid_of, select_input
from everest.models.constants import constant
from everest.models.dropping import drawing, find_dropping
from everest.tokens import count_tokens
from everest.training.blocks import prepare_blocks
from everest.training.engine import Engine, choose_dtype
from everest.training.losses import finetuning_loss, pretraining_loss
from everest.training.optim import build_optimizer
from everest.training.passes import Pass, RecordedPass
from everest.video import normalize

AnyModel = MaskedModel | Classifier | PlainAutoencoder | PlainClassifier | nn.Module
MarkedLoss = Callable[[Batch, ClipDraws, Marks | None], Tensor]


class Run(Protocol):
    """One optimiser step."""

    def __call__(self, marks: Marks | None = None, *, wait: bool = True) -> float:
        """Do it, wait for the device, and return the loss; or only ask for it, as training does, and return NaN."""


LABEL_SMOOTHING = 0.1
MOST_CLIPS = 64  # that are made up; of larger batches, each comes several times


@dataclass(frozen=True)
class TokenNumbers:
    """Tokens of one clip: all, those that are encoded, those that are predicted; on average where clips differ."""

    total: int
    visible: int
    target: int


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """A step that can be run again and again.

    Attributes:
        info: What it is a step of.
        batch: Clips of the step.
        run: Does one optimiser step and returns its loss; when it returns, the device has finished, unless it is told
            not to wait. Reports the end of each part to the marks it may be given.
        model: What is trained; None where only somebody else's step knows.
        tokens: Of one clip.
        num_parameters: Of the model; None where it is not known.
        device: Where it runs.
        dtype: What matrix products compute in.
    """

    info: CheckpointInfo
    batch: int
    run: Run
    model: AnyModel | None
    tokens: TokenNumbers
    num_parameters: int | None
    device: torch.device
    dtype: torch.dtype

    def __repr__(self) -> str:
        name = "somebody else's" if self.model is None else type(self.model).__name__
        millions = "" if self.num_parameters is None else f"{self.num_parameters / 1e6:.1f} M parameters, "
        return f"TrainingStep({name}, {millions}{self.tokens}, {self.device}, {self.dtype})"


def expect_no_peer(info: CheckpointInfo, peer: Peer | None) -> None:
    """Refuse a peer where something else than pixels is predicted, which no peer does."""
    if peer is not None and info.objective.name != "pixels":
        raise ConfigError(f"the {peer} peer predicts pixels, not {info.objective.name}: measure it without a peer")


def build_model(info: CheckpointInfo, peer: Peer | None = None) -> AnyModel:
    """Build our model for a task, or its peer, with fresh weights from PyTorch's random state.

    Raises:
        ConfigError: There is no such peer, or none of this network.
    """
    if peer is not None and info.model.arch != "vit":
        raise ConfigError(f"peers are plain ViTs, not {info.model.arch}: measure it without a peer")
    if peer is None:
        if info.task == "pretrain":
            return build_masked_model(info.model, info.clip, info.objective)
        return build_classifier(info.model, info.clip, len(info.class_names))
    if peer == TRANSFORMERS:
        return build_transformers(info)
    if peer != PLAIN:
        raise ConfigError(f"no peer {peer!r}: give {PLAIN}, {TRANSFORMERS} or MODULE:FUNCTION, or none for EVEREST")
    return build_plain(info)


def build_step(
    info: CheckpointInfo,
    batch: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    peer: Peer | None = None,
    compile: bool = False,
    activation_checkpointing: bool = False,
    cuda_graphs: bool = False,
    seed: int = 0,
    clips: Tensor | None = None,
    batches: Iterator[Batch] | None = None,
) -> TrainingStep:
    """Build one training step.

    Args:
        info: From :func:`describe_task`.
        batch: Clips of the step, B.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is it.
        precision: ``float32``, ``bfloat16`` (weights stay float32), or ``auto`` for what training would take.
        peer: ``plain`` or ``transformers`` instead of our model, or ``MODULE:FUNCTION`` for a step of somebody else's;
            see :func:`~everest.bench.foreign.load_foreign`.
        compile: Compile the transformer blocks, as training can; or the whole model of transformers, as its users do.
        activation_checkpointing: Compute again in the backward pass what the blocks would keep, as training can.
        cuda_graphs: Record forward and backward pass and replay them, as training can on a GPU.
        seed: Of weights, clips and selection.
        clips: Its clips, uint8, shape [B, 3, T, H, W]; None: made-up ones.
        batches: Gives every step another batch, and it waits for it (:func:`~everest.bench.footage.reading`); None:
            the clips are there, and each step has the same.

    Raises:
        ConfigError: Something that cannot be measured.
    """
    if batch < 1:
        raise ConfigError(f"a step needs at least one clip, given: {batch}")
    expect_no_peer(info, peer)
    if peer is not None and ((compile and peer != TRANSFORMERS) or activation_checkpointing or cuda_graphs):
        raise ConfigError(
            f"the {peer} peer runs as it is: measure it without compile, activation checkpointing and CUDA graphs "
            f"(of peers, {TRANSFORMERS} can be compiled)"
        )
    given = (info.selection.method, info.selection.camera, info.objective.name, activation_checkpointing)
    if cuda_graphs and (given[0] in VARYING or given[1:] != ("still", "pixels", False)):
        raise ConfigError(
            "CUDA graphs replay steps of as many tokens of a camera that stands still, that predict pixels or classes "
            f"and keep what they compute, not {given[0]} with camera={given[1]} and {given[2]}"
            + (" and activation checkpointing" if activation_checkpointing else "")
        )
    place = find_device(device)
    dtype = choose_dtype(precision, place)
    if peer == TRANSFORMERS:  # it knows no other
        method = {"pretrain": "tube", "finetune": "all"}[info.task]
        info = info.model_copy(update={"selection": info.selection.model_copy(update={"method": method})})
    grid = grid_of(info.model, info.clip)
    tokens = TokenNumbers(grid.num_tokens, *count_tokens(grid, info.selection, info.task))
    torch.manual_seed(seed)
    if peer is not None and ":" in peer:
        return _foreign_step(peer, info, batch, place, dtype, tokens, seed)
    model = build_model(info, peer).to(place).train()
    prepare_blocks(model, compile=compile, activation_checkpointing=activation_checkpointing)
    optim = OptimConfig(layer_decay=0.75 if info.task == "finetune" else 1.0, label_smoothing=LABEL_SMOOTHING)
    if peer == TRANSFORMERS:
        if compile:
            model.compile(dynamic=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    else:
        optimizer = build_optimizer(model, optim, _depth(model))
    data = _fixed_batch(info, batch, clips, seed, place) if batches is None else next(batches)
    generator = torch.Generator(place).manual_seed(seed)
    if peer is None:
        if info.selection.method in VARYING:
            tokens = _average_tokens(model, info, data, place)
        loss_of = _our_loss(model, info, optim, place)
    elif peer == TRANSFORMERS:
        loss_of = _unmarked(transformers_loss(model, info), generator)
    else:
        loss_of = _unmarked(_plain_loss(model, info), generator)
    source = data if batches is None else batches
    recorded = _recorded_pass(model, info, optim, place, dtype) if cuda_graphs else None
    run = _make_run(model, optimizer, loss_of, source, seed=seed, place=place, dtype=dtype, recorded=recorded)
    return TrainingStep(info, batch, run, model, tokens, sum(p.numel() for p in model.parameters()), place, dtype)


def _fixed_batch(info: CheckpointInfo, batch: int, clips: Tensor | None, seed: int, place: torch.device) -> Batch:
    """Make a batch that all steps have, of clips or of made-up ones."""
    numbers = torch.arange(batch)
    if clips is None:
        few = moving_clips(min(batch, MOST_CLIPS), info, seed=seed)
        clips = few[numbers % len(few)]
    data = Batch(clips, numbers % max(1, len(info.class_names)), numbers, motion=made_motion(batch, info))
    return data.pin_memory() if place.type == "cuda" else data  # as training's loader does


def _make_run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: MarkedLoss,
    source: Batch | Iterator[Batch],
    *,
    seed: int,
    place: torch.device,
    dtype: torch.dtype,
    recorded: Pass | None = None,
) -> Run:
    """Make one optimiser step, from the batch to new weights; what is random in it belongs to clips, as in training."""
    dropping, count = find_dropping(model), itertools.count(1)

    def run(marks: Marks | None = None, *, wait: bool = True) -> float:
        step, data = next(count), source
        if not isinstance(data, Batch):
            data = next(data)
            _mark(marks, "waiting")
        numbers = data.record_indices.tolist()
        draws = ClipDraws(seeds_of_clips(seed, step, numbers), seed_of_step(seed, step), place)
        if recorded is not None:
            loss = recorded(data, draws, num_passes=1, sync=True).value
        else:
            with drawing(dropping, draws):
                _mark(marks, "draws")
                with torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                    loss = loss_of(data, draws, marks)
                loss.backward()  # type: ignore[no-untyped-call]
        _mark(marks, "embedding, backward")
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])  # training logs it
        _mark(marks, "gradient norm")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not wait:
            return math.nan
        wait_for(place)
        _mark(marks, "optimiser")
        return float(loss.detach())

    return run


def _average_tokens(model: AnyModel, info: CheckpointInfo, data: Batch, place: torch.device) -> TokenNumbers:
    """Tokens of these clips, where each keeps its own number."""
    assert isinstance(model, MaskedModel | Classifier)  # noqa: S101 - for the type checker: no peer selects so
    chosen = select_input(model.encoder, data.frames.to(place), info).selection
    visible, target = (round(index.numel() / chosen.num_clips) for index in (chosen.visible, chosen.target))
    return TokenNumbers(chosen.grid.num_tokens, visible, target)


def _depth(model: AnyModel) -> int:
    """Number of blocks of the encoder."""
    encoder = cast(MaskedModel | Classifier, model).encoder
    return len(encoder.blocks)


def _foreign_step(  # noqa: PLR0917 - what build_step has found out
    peer: str,
    info: CheckpointInfo,
    batch: int,
    place: torch.device,
    dtype: torch.dtype,
    tokens: TokenNumbers,
    seed: int,
) -> TrainingStep:
    """Make a step of somebody else's."""
    clip, selection = info.clip, info.selection
    known = {
        "size": info.model.size,
        "task": info.task,
        "selection": selection.method,
        "keep_ratio": selection.keep_ratio,
        "encode_ratio": selection.encode_ratio,
        "batch": batch,
        "device": str(place),
        "precision": str(dtype).removeprefix("torch."),
        "num_frames": clip.num_frames,
        "height": clip.height,
        "width": clip.width,
        "num_classes": len(info.class_names),
        "seed": seed,
    }
    step = load_foreign(peer, **known)

    def run(marks: Marks | None = None, *, wait: bool = True) -> float:
        del marks
        loss = step()
        if not wait:
            return math.nan
        wait_for(place)
        loss = loss.detach() if isinstance(loss, Tensor) else loss
        return float(loss) if isinstance(loss, Tensor | float | int) else math.nan

    return TrainingStep(info, batch, run, None, tokens, None, place, dtype)


def _unmarked(function: Callable[[Batch, torch.Generator], Tensor], generator: torch.Generator) -> MarkedLoss:
    """The loss of a peer, which is not taken apart and draws from a generator."""
    return lambda batch, _, __: function(batch, generator)


def _our_loss(model: nn.Module, info: CheckpointInfo, optim: OptimConfig, place: torch.device) -> MarkedLoss:
    """The loss function of training itself, or where marks are asked for the same part by part."""
    if isinstance(model, MaskedModel):
        objective = bench_objective(info, model.grid, place)
        pretraining = pretraining_loss(model, info, objective)

        def loss(batch: Batch, draws: ClipDraws, marks: Marks | None) -> Tensor:
            if marks is None:
                return pretraining(model, batch, draws).value
            return marked_pretraining_loss(model, info, objective, batch, draws, marks)

        return loss
    config = _finetuning(info, optim)
    classifier = cast(Classifier, model)
    finetuning = finetuning_loss(classifier, info, config)

    def classification(batch: Batch, draws: ClipDraws, marks: Marks | None) -> Tensor:
        if marks is None:
            return finetuning(model, batch, draws).value
        return marked_finetuning_loss(classifier, info, config, batch, draws, marks)

    return classification


def _finetuning(info: CheckpointInfo, optim: OptimConfig) -> FinetuneConfig:
    return FinetuneConfig(
        model=info.model, clip=info.clip, selection=info.selection, augment=AugmentConfig(), optim=optim
    )


def _recorded_pass(
    model: nn.Module, info: CheckpointInfo, optim: OptimConfig, place: torch.device, dtype: torch.dtype
) -> RecordedPass:
    """Forward and backward pass of training itself, recorded."""
    if isinstance(model, MaskedModel):
        loss = pretraining_loss(model, info, bench_objective(info, model.grid, place))
    else:
        loss = finetuning_loss(cast(Classifier, model), info, _finetuning(info, optim))
    run = RunConfig.model_validate({"device": place.type, "precision": str(dtype).removeprefix("torch.")})
    return RecordedPass(Engine.start(run), model, loss)


def _mark(marks: Marks | None, name: str) -> None:
    if marks is not None:
        marks.mark(name)


def _plain_loss(model: nn.Module, info: CheckpointInfo) -> Callable[[Batch, torch.Generator], Tensor]:
    """The same for the plain peer."""

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        # As ours, it waits for no copy.
        clips = normalize(batch.frames.to(generator.device, non_blocking=True), info.mean, info.std)
        values, selection = model(clips, plain_choice(info, generator))
        if info.task == "finetune":
            labels = batch.labels.to(generator.device, non_blocking=True)
            return F.cross_entropy(values.float(), labels, label_smoothing=LABEL_SMOOTHING)
        mean, std = (constant(numbers, clips.device) for numbers in (info.mean, info.std))
        return F.mse_loss(values.float(), plain_targets(clips, selection, mean, std))

    return loss


def find_device(name: str) -> torch.device:
    """Say what computes: ``cpu``, ``cuda``, or ``auto``.

    Raises:
        ConfigError: There is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"cannot measure on device {name!r}: give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is available here: give cpu, or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
