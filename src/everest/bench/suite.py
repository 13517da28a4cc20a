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
from pathlib import Path
from typing import Any

import torch

from everest.bench.described import describe_task
from everest.bench.foreign import FOREIGN_ERRORS
from everest.bench.hardware import describe_hardware
from everest.bench.levers import bench_levers
from everest.bench.profile import profile_step
from everest.bench.scores import bench_scores
from everest.bench.step import bench_step
from everest.bench.suite_plan import FIRST_START, SECOND_START, SIZES, Measurement, plan_suite
from everest.bench.tasks import TrainingStep, build_step
from everest.bench.waits import find_waits
from everest.config import ModelSize
from everest.datasets import load_data
from everest.errors import ConfigError, EverestError, is_out_of_memory
from everest.links import write_new

LARGEST_BATCH = 2**14
PROBED = 2  # steps of a batch that may not be the largest
SECONDS_TO_COMPILE = 45.0  # that must be left for it at the largest batch
MIN_SECONDS = 10.0  # that a process of its own has at least
COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Names to PyTorch, in the environment, the folder of compiled code."""
ENDS_ITSELF = {"apart", "largest"}
"""Kinds of measurement that look at the clock themselves."""

OnProgress = Callable[[int, int], None]


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
    go_on: bool = False,
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
        go_on: Keep what the file has of an earlier call on the same hardware, and measure what it lacks.
        on_progress: Called with the number of finished and of all measurements.

    Returns:
        What the file holds: ``results``, each with ``name``, ``kind`` and ``seconds`` and either ``values`` (as the
        function of the measurement returns them) or ``problem``; ``left_out``, the names of what there was no time for;
        ``hardware``, and what was asked for.

    Raises:
        ConfigError: Numbers that cannot be measured with, a file that cannot be written, or one of other hardware.
    """
    if min(batch, steps) < 1 or minutes <= 0:
        raise ConfigError("batch and steps must be at least 1, and there must be some time")
    plan = plan_suite(tuple(sizes), batch, tuple(peers))
    common = {"device": device, "precision": precision}
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    asked = {**common, "batch": batch, "steps": steps}
    hardware = describe_hardware(place)
    known = _known(out, asked | {"hardware": hardware}) if go_on else {}
    found: dict[str, Any] = {**asked, "minutes": minutes, "results": [], "left_out": [], "hardware": hardware}
    deadline = time.perf_counter() + 60 * minutes
    longest: dict[tuple[object, ...], float] = {}  # seconds of a kind of measurement
    with _nothing_compiled_yet():
        for number, measurement in enumerate(plan):
            begun, kind = time.perf_counter(), _kind_of(measurement)
            if measurement.name in known:
                found["results"].append(known[measurement.name])
            elif begun + longest.get(kind, 0.0) > deadline:
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


def _kind_of(measurement: Measurement) -> tuple[object, ...]:
    """What takes about as long: others compile longer than ours, and say nothing of how long ours take."""
    return (measurement.kind, "compile" in measurement.options, "peer" in measurement.options)


def _compared(asked: dict[str, Any]) -> dict[str, Any]:
    """What two calls must have in common, for their results to stand side by side: also the code and its libraries."""
    environment = asked["hardware"]["environment"]
    same = {name: environment[name] for name in ("packages", "gpus", "cuda", "everest_git")}
    return {name: asked[name] for name in ("device", "precision", "batch", "steps")} | {
        "hardware": asked["hardware"]["name"],
        **same,
    }


def _known(out: Path, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an earlier call has measured, by name; a first start is one more time where its second one is missing.

    Raises:
        ConfigError: The file is none of a suite, or of one that asked for something else or ran elsewhere.
    """
    if not out.exists():
        return {}
    try:
        stored = json.loads(out.read_text(encoding="utf-8"))
        others = [name for name, value in _compared(asked).items() if _compared(stored)[name] != value]
        known = {row["name"]: row for row in stored["results"] if "values" in row}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{out}: cannot go on from it ({error}); give another file") from None
    if others:
        raise ConfigError(f"{out}: cannot go on from it: it has another {', '.join(others)}; give another file")
    for name in [name for name in known if name.endswith(FIRST_START)]:
        if name.removesuffix(FIRST_START) + SECOND_START not in known:
            del known[name]
    return known


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
    try:
        values: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ConfigError("it prints something else than its result") from None
    return values


def _largest(options: dict[str, Any], steps: int, deadline: float) -> dict[str, Any]:
    """Double the batch until memory or time do not suffice, then compile; on a CPU that would end the program.

    While it is doubled, steps are few: of large batches each takes long.

    Once one was measured, whatever another one ends with is only the reason why it is the last, ``ended_by``. The last
    one compiled is ``compiled``, or why it was not measured ``not_compiled``.
    """
    if options["device"] == "cpu" or not torch.cuda.is_available():
        raise ConfigError("the largest batch is looked for on a GPU only")
    best = _last_that_fits(options, deadline)
    if time.perf_counter() + SECONDS_TO_COMPILE > deadline:
        return best | {"not_compiled": "there was no time for it"}
    try:
        return best | {"compiled": bench_step(**(options | {"batch": best["batch"], "compile": True}), steps=steps)}
    except FOREIGN_ERRORS as error:
        return best | {"not_compiled": _say(error)}


def _last_that_fits(options: dict[str, Any], deadline: float) -> dict[str, Any]:
    best: dict[str, Any] | None = None
    for batch in _doubled(options["batch"]):
        begun = time.perf_counter()
        try:
            best = bench_step(**(options | {"batch": batch}), steps=PROBED, warmup=1)
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
