"""EVEREST beside its peers: every one in a process of its own, in alternating rounds, on the same machine."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from everest.bench.described import PLAIN
from everest.bench.foreign import TRANSFORMERS
from everest.config import ModelSize, Scoring, SelectionMethod, Task
from everest.errors import ConfigError
from everest.evaluation.devices import choose_device

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        name: For people.
        selection: Which tokens it computes.
        peer: None for our own path; else what ``everest bench step --peer`` takes.
        scoring: How it finds the tokens that change.
        options: What else ``everest bench step`` is told.
    """

    name: str
    selection: SelectionMethod
    peer: str | None = None
    scoring: Scoring = "auto"
    options: tuple[str, ...] = ()


def contenders(
    task: Task, others: Iterable[str] = (), *, footage: bool = False, compiled: bool = False
) -> list[Contender]:
    """List who is compared, EVEREST first.

    Args:
        task: VideoMAE masks tubes in pre-training and keeps every token in fine-tuning.
        others: Further peers, as ``MODULE:FUNCTION``.
        footage: Real clips are measured on; then there are selections that keep as many tokens as a clip asks for.
        compiled: List EVEREST and transformers' VideoMAE compiled as well, which is how they are best on a GPU.
    """
    varying = (Contender("EVEREST, adaptive", "adaptive"), Contender("run-length selection (RLT)", "rlt"))
    everything: SelectionMethod = "tube" if task == "pretrain" else "all"
    at_best = [
        Contender("EVEREST, compiled", "rero", options=("--compile",)),
        Contender("VideoMAE, transformers, compiled", everything, TRANSFORMERS, options=("--compile",)),
    ]
    return [
        Contender("EVEREST", "rero"),
        Contender("EVEREST, bfloat16 scores", "rero", scoring="bfloat16"),
        Contender("random at equal count", "random_equal"),
        *(varying if footage else ()),
        Contender("VideoMAE, our path", everything),
        Contender("EVEREST, plain peer", "rero", PLAIN),
        Contender("VideoMAE, plain peer", everything, PLAIN),
        Contender("VideoMAE, transformers", everything, TRANSFORMERS),
        *(at_best if compiled else ()),
        *(Contender(other, "rero", other) for other in others),
    ]


def bench_peers(
    *,
    size: ModelSize = "base",
    task: Task = "pretrain",
    batch: int = 4,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 3,
    rounds: int = 2,
    others: Iterable[str] = (),
    data: str | None = None,
    equal_terms: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Time a training step of EVEREST and of its peers.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning, with the paper's ratios.
        batch: Clips of a step.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``.
        steps: Timed steps of a round, after the warm-up.
        rounds: Each starts every contender once, in a new process.
        others: Further peers, as ``MODULE:FUNCTION``; see :func:`~everest.bench.foreign.load_foreign`.
        data: Where clips are taken from, as a path; None: made-up clips.
        equal_terms: Let the processes of peers keep freed memory and compute linear layers by the same library, as
            ours does, instead of measuring them as they come.
        on_progress: Called with the number of finished and of all processes.

    Returns:
        Values that JSON can hold: ``rows``, each with ``name``, ``seconds_per_step`` (median over all rounds; on a GPU
        of steps in a row, one figure of each round) with quartiles, ``clips_per_second``, ``peak_memory_gb`` (largest
        of the rounds), ``activations_gb``, ``gmacs`` of a clip, ``gflop`` of a step, ``share_of_matrix_rate`` and
        ``matrix_rate_gflops`` (medians; ``gflop`` and its share are None where they cannot be counted), ``tokens`` and
        ``times_everest`` (its seconds over those of EVEREST), or with ``problem`` where it could not be measured;
        ``hardware``; and what was asked for.

    Raises:
        ConfigError: EVEREST itself cannot be measured so.
    """
    if min(batch, steps, rounds) < 1:
        raise ConfigError("batch, steps and rounds must be at least 1")
    who = contenders(task, others, footage=data is not None, compiled=choose_device(device).type != "cpu")
    common = ["--size", size, "--task", task, "--batch", str(batch), "--device", device, "--precision", precision]
    common += [] if data is None else ["--data", data]
    common += ["--equal-terms"] if equal_terms else []
    rows, found = measure_in_rounds(who, [*common, "--steps", str(steps)], batch, rounds, on_progress)
    return {
        **{"size": size, "task": task, "batch": batch, "steps": steps, "rounds": rounds, "data": data},
        "equal_terms": equal_terms,
        **{"device": found["device"], "precision": found["precision"]},
        "rows": rows,
        "hardware": found["hardware"],
    }


def measure_in_rounds(
    who: list[Contender], options: list[str], batch: int, rounds: int, on_progress: OnProgress | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time everybody in turn, each time in a new process.

    Args:
        who: The first one is what the others are compared with.
        options: What ``everest bench step`` is told of all of them.
        batch: Clips of a step.
        rounds: Each starts everybody once.
        on_progress: Called with the number of finished and of all processes.

    Returns:
        Rows as :func:`bench_peers` describes them, and the first measurement of the first one.

    Raises:
        ConfigError: The first one cannot be measured.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in who]
    problems: dict[int, str] = {}
    for number in range(rounds):
        for index, contender in enumerate(who):
            if index not in problems:
                values = _measure(contender, options)
                if isinstance(values, str):
                    problems[index] = values
                else:
                    found[index].append(values)
            if 0 in problems:
                raise ConfigError(problems[0])
            if on_progress is not None:
                on_progress(number * len(who) + index + 1, rounds * len(who))
    base = median(_seconds(found[0]))
    rows = [
        {"name": contender.name, "problem": problems[index]}
        if index in problems
        else _row(contender, found[index], batch, base)
        for index, contender in enumerate(who)
    ]
    return rows, found[0][0]


def format_peers(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_peers` to people, as a table."""
    lines = [f"{'':26}{'s/step':>9}{'quartiles':>17}{'clips/s':>9}{'GB':>7}{'GFLOP':>8}{'of rate':>9}{'EVEREST':>9}"]
    for row in values["rows"]:
        if "problem" in row:
            lines.append(f"{row['name']:26}  not measured: {row['problem']}")
            continue
        times = f"x{row['times_everest']:.2f}"
        spread = f"{row['seconds_q1']:.3f} to {row['seconds_q3']:.3f}"
        lines.append(
            f"{row['name']:26}{row['seconds_per_step']:9.3f}{spread:>17}{row['clips_per_second']:9.2f}"
            f"{row['peak_memory_gb']:7.2f}"
            + (f"{'':17}" if row["gflop"] is None else f"{row['gflop']:8.0f}{row['share_of_matrix_rate']:9.0%}")
            + f"{times:>9}"
        )
    rates = [row["matrix_rate_gflops"] for row in values["rows"] if "problem" not in row]
    lines.append(
        f"{values['size']} {values['task']}, batch {values['batch']}, {values['precision']} on "
        f"{values['hardware']['name']}; {values['rounds']} rounds of {values['steps']} steps; the last column is the "
        "time of a step over that of EVEREST\nlarge matrix products beside them ran at "
        f"{min(rates):.0f} to {max(rates):.0f} GFLOP/s: where these differ much, something else was running"
        + ("\nall kept freed memory and had linear layers by the same library" if values["equal_terms"] else "")
    )
    return "\n".join(lines)


def _measure(contender: Contender, options: list[str]) -> dict[str, Any] | str:
    """Run one contender in a new process; what is wrong, where it cannot be."""
    command = [sys.executable, "-m", "everest", "bench", "step", "--json", "--selection", contender.selection, *options]
    command += ["--scoring", contender.scoring, *contender.options]
    if contender.peer is not None:
        command += ["--peer", contender.peer]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1].removeprefix("error: ")
    try:
        values: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return "it prints something else than its result"
    return values


def _seconds(results: list[dict[str, Any]]) -> list[float]:
    """Of steps as training makes them: on a GPU those in a row, one figure of each round."""
    in_a_row = [values["seconds_in_a_row"] for values in results if values.get("seconds_in_a_row") is not None]
    return in_a_row or [seconds for values in results for seconds in values["seconds"]]


def _row(contender: Contender, results: list[dict[str, Any]], batch: int, base: float) -> dict[str, Any]:
    seconds = _seconds(results)
    middle = median(seconds)
    first, _, third = quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (middle,) * 3
    return {
        "name": contender.name,
        "seconds_per_step": middle,
        "seconds_q1": first,
        "seconds_q3": third,
        "clips_per_second": batch / middle,
        "peak_memory_gb": max(values["peak_memory_gb"] for values in results),
        "activations_gb": results[0]["activations_gb"],
        "gmacs": results[0]["gmacs"],
        "gflop": results[0]["step_gflop"],
        "share_of_matrix_rate": None
        if results[0]["step_gflop"] is None
        else median(values["share_of_matrix_rate"] for values in results),
        "matrix_rate_gflops": median(values["matrix_rate_gflops"] for values in results),
        "tokens": results[0]["tokens"],
        "times_everest": middle / base,
    }
