"""Everything that is worth knowing of a GPU, in one call and a few minutes: steps, peers, profiles, largest batches.

Measurements stand in the order of their worth; what the time does not suffice for is left out and named. Each is
written down as soon as it is there.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from everest.bench.described import describe_task
from everest.bench.foreign import FOREIGN_ERRORS, TRANSFORMERS
from everest.bench.hardware import describe_hardware
from everest.bench.levers import bench_levers
from everest.bench.peers import contenders
from everest.bench.profile import profile_step
from everest.bench.scores import bench_scores
from everest.bench.step import bench_step
from everest.bench.tasks import TrainingStep, build_step
from everest.bench.waits import find_waits
from everest.config import VARYING, ModelSize, Task
from everest.datasets import load_data
from everest.errors import ConfigError, EverestError, is_out_of_memory
from everest.links import write_new

SIZES: tuple[ModelSize, ...] = ("base", "large", "small")
LARGEST_BATCH = 2**14
SECONDS_TO_COMPILE = 45.0  # that must be left for it at the largest batch
MIN_SECONDS = 10.0  # that a process of its own has at least
TASKS: tuple[Task, ...] = ("pretrain", "finetune")
OURS = "EVEREST"
COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Names to PyTorch, in the environment, the folder of compiled code."""
ENDS_ITSELF = {"apart", "largest"}
"""Kinds of measurement that look at the clock themselves."""
COMPARED = (OURS, "EVEREST, plain peer", "VideoMAE, plain peer", "VideoMAE, our path")

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measurement:
    """One thing to find out.

    Attributes:
        name: For people.
        kind: ``step``, ``apart`` (a step in a new process), ``footage`` (a step on bundled clips), ``largest``,
            ``profile``, ``waits``, ``levers`` or ``scores``.
        options: Of the function that measures.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def plan_suite(sizes: Iterable[ModelSize], batch: int, peers: Iterable[str] = ()) -> list[Measurement]:
    """List what is measured, the most important first.

    First what the comparison with VideoMAE and further peers needs in pre-training, what a second start finds compiled
    and how large batches can be: of the first size, then without further peers of all; then the comparison of
    fine-tuning and real clips, of the first size; then where the time of a step goes.

    Args:
        sizes: Model sizes.
        batch: Clips of a step.
        peers: Further peers, as ``MODULE:FUNCTION``, in both tasks of the first size.
    """
    sizes = tuple(sizes)
    plan: list[Measurement] = []
    for size in sizes:
        plan += _compared(size, "pretrain", batch)
        if size == sizes[0]:
            plan += _others(size, "pretrain", batch, peers)
        ours = _contenders(size, "pretrain", batch)[OURS]
        plan += [
            Measurement(f"{ours.name}, compiled, second start", "apart", {**ours.options, "compile": True}),
            Measurement(f"{ours.name}, largest batch", "largest", ours.options),
        ]
    for size in sizes[:1]:
        plan += [*_compared(size, "finetune", batch), *_others(size, "finetune", batch, peers)]
        plan += [each for task in TASKS for each in _on_footage(size, task, batch)]
    for size in sizes:
        ours = _contenders(size, "pretrain", batch)[OURS]
        plan += [
            Measurement(f"{ours.name}, parts", "profile", ours.options),
            Measurement(f"{ours.name}, exact scores", "step", {**ours.options, "scoring": "exact"}),
        ]
    for size in sizes[:1]:
        ours = _contenders(size, "finetune", batch)[OURS]
        plan.append(Measurement(f"{ours.name}, parts", "profile", ours.options))
        both = (_contenders(size, "pretrain", batch)[OURS], ours)
        plan += [Measurement(f"{each.name}, where it waits", "waits", each.options) for each in both]
        given = {name: value for name, value in ours.options.items() if name != "selection"}
        plan += [Measurement(f"{size} {task}, levers", "levers", given | {"task": task}) for task in TASKS]
    return [*plan, Measurement("scores", "scores")]


def _contenders(size: ModelSize, task: Task, batch: int, peers: Iterable[str] = ()) -> dict[str, Measurement]:
    """One step of each of those that are compared, by name; what somebody else wrote runs in a process of its own."""
    found = {}
    for who in contenders(task, peers):
        if who.scoring == "auto":
            options: dict[str, Any] = {"size": size, "task": task, "batch": batch, "selection": who.selection}
            options |= {} if who.peer is None else {"peer": who.peer}
            kind = "apart" if who.peer is not None and ":" in who.peer else "step"
            found[who.name] = Measurement(f"{size} {task}, {who.name}", kind, options)
    return found


def _compared(size: ModelSize, task: Task, batch: int) -> Iterator[Measurement]:
    """EVEREST and VideoMAE, each as it is, compiled and replayed, and the plain peers of both."""
    found = _contenders(size, task, batch)
    for name in COMPARED:
        ours = found[name]
        yield ours
        if "peer" not in ours.options:
            yield Measurement(f"{ours.name}, compiled", "step", {**ours.options, "compile": True})
            # Apart, as what fails while it is recorded may take the others with it.
            both = {**ours.options, "compile": True, "cuda_graphs": True}
            yield Measurement(f"{ours.name}, compiled, replayed", "apart", both)
            if name == OURS:
                yield Measurement(f"{ours.name}, replayed", "apart", {**ours.options, "cuda_graphs": True})


def _others(size: ModelSize, task: Task, batch: int, peers: Iterable[str]) -> list[Measurement]:
    """What else there is to compare with."""
    others = []
    for name, each in _contenders(size, task, batch, peers).items():
        if name not in COMPARED:
            others.append(each)
        if each.options.get("peer") == TRANSFORMERS:
            others.append(Measurement(f"{each.name}, compiled", "step", {**each.options, "compile": True}))
    return others


def _on_footage(size: ModelSize, task: Task, batch: int) -> Iterator[Measurement]:
    """EVEREST on real clips, and what keeps as many tokens as a clip asks for."""
    for who in contenders(task, footage=True):
        if who.selection in {*VARYING, "rero"} and who.peer is None and who.scoring == "auto":
            options = {"size": size, "task": task, "batch": batch, "selection": who.selection}
            yield Measurement(f"{size} {task}, {who.name}, real clips", "footage", options)


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
        minutes: Nothing is begun after this time, nor what has taken longer of its kind than what is left of it; what
            runs in a process of its own is ended.
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
    deadline = time.perf_counter() + 60 * minutes
    longest: dict[tuple[str, bool], float] = {}  # seconds of a kind of measurement
    with _nothing_compiled_yet():
        for number, measurement in enumerate(plan):
            begun, kind = time.perf_counter(), (measurement.kind, "compile" in measurement.options)
            if begun + longest.get(kind, 0.0) > deadline:
                found["left_out"].append(measurement.name)
            else:
                row: dict[str, Any] = {"name": measurement.name, "kind": measurement.kind}
                row |= _measure(measurement, common, steps, deadline)
                seconds = time.perf_counter() - begun
                found["results"].append({**row, "seconds": seconds})
                if measurement.kind not in ENDS_ITSELF:
                    longest[kind] = max(seconds, longest.get(kind, 0.0))
                _clean()
            _write(out, found)
            if on_progress is not None:
                on_progress(number + 1, len(plan))
    return found


@contextmanager
def _nothing_compiled_yet() -> Iterator[None]:
    """Compile as the first start on a machine does; what a second start finds is that of this call."""
    before = os.environ.get(COMPILED)
    with tempfile.TemporaryDirectory(prefix="everest-compiled-", ignore_cleanup_errors=True) as folder:
        os.environ[COMPILED] = folder
        try:
            yield
        finally:
            os.environ.pop(COMPILED) if before is None else os.environ.update({COMPILED: before})


def _measure(measurement: Measurement, common: dict[str, Any], steps: int, deadline: float) -> dict[str, Any]:
    """Do one measurement; what is wrong where it cannot be done.

    Args:
        measurement: What to find out.
        common: Further options.
        steps: To be timed.
        deadline: On the clock of ``time.perf_counter``: nothing is begun after it.
    """
    try:
        return {"values": _DO[measurement.kind](measurement.options | common, steps, deadline)}
    except FOREIGN_ERRORS as error:  # the others are still to be measured
        return {"problem": _say(error)}


def _say(error: BaseException) -> str:
    if is_out_of_memory(error):
        return "the memory does not suffice"
    kind = "" if isinstance(error, EverestError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def _step(options: dict[str, Any], steps: int, _: float) -> dict[str, Any]:
    return bench_step(**options, steps=steps)


def _footage(options: dict[str, Any], steps: int, _: float) -> dict[str, Any]:
    return bench_step(**options, manifest=load_data("bundled"), steps=steps)


def _apart(options: dict[str, Any], steps: int, deadline: float) -> dict[str, Any]:
    """The same in a new process: it finds what one before has compiled, and what others do there disturbs nothing."""
    words = []
    for name, value in options.items():
        if value is not False:  # of what is turned on by its name, off is the default
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    command = [sys.executable, "-m", "everest", "bench", "step", "--json", "--steps", str(steps), *words]
    seconds = max(MIN_SECONDS, deadline - time.perf_counter())
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"it was not done in the {seconds:.0f} s that were left") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ConfigError(last.removeprefix("error: "))
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def _largest(options: dict[str, Any], steps: int, deadline: float) -> dict[str, Any]:
    """Double the batch until memory or time do not suffice, then compile; on a CPU that would end the program.

    Once one was measured, whatever another one ends with is only the reason why it is the last, ``ended_by``. The last
    one compiled is ``compiled``, or why it was not measured ``not_compiled``.
    """
    if options["device"] == "cpu" or not torch.cuda.is_available():
        raise ConfigError("the largest batch is looked for on a GPU only")
    best = _last_that_fits(options, steps, deadline)
    if time.perf_counter() + SECONDS_TO_COMPILE > deadline:
        return best | {"not_compiled": "there was no time for it"}
    try:
        return best | {"compiled": bench_step(**(options | {"batch": best["batch"], "compile": True}), steps=steps)}
    except FOREIGN_ERRORS as error:
        return best | {"not_compiled": _say(error)}


def _last_that_fits(options: dict[str, Any], steps: int, deadline: float) -> dict[str, Any]:
    best: dict[str, Any] | None = None
    for batch in _doubled(options["batch"]):
        begun = time.perf_counter()
        try:
            best = bench_step(**(options | {"batch": batch}), steps=steps)
        except FOREIGN_ERRORS as error:
            if best is None:
                raise
            return best | {"ended_by": _say(error)}
        finally:
            _clean()
        if time.perf_counter() + 2 * (time.perf_counter() - begun) > deadline:
            return best | {"ended_by": "there was no time for a larger one"}
    assert best is not None  # noqa: S101 - for the type checker: the first batch has raised or been measured
    return best | {"ended_by": f"no more than {LARGEST_BATCH} clips are tried"}


def _doubled(batch: int) -> Iterator[int]:
    while batch <= LARGEST_BATCH:
        yield batch
        batch *= 2


def _profile(options: dict[str, Any], steps: int, _: float) -> dict[str, Any]:
    return profile_step(_build(options), steps=steps)


def _waits(options: dict[str, Any], _: int, __: float) -> dict[str, Any]:
    return {"waits": find_waits(_build(options))}


def _levers(options: dict[str, Any], steps: int, _: float) -> dict[str, Any]:
    return bench_levers(**options, rounds=steps)


def _build(options: dict[str, Any]) -> TrainingStep:
    info = describe_task(options["size"], options["task"], options["selection"])
    return build_step(info, options["batch"], device=options["device"], precision=options["precision"])


def _scores(options: dict[str, Any], _: int, __: float) -> dict[str, Any]:
    on_gpu = options["device"] != "cpu" and torch.cuda.is_available()
    return bench_scores(load_data("bundled"), device=torch.device("cuda" if on_gpu else "cpu"))


_DO = {
    **{"step": _step, "apart": _apart, "footage": _footage, "largest": _largest, "profile": _profile, "waits": _waits},
    **{"levers": _levers, "scores": _scores},
}


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
