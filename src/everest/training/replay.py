"""Repeat a step that was skipped, alone and slowly, and say where it stops being finite.

Shapes: B clips.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from everest.config import CheckpointInfo, FinetuneConfig, PretrainConfig, RunConfig
from everest.datasets import Batch, ClipRecord, Manifest, TrainLoader, build_train_loader
from everest.draws import ClipDraws, seed_of_step
from everest.errors import DataError, RunError
from everest.models import Classifier, MaskedModel, grid_of, load_model
from everest.models.dropping import drawing, find_dropping
from everest.objectives import build_objective
from everest.training.engine import Engine
from everest.training.environment import package_versions
from everest.training.health import not_finite
from everest.training.losses import finetuning_loss, pretraining_loss
from everest.training.passes import LossFunction
from everest.training.replay_files import Replay, read_replay
from everest.training.replay_result import ClipFinding, ReplayResult
from everest.training.restarting import changed_versions
from everest.training.runs import describe_checkpoint
from everest.video import ShardMember


def replay_step(path: Path, *, device: str = "auto", data: Manifest | None = None) -> ReplayResult:
    """Repeat the forward and backward passes of a step that was skipped.

    Args:
        path: A file of RUN/replays; the weights beside it and the videos must still be there.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        data: List of the run, to say how its shards are reached: replay files hold no passwords and signatures of URLs.

    Raises:
        EverestError: Something that the step needs cannot be read.
    """
    stored = read_replay(path)
    engine = Engine.start(RunConfig.model_validate({"device": device, "precision": stored.precision}))
    weights = path.with_name(stored.weights)
    if not weights.is_file():
        raise RunError(f"{weights}, from which this step started, is not there: it is kept beside the replay files")
    model, info = load_model(weights)
    model.to(engine.device).train()
    batches = _read_batches(stored, info.class_names, data)
    step = _Step(engine, model, _loss_of(stored, model, info, engine.device), stored)
    losses, norm, module, parameter = step.together(batches)
    return ReplayResult(
        step=stored.step,
        rank=stored.rank,
        device=engine.device.type,
        precision=stored.precision,
        losses=losses,
        losses_then=tuple(each.loss for each in stored.passes),
        grad_norm=norm,
        grad_norm_then=stored.grad_norm,
        weights=tuple(not_finite(model.state_dict())),
        module=module,
        parameter=parameter,
        clips=tuple(step.one_by_one(batches)),
        notes=tuple(_notes(stored, engine)),
    )


class _Step:
    """The passes of one step, with the plain network."""

    def __init__(self, engine: Engine, model: nn.Module, loss: LossFunction, stored: Replay) -> None:
        self._engine, self._model, self._loss, self._stored = engine, model, loss, stored
        self._dropping = find_dropping(model)
        self._step_seed = seed_of_step(stored.config.run.seed, stored.step)

    def together(self, batches: Sequence[Batch]) -> tuple[tuple[float, ...], float, str, str]:
        """Repeat the step: losses of the passes, norm of the gradient, first module and parameter not finite."""
        with _watching_outputs(self._model) as modules, _watching_gradients(self._model) as parameters:
            losses = tuple(self._pass(batch, len(batches)) for batch in batches)
        return losses, self._take_norm(), next(iter(modules), ""), next(iter(parameters), "")

    def one_by_one(self, batches: Sequence[Batch]) -> Iterator[ClipFinding]:
        """Repeat every video by itself, or every two where clips are mixed in pairs."""
        config = self._stored.config
        is_mixed = isinstance(config, FinetuneConfig) and bool(config.augment.mixup_alpha + config.augment.cutmix_alpha)
        num_videos = 2 if is_mixed else 1
        size = num_videos * config.data.clips_per_video
        for batch, each in zip(batches, self._stored.passes, strict=True):
            for first in range(0, len(batch.labels), size):
                loss = self._pass(_part(batch, slice(first, first + size)), 1)
                video = first // config.data.clips_per_video
                named = tuple(map(str, each.videos[video : video + num_videos]))
                yield ClipFinding(named, loss, self._take_norm())

    def _pass(self, batch: Batch, num_passes: int) -> float:
        assert batch.seeds is not None  # noqa: S101 - for the type checker: a replay file has them
        draws = ClipDraws(batch.seeds, self._step_seed, self._engine.device)
        with drawing(self._dropping, draws):
            with self._engine.autocast():
                value = self._loss(self._model, batch, draws).value
            (value / num_passes).backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    def _take_norm(self) -> float:
        """Measure the gradient and drop it."""
        norm = float(self._engine.clip(self._model, None))
        self._model.zero_grad(set_to_none=True)
        return norm


def _loss_of(stored: Replay, model: nn.Module, info: CheckpointInfo, device: torch.device) -> LossFunction:
    """Build the loss of the run on the network that was read."""
    config = stored.config
    if isinstance(config, PretrainConfig) and isinstance(model, MaskedModel):
        objective = build_objective(describe_checkpoint(config), grid_of(config.model, config.clip), device)
        return pretraining_loss(model, info, objective)
    if isinstance(config, FinetuneConfig) and isinstance(model, Classifier):
        return finetuning_loss(model, info, config)
    raise RunError(f"{stored.weights} holds a {type(model).__name__}, which a run of {config.task} does not train")


def _read_batches(stored: Replay, class_names: tuple[str, ...], data: Manifest | None) -> list[Batch]:
    """Read the clips of each pass as the run did: the same spans, crops and changes."""
    records = [_record(video.record(), stored) for each in stored.passes for video in each.videos]
    if data is not None:
        records = _reached_by(data, records)
    loader = _loader(stored, Manifest(tuple(records), class_names, Path(stored.data_source)))
    batches, first = [], 0
    for each in stored.passes:
        keys = tuple((video.epoch, video.position, first + n) for n, video in enumerate(each.videos))
        first += len(keys)
        try:
            batch = loader.read(keys)
        except DataError as error:
            raise RunError(f"the clips of step {stored.step:,} cannot be read again: {error}") from None
        batches.append(replace(batch, seeds=torch.tensor([seed for video in each.videos for seed in video.seeds])))
    return batches


def _record(record: ClipRecord, stored: Replay) -> ClipRecord:
    """Pre-training looks at no labels, and its weights name no classes."""
    return replace(record, label=None) if stored.config.task == "pretrain" else record


def _reached_by(data: Manifest, records: list[ClipRecord]) -> list[ClipRecord]:
    """Take the members of shards from a list, which knows the whole addresses of those at URLs.

    Raises:
        RunError: They are not all in it.
    """
    known = {_place_of(record.member): record.member for record in data.records if record.member is not None}
    found = []
    for record in records:
        if record.member is None:
            found.append(record)
            continue
        member = known.get(_place_of(record.member))
        if member is None:
            raise RunError(f"{record.member} is not in {data.place}: give the list that the run learnt from")
        found.append(replace(record, member=replace(member, sha256=record.member.sha256 or member.sha256)))
    return found


def _place_of(member: ShardMember) -> tuple[str, str, int, int]:
    return str(member.shard), member.name, member.offset, member.num_bytes


def _loader(stored: Replay, manifest: Manifest) -> TrainLoader:
    data = stored.config.data.model_copy(update={"num_workers": 0, "max_failed_share": 0.0})
    if data.augment_on == "auto":  # where it was done then, whatever there is here
        data = data.model_copy(update={"augment_on": "device" if stored.device == "cuda" else "workers"})
    return build_train_loader(manifest, stored.config.model_copy(update={"data": data}))


def _part(batch: Batch, part: slice) -> Batch:
    """Take some clips of a batch."""
    return replace(
        batch,
        frames=batch.frames[part],
        labels=batch.labels[part],
        record_indices=batch.record_indices[part],
        changes=batch.changes[part],
        motion=None if batch.motion is None else batch.motion[part],
        seeds=None if batch.seeds is None else batch.seeds[part],
    )


@contextmanager
def _watching_outputs(model: nn.Module) -> Iterator[list[str]]:
    """Note the modules whose outputs are not finite, in the order in which they give them."""
    found: list[str] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
            given = outputs if isinstance(outputs, list | tuple) else [outputs]
            if not_finite({str(n): value for n, value in enumerate(given) if isinstance(value, Tensor)}):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watching_gradients(model: nn.Module) -> Iterator[list[str]]:
    """Note the parameters whose gradients are not finite, in the order in which they are computed."""
    found: list[str] = []

    def note(name: str) -> Any:
        def hook(parameter: Tensor) -> None:
            if parameter.grad is not None and not_finite({name: parameter.grad}):
                found.append(name)

        return hook

    handles = [
        parameter.register_post_accumulate_grad_hook(note(name))  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _notes(stored: Replay, engine: Engine) -> Iterator[str]:
    """Say what is not as it was then."""
    if engine.device.type != stored.device:
        yield f"the run computed on {stored.device}, which rounds in another way than {engine.device.type}"
    if stored.config.run.compile:
        yield "the run was compiled, this was not"
    if changed := changed_versions(stored.versions, package_versions()):
        yield f"other versions than then: {', '.join(changed)}"
