"""Account for every millisecond of a training step: what each part takes, what it counts, what it must take at least.

Shapes: B clips.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean, median
from typing import Any

from torch import Tensor, nn

from everest.bench.footage import reading
from everest.bench.hardware import copy_rate_gbytes, describe_hardware, matrix_rate_gflops
from everest.bench.operations import format_operations, time_operations
from everest.bench.step import default_warmup
from everest.bench.tasks import TrainingStep, build_step
from everest.bench.timeline import Marks, Timeline, Work
from everest.config import CheckpointInfo
from everest.datasets import Manifest
from everest.datasets.handover import PREFETCH_FACTOR
from everest.datasets.workers import resolve_num_workers
from everest.errors import ConfigError
from everest.models import Classifier, MaskedModel

WAITING = "waiting"
"""The stage in which clips are read; that few steps wait long is no reason to leave it out."""
STAGES = {
    WAITING: "until the clips are there, where they are read meanwhile",
    "draws": "seeds of the clips, what drop path leaves out",
    "transfer": "uint8 clips to the device; augmented there, on a GPU",
    "mix": "labels smoothed, mixup and cutmix",
    "patchify": "clips cut into tubelets",
    "score": "all tokens and their changes embedded, without gradient",
    "select": "tokens chosen by their scores; what is known of them gathered",
    "targets": "what is predicted of the targets: pixels, normalised, or what teachers say",
    "embedding": "visible tubelets gathered, their embeddings and positions",
    "encoder": "blocks and norm",
    "decoder": "projection, mask tokens, blocks, head",
    "head": "pooling and classification",
    "loss": "",
    "decoder, backward": "and that of the loss",
    "head, backward": "and that of the loss",
    "encoder, backward": "",
    "embedding, backward": "",
    "gradient norm": "as training logs it",
    "optimiser": "AdamW",
}
"""The stages in their order."""
SHORTEST_FLOOR = 1e-5
"""Seconds; of what takes less at least, gaps say nothing: it is the time of asking for it that is seen."""


def profile_step(
    step: TrainingStep, *, steps: int = 5, warmup: int | None = None, is_fed: bool = False
) -> dict[str, Any]:
    """Say where the time of a training step of ours goes.

    On a GPU the step is a little slower than :func:`~everest.bench.step.bench_step` finds it, because every mark waits
    for the device. Work is counted in a further step: matrix products by the multiply-adds that they have, bytes as
    each operation reads and writes them.

    Args:
        step: From :func:`~everest.bench.tasks.build_step`, neither a peer nor compiled.
        steps: Steps that are timed.
        warmup: Steps before them; None: 1 on the CPU, 5 on a GPU.
        is_fed: Every step takes another batch, which it may read itself: operations are not told apart then.

    Returns:
        Values that JSON can hold: ``stages``, each with ``name``, ``ms`` (median; of waiting for clips, which most
        steps may do without, the mean), ``share``, ``gflop``, ``gbytes``, ``floor_ms`` and ``gap`` (times the floor,
        where that is long enough to say something); their sums as ``total``; ``operations``, the same by what is
        computed (:func:`~everest.bench.operations.time_operations`; on a CPU only, of further steps,
        with clips that are there); ``matrix_rate_gflops`` and ``copy_rate_gbytes`` of the same run, from which floors
        are computed; ``hardware``, and what was asked for.

    Raises:
        ConfigError: No steps are asked for, or the step is not ours.
    """
    if steps < 1:
        raise ConfigError(f"profile at least one step, given: {steps}")
    model = step.model
    if not isinstance(model, MaskedModel | Classifier):
        raise ConfigError(f"only our own model can be taken apart, not {type(model).__name__}: profile without a peer")
    for _ in range(default_warmup(step.device) if warmup is None else warmup):
        step.run()
    rows = [_timed(step, model) for _ in range(steps)]
    rate, speed = matrix_rate_gflops(step.device, step.dtype), copy_rate_gbytes(step.device)
    work = Work(rate * 1e9, speed * 1e9)
    with watched(model, work), work:
        step.run(work)
    names = [name for name in STAGES if any(name in row for row in rows)]
    waited = mean(row.pop(WAITING, 0.0) for row in rows)
    seconds = {name: waited if name == WAITING else median(row.get(name, 0.0) for row in rows) for name in names}
    whole = waited + median(sum(row.values()) for row in rows)
    counted = (work.flop, work.num_bytes, work.floor_seconds)
    for values in counted:
        values.pop(WAITING, None)  # what reading in this process has counted is none of the step's
    is_told = step.device.type == "cpu" and not is_fed
    by_kind = time_operations(step.run, steps, rate * 1e9, speed * 1e9) if is_told else []
    stages = [_row(name, seconds[name], whole, [values.get(name, 0.0) for values in counted]) for name in names]
    return {
        **{"size": step.info.model.size, "task": step.info.task, "selection": step.info.selection.method},
        **{"batch": step.batch, "steps": steps},
        **{"device": step.device.type, "precision": str(step.dtype).removeprefix("torch.")},
        "stages": stages,
        "total": _row("total", whole, whole, [sum(values.values()) for values in counted]),
        "operations": by_kind,
        "matrix_rate_gflops": rate,
        "copy_rate_gbytes": speed,
        "hardware": describe_hardware(step.device),
    }


def profile_with_data(
    manifest: Manifest, info: CheckpointInfo, batch: int, *, device: str, precision: str, num_workers: int, steps: int
) -> dict[str, Any]:
    """Say the same of steps that take their clips from worker processes, as training does, and may wait for them.

    Args:
        manifest: What may be learnt from.
        info: From :func:`~everest.bench.described.describe_task`.
        batch: Clips of a step.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``.
        num_workers: As :func:`~everest.bench.footage.reading` takes it.
        steps: Steps that are timed; several for each worker, as batches come in bursts.

    Returns:
        As :func:`profile_step`, and ``num_workers``.

    Raises:
        ConfigError: Something that cannot be measured.
        DataError: There are no labels for fine-tuning, or too many files cannot be read.
    """
    with reading(manifest, info, batch, device=device, num_workers=num_workers) as batches:
        step = build_step(info, batch, device=device, precision=precision, batches=batches)
        num_workers = resolve_num_workers(num_workers)
        warmup = default_warmup(step.device) + PREFETCH_FACTOR * num_workers  # what had been read before is used up
        return {**profile_step(step, steps=steps, warmup=warmup, is_fed=True), "num_workers": num_workers}


def format_profile(values: dict[str, Any]) -> str:
    """Say the result of :func:`profile_step` to people, as a table."""
    lines = [f"{'':22}{'ms':>10}{'share':>8}{'GFLOP':>10}{'GB':>8}{'floor ms':>10}{'gap':>7}"]
    for row in (*values["stages"], values["total"]):
        gap = "" if row["gap"] is None else f"x{row['gap']:.2f}"
        lines.append(
            f"{row['name']:22}{row['ms']:10.1f}{row['share']:8.1%}{row['gflop']:10.1f}{row['gbytes']:8.2f}"
            f"{row['floor_ms']:10.1f}{gap:>7}"
        )
    lines.append(
        f"{values['size']} {values['task']}, {values['selection']}, batch {values['batch']}, {values['precision']} on "
        f"{values['hardware']['name']}; floors at {values['matrix_rate_gflops']:.0f} GFLOP/s (a large matrix product) "
        f"and {values['copy_rate_gbytes']:.1f} GB/s (a large copy), both in this run"
    )
    if values["operations"]:
        lines += [
            "the same by what is computed, each operation timed by itself:",
            format_operations(values["operations"]),
        ]
    return "\n".join(lines)


def _row(name: str, seconds: float, whole: float, counted: list[float]) -> dict[str, Any]:
    flop, num_bytes, floor = counted
    return {
        "name": name,
        "ms": 1e3 * seconds,
        "share": seconds / whole,
        "gflop": flop / 1e9,
        "gbytes": num_bytes / 1e9,
        "floor_ms": 1e3 * floor,
        "gap": seconds / floor if floor > SHORTEST_FLOOR else None,
    }


def _timed(step: TrainingStep, model: MaskedModel | Classifier) -> dict[str, float]:
    timeline = Timeline(step.device)
    with watched(model, timeline):
        step.run(timeline)
    return dict(timeline.seconds)


@contextmanager
def watched(model: MaskedModel | Classifier, marks: Marks) -> Iterator[None]:
    """Mark the parts of a model, forward and backward, while it runs."""
    last = "decoder" if isinstance(model, MaskedModel) else "head"

    def embedded(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        marks.mark("embedding")
        inputs[0].register_hook(lambda _: marks.mark("encoder, backward"))  # type: ignore[no-untyped-call]

    def encoded(_: nn.Module, __: object, out: Tensor) -> None:
        marks.mark("encoder")
        out.register_hook(lambda _: marks.mark(f"{last}, backward"))  # type: ignore[no-untyped-call]

    handles = [
        model.encoder.blocks[0].register_forward_pre_hook(embedded),
        model.encoder.register_forward_hook(encoded),
        model.register_forward_hook(lambda *_: marks.mark(last)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
