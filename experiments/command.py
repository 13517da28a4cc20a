"""The command line that experiments made of arms have in common."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lists import Bench, contents, digest_of, made_of
from profiles import PROFILES, Settings
from results import Results
from trials import KEYS, Arm, run_all

from everest.errors import ConfigError, EverestError
from everest.links import write_new


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """What all experiments take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare.py has made")
    parser.add_argument("--out", type=Path, required=True, help="a folder for runs and results")
    parser.add_argument("--results", type=Path, help="a folder for results (default: OUT/results)")
    parser.add_argument("--profile", choices=list(PROFILES), default="cpu", help="how large (default: cpu)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="(default: 0 1 2 3 4)")
    parser.add_argument(
        "--tasks", nargs="+", help="in this order (default: all); X-control: of stills; X-few: few labels"
    )
    parser.add_argument("--arms", nargs="+", help="some of those compared (default: all)")
    parser.add_argument("--hows", nargs="+", help='some of what is measured of them: "60 %%" ... (default: all)')
    parser.add_argument("--equal", choices=("steps", "time"), default="steps", help="of pre-training (default: steps)")
    parser.add_argument("--minutes", type=float, help="of pre-training where time is equal (default: VideoMAE's)")
    return parser


def bench_of(given: argparse.Namespace) -> Bench:
    """Where an experiment is made, by what its command line says."""
    chosen = tuple(given.tasks or ())
    if given.minutes is not None and (given.equal != "time" or given.minutes <= 0):
        raise ConfigError(f"--minutes {given.minutes:g}: goes with --equal time, and is more than 0")
    return Bench(given.data, given.out, PROFILES[given.profile], given.equal, given.minutes, chosen, given.results)


def chosen_arms(arms: Sequence[Arm], names: Sequence[str] | None) -> list[Arm]:
    """Take the arms of these names, in their order; None: all.

    Raises:
        ConfigError: There is none of a name.
    """
    known = {arm.name: arm for arm in arms}
    if wrong := set(names or ()) - set(known):
        raise ConfigError(f"no arm {', '.join(sorted(wrong))}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def only(arms: Sequence[Arm], hows: Sequence[str] | None) -> list[Arm]:
    """Leave of arms what is measured in these ways; None: all.

    Raises:
        ConfigError: None of the arms is measured in a way.
    """
    known = list(dict.fromkeys(how for arm in arms for how in arm.hows))
    if wrong := set(hows or ()) - set(known):
        raise ConfigError(f"no way {', '.join(sorted(wrong))} to measure these arms; there are {', '.join(known)}")
    wanted = set(hows or known)
    return [
        replace(
            arm,
            tunings={how: tuning for how, tuning in arm.tunings.items() if how in wanted},
            probed=tuple(how for how in arm.probed if how in wanted),
        )
        for arm in arms
    ]


def run_from(
    given: argparse.Namespace,
    letter: str,
    arms: Sequence[Arm],
    *,
    reference: Settings | None = None,
    once: tuple[str, Callable[[Bench], object]] | None = None,
    once_of: Sequence[Path] = (),
) -> int:
    """Run an experiment that is made of arms from the command line.

    Args:
        given: What the command line says.
        letter: Of the experiment.
        arms: What is compared.
        reference: Pre-training whose time all others are given where time is equal.
        once: What is measured beside the arms, with encoders of seed 0, and what the file is called: where all arms
            are asked for, as it may need the encoders of all. It is measured anew where data or profile are others
            than those it was made of.
        once_of: Further lists of clips that it is made of.

    Returns:
        The exit code.
    """
    try:
        bench = bench_of(given)
        results = Results(bench.results / f"{letter}.jsonl", KEYS)
        run_all(bench, only(chosen_arms(arms, given.arms), given.hows), results, given.seeds, reference=reference)
        if once is not None and 0 in given.seeds and given.arms is None:  # other processes may do other seeds and arms
            _measure_once(bench, *once, once_of)
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(results)} results: {results.path}")
    return 0


def _measure_once(bench: Bench, name: str, measured: Callable[[Bench], object], more: Sequence[Path]) -> None:
    bench = replace(bench, chosen=())  # all tasks that there are
    kept = bench.results / f"{name}-{bench.profile.name}.json"
    how_long = () if bench.equal == "steps" else (bench.equal, bench.minutes)
    origin = digest_of([made_of(bench, task) for task in bench.tasks()], *map(contents, more), *how_long)
    before = json.loads(kept.read_text()) if kept.exists() else {}
    if not isinstance(before, dict) or before.get("made_of") != origin:
        write_new(kept, json.dumps({"made_of": origin, "found": measured(bench)}, indent=1))
