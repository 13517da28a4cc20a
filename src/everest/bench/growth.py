"""How the time of a training step grows with the batch and with the number of frames."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from everest.bench.step import bench_step
from everest.config import ModelSize, SelectionMethod, Task
from everest.errors import ConfigError
from everest.visualize.charts import curves

FRAMES = 16  # of a clip whose batch grows
OnProgress = Callable[[int, int], None]


def bench_growth(
    *,
    size: ModelSize = "base",
    task: Task = "pretrain",
    selection: SelectionMethod = "rero",
    batches: Sequence[int] = (1, 2, 4, 8),
    frames: Sequence[int] = (16, 32, 64),
    device: str = "auto",
    precision: str = "auto",
    steps: int = 3,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Time steps of growing batches at 16 frames, and of growing clips at the smallest batch.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning, with the paper's ratios.
        selection: Which tokens are computed.
        batches: Clips of a step, rising.
        frames: Frames of a clip, rising.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``.
        steps: Steps that are timed for each.
        on_progress: Called with the number of finished and of all measurements.

    Returns:
        Values that JSON can hold: ``by_batch`` and ``by_frames``, each with ``rows`` (``number``, ``tokens`` of the
        whole step, ``seconds_per_step`` and its quartiles, ``step_gflop``) and ``exponents`` (between neighbours, the
        power of the number of tokens with which the time grows; 1 is linear); ``hardware``, and what was asked for.

    Raises:
        ConfigError: Fewer than two numbers, or numbers that do not rise.
    """
    for name, numbers in (("batches", batches), ("frames", frames)):
        if len(numbers) < 2 or any(b <= a for a, b in pairwise(numbers)) or numbers[0] < 1:
            given = ", ".join(map(str, numbers))
            raise ConfigError(f"{name} must be at least two rising numbers, such as 1,2,4, given: {given}")
    common: dict[str, Any] = {"size": size, "task": task, "selection": selection, "device": device}
    common |= {"precision": precision, "steps": steps}
    done: list[dict[str, Any]] = []

    def measure(batch: int, num_frames: int) -> dict[str, Any]:
        done.append(bench_step(**common, batch=batch, num_frames=num_frames))
        if on_progress is not None:
            on_progress(len(done), len(batches) + len(frames))
        return done[-1]

    by_batch = [_row(number, measure(number, FRAMES)) for number in batches]
    by_frames = [_row(number, measure(batches[0], number)) for number in frames]
    return {
        **{name: values for name, values in common.items() if name not in {"device", "precision"}},
        **{name: done[0][name] for name in ("device", "precision")},
        "by_batch": {"rows": by_batch, "exponents": _exponents(by_batch)},
        "by_frames": {"rows": by_frames, "exponents": _exponents(by_frames)},
        "hardware": done[0]["hardware"],
    }


def format_growth(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_growth` to people."""
    lines = [f"{values['size']} {values['task']}, {values['precision']} on {values['hardware']['name']}"]
    for name, title in (("by_batch", "clips"), ("by_frames", "frames")):
        rows, exponents = values[name]["rows"], [None, *values[name]["exponents"]]
        for row, exponent in zip(rows, exponents, strict=True):
            power = "" if exponent is None else f"   tokens^{exponent:.2f}"
            spread = f"({row['seconds_q1']:.3f} to {row['seconds_q3']:.3f})"
            lines.append(
                f"{row['number']:6} {title:7}{row['tokens']:8} tokens{row['seconds_per_step']:9.3f} s {spread}{power}"
            )
    return "\n".join(lines)


def draw_growth(values: dict[str, Any], path: Path) -> None:
    """Draw both curves over the number of tokens, beside straight growth from the first point, as PNG.

    Raises:
        ConfigError: The file cannot be written.
    """
    series = {}
    for name, title in (("by_batch", "more clips"), ("by_frames", "longer clips")):
        rows = values[name]["rows"]
        series[title] = [(row["tokens"], row["seconds_per_step"]) for row in rows]
    points = [point for points in series.values() for point in points]
    (tokens, seconds), most = min(points), max(points)[0]
    series["straight growth"] = [(tokens, seconds), (most, seconds * most / tokens)]
    title = f"One {values['task']} step of ViT-{values['size']}, {values['hardware']['name']}"
    try:
        path.write_bytes(curves(series, title, "tokens of the clips of a step", "seconds"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def _row(number: int, values: dict[str, Any]) -> dict[str, Any]:
    kept = ("seconds_per_step", "seconds_q1", "seconds_q3", "step_gflop")
    return {
        "number": number,
        "tokens": values["tokens"]["total"] * values["batch"],
        **{name: values[name] for name in kept},
    }


def _exponents(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Powers of growth between neighbours."""
    return [
        math.log(b["seconds_per_step"] / a["seconds_per_step"]) / math.log(b["tokens"] / a["tokens"])
        for a, b in pairwise(rows)
    ]
