"""Everything that is worth knowing of a GPU, in one call and a few minutes: steps, peers, profiles, largest batches.

Measurements stand in the order of their worth; what the time does not suffice for is left out and named. Each is
written down as soon as it is there.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from everest.bench.described import describe_task
from everest.bench.foreign import FOREIGN_ERRORS
from everest.bench.hardware import describe_hardware
from everest.bench.peers import contenders
from everest.bench.profile import profile_step
from everest.bench.scores import bench_scores
from everest.bench.step import bench_step
from everest.bench.tasks import build_step
from everest.config import ModelSize, Task
from everest.datasets import load_data
from everest.errors import ConfigError, EverestError, is_out_of_memory
from everest.links import write_new

SIZES: tuple[ModelSize, ...] = ("base", "large", "small")
LARGEST_BATCH = 2**14

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measurement:
    """One thing to find out.

    Attributes:
        name: For people.
        kind: ``step``, ``restart`` (a compiled step in a new process), ``largest``, ``profile`` or ``scores``.
        options: Of the function that measures.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def plan_suite(sizes: Iterable[ModelSize], batch: int, peers: Iterable[str] = ()) -> list[Measurement]:
    """List what is measured, the most important first.

    Args:
        sizes: Model sizes; fine-tuning and peers other than the plain ones are measured for the first only.
        batch: Clips of a step.
        peers: Further peers, as ``MODULE:FUNCTION``, in both tasks of the first size.
    """
    plan: list[Measurement] = []
    tasks: tuple[Task, ...] = ("pretrain", "finetune")
    for place, size in enumerate(sizes):
        for task in tasks[: 1 if place else 2]:
            title, common = f"{size} {task}", {"size": size, "task": task, "batch": batch}
            compared = [who for who in contenders(task, peers) if who.scoring == "auto"][: 5 if place else None]
            ours = {**common, "selection": "rero"}
            plan += [
                Measurement(f"{title}, {who.name}", "step", {**common, "selection": who.selection, "peer": who.peer})
                for who in compared
            ]
            compiled = {**ours, "compile": True}
            plan += [
                Measurement(f"{title}, EVEREST, compiled", "step", compiled),
                Measurement(f"{title}, EVEREST, compiled, second start", "restart", compiled),
                Measurement(f"{title}, EVEREST, exact scores", "step", {**ours, "scoring": "exact"}),
                Measurement(f"{title}, EVEREST, parts", "profile", ours),
                Measurement(f"{title}, EVEREST, largest batch", "largest", ours),
            ]
    return [*plan, Measurement("scores", "scores")]


def bench_suite(
    out: Path,
    *,
    sizes: Iterable[ModelSize] = SIZES,
    batch: int = 32,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 10,
    minutes: float = 7.5,
    peers: Iterable[str] = (),
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measure as much as the time allows.

    Args:
        out: A JSON file, written anew after each measurement.
        sizes: Model sizes, the most important first.
        batch: Clips of a step.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``.
        steps: Timed steps of each measurement.
        minutes: Nothing is begun after this time.
        peers: Further peers, as ``MODULE:FUNCTION``.
        on_progress: Called with the number of finished and of all measurements.

    Returns:
        What the file holds: ``results``, each with ``name``, ``kind`` and ``seconds`` and either ``values`` (as the
        function of the measurement returns them) or ``problem``; ``left_out``, the names of what there was no time for;
        ``hardware``, and what was asked for.

    Raises:
        ConfigError: Numbers that cannot be measured with, or a file that cannot be written.
    """
    if min(batch, steps) < 1 or minutes <= 0:
        raise ConfigError("batch and steps must be at least 1, and there must be some time")
    plan = plan_suite(tuple(sizes), batch, tuple(peers))
    common = {"device": device, "precision": precision}
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    found: dict[str, Any] = {"batch": batch, "steps": steps, "minutes": minutes, "results": [], "left_out": []}
    found["hardware"] = describe_hardware(place)
    started = time.perf_counter()
    for number, measurement in enumerate(plan):
        begun = time.perf_counter()
        if begun - started > 60 * minutes:
            found["left_out"].append(measurement.name)
        else:
            row: dict[str, Any] = {"name": measurement.name, "kind": measurement.kind}
            row |= _measure(measurement, common, steps)
            found["results"].append({**row, "seconds": time.perf_counter() - begun})
            _clean()
        _write(out, found)
        if on_progress is not None:
            on_progress(number + 1, len(plan))
    return found


def format_suite(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_suite` to people."""
    lines = [f"{'':44}{'batch':>6}{'s/step':>9}{'clips/s':>9}{'GB':>7}{'of rate':>9}"]
    for row in values["results"]:
        if "problem" in row:
            lines.append(f"{row['name']:44}  not measured: {row['problem']}")
        elif "clips_per_second" in row["values"]:
            found = row["values"]
            lines.append(
                f"{row['name']:44}{found['batch']:6}{found['seconds_per_step']:9.4f}{found['clips_per_second']:9.1f}"
                f"{found['peak_memory_gb']:7.2f}{found['share_of_matrix_rate']:9.1%}"
            )
    if values["left_out"]:
        lines.append(f"no time was left for: {'; '.join(values['left_out'])}")
    return "\n".join([*lines, values["hardware"]["name"]])


def _measure(measurement: Measurement, common: dict[str, Any], steps: int) -> dict[str, Any]:
    """Do one measurement; what is wrong where it cannot be done."""
    try:
        return {"values": _DO[measurement.kind](measurement.options | common, steps)}
    except FOREIGN_ERRORS as error:  # the others are still to be measured
        if is_out_of_memory(error):
            return {"problem": "the memory does not suffice"}
        kind = "" if isinstance(error, EverestError) else f"{type(error).__name__}: "
        return {"problem": kind + " ".join(str(error).split())}


def _step(options: dict[str, Any], steps: int) -> dict[str, Any]:
    return bench_step(**options, steps=steps)


def _restart(options: dict[str, Any], steps: int) -> dict[str, Any]:
    """The same in a new process, which finds what the one before has compiled."""
    named = {name: value for name, value in options.items() if name != "compile"}
    words = [word for name, value in named.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "everest", "bench", "step", "--json", "--compile", "--steps", str(steps), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def _largest(options: dict[str, Any], steps: int) -> dict[str, Any]:
    """Double the batch until the memory does not suffice; on a CPU that would be the end of the program."""
    if options["device"] == "cpu" or not torch.cuda.is_available():
        raise ConfigError("the largest batch is looked for on a GPU only")
    best: dict[str, Any] | None = None
    for batch in _doubled(options["batch"]):
        try:
            best = bench_step(**(options | {"batch": batch}), steps=steps)
        except RuntimeError as error:
            if best is None or not is_out_of_memory(error):
                raise
            break
        _clean()
    assert best is not None  # noqa: S101 - for the type checker: the first batch has raised or been measured
    return best


def _doubled(batch: int) -> Iterator[int]:
    while batch <= LARGEST_BATCH:
        yield batch
        batch *= 2


def _profile(options: dict[str, Any], steps: int) -> dict[str, Any]:
    info = describe_task(options["size"], options["task"], options["selection"])
    step = build_step(info, options["batch"], device=options["device"], precision=options["precision"])
    return profile_step(step, steps=steps)


def _scores(options: dict[str, Any], _: int) -> dict[str, Any]:
    on_gpu = options["device"] != "cpu" and torch.cuda.is_available()
    return bench_scores(load_data("bundled"), device=torch.device("cuda" if on_gpu else "cpu"))


_DO = {"step": _step, "restart": _restart, "largest": _largest, "profile": _profile, "scores": _scores}


def _clean() -> None:
    """Give memory back before the next measurement."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(out: Path, found: dict[str, Any]) -> None:
    part = out.with_name(f"{out.name}.part")
    try:
        write_new(part, json.dumps(found, indent=2) + "\n")
        part.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from None
