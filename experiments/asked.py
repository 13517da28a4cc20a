"""All that the experiments ask, in one table: p among all of it, and what is left without scenes seen in training.

And what was trained twice, on two machines: how far the same training comes out from itself.

The split of ``fights`` came with that data, by groups of scenes. Looked at again, some cameras of its test clips film
training clips too (``footage/fights-seen.csv``; found by comparing the median pictures of all clips across the border,
at 24 x 18 pixels, and looking at the pairs that were alike). Their clips stay in the other tables.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from found import Experiment, values_of
from lists import FEW
from questions import QUESTIONS, Pair, asked_of
from report_files import table
from results import holm, over_seeds, paired_over_clips, paired_over_seeds
from time_tasks import scene_name

SEEN = Path(__file__).parent / "footage" / "fights-seen.csv"


def seen_scenes() -> set[str]:
    """Name the scenes of test clips that training clips show too, as results name them."""
    with SEEN.open(newline="") as file:
        return {scene_name("fights", row["test_group"]) for row in csv.DictReader(file)}


def unseen(groups: Sequence[str]) -> list[int]:
    """Give the places of test clips whose scene no training clip shows."""
    seen = seen_scenes()
    return [place for place, group in enumerate(groups) if group not in seen]


def asked_pairs(experiment: Experiment, letter: str) -> list[tuple[Pair, str]]:
    """List what a letter asks of the tasks that there are, pair by pair, where there are results of it."""
    tasks = [task for task in experiment.tasks if task.endswith(FEW)] if "few" in letter else experiment.compared
    pairs = [(pair, task) for pair in QUESTIONS.get(letter, ()) for task in asked_of(tasks) if tasks]
    return [(pair, task) for pair, task in pairs if experiment.difference(task, *pair) is not None]


def without_seen(experiment: Experiment, task: str, one: tuple[str, str], other: tuple[str, str]) -> str:
    """Compare two arms on the test clips whose scene no training clip shows; nothing where there are no others."""
    marked = [experiment.marked.get((task, *each), {}) for each in (one, other)]
    groups = experiment.groups.get(task, ())
    places = unseen(groups)
    shared = sorted(marked[0].keys() & marked[1].keys())
    if len(places) == len(groups) or not shared:
        return ""
    ours, others = ([sum(m[seed][place] for place in places) / len(places) for seed in shared] for m in marked)
    return str(paired_over_seeds(ours, others)[0] if len(shared) > 1 else over_seeds([ours[0] - others[0]]))


def all_asked(experiments: Mapping[str, Experiment]) -> list[str]:
    """Write a row for everything that is asked, with its p of an experiment's own and of all that is tested.

    Args:
        experiments: Letter of a set of questions -> its results.
    """
    rows, own, raw = [], [], []
    for letter, experiment in experiments.items():
        found = asked_pairs(experiment, letter)
        known = [(pair, task, its) for pair, task in found if (its := experiment.difference(task, *pair))]
        adjusted = iter(holm([its.p for *_, its in known if its.p is not None]))
        for pair, task, its in known:
            names = [", ".join(each) for each in pair]
            own.append(None if its.p is None else next(adjusted))
            raw.append(its.p)
            apart = without_seen(experiment, task, *pair)
            rows.append([letter, task, *names, its.text, its.videos, its.both, apart])
    over_all = iter(holm([p for p in raw if p is not None]))
    cells = [["", ""] if p is None else [_p(p), _p(next(over_all))] for p in own]
    titles = ["", "task", "this", "less that", "points", "over videos", "over both", "scenes seen nowhere"]
    titles += ["p, among its own", "p, among all"]
    return [*table(titles, [row + each for row, each in zip(rows, cells, strict=True)]), ""] if rows else []


def beside_numbers(experiment: Experiment) -> list[str]:
    """Compare networks with 28 numbers of frame differences, clip by clip: mean over seeds, interval over scenes."""
    simple = ("frame differences", "frozen, linear")
    rows = []
    for arm, measure in ((arm, m) for arm in ("everest", "random", "none") for m in ("60 %", "frozen, linear")):
        cells = []
        for task in asked_of(experiment.compared):
            ours, numbers = (experiment.marked.get((task, *each)) for each in ((arm, measure), simple))
            if ours and numbers and task in experiment.groups:
                shares = [[mean(clip) for clip in zip(*each.values(), strict=True)] for each in (ours, numbers)]
                cells.append(str(paired_over_clips(shares[0], shares[1], experiment.groups[task])))
            else:
                cells.append("")
        if any(cells):
            rows.append([arm, measure, *cells])
    return [*table(["", "measure", *asked_of(experiment.compared)], rows), ""] if rows else []


def made_twice(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Set the same trainings beside each other, of one seed and one list of settings, on two machines."""
    found: dict[tuple[str, str], dict[tuple[object, ...], dict[str, float]]] = {}
    for row in rows:
        trained = (row["made_of"], row["settings"], row["seed"], row["profile"], row["equal"])
        for measure, value in values_of(row) if row.get("hardware") else ():
            each = found.setdefault((row["task"], measure.replace(" %", "%")), {}).setdefault(trained, {})
            each.setdefault(row["hardware"], value)
    lines = []
    for (task, measure), trainings in found.items():
        pairs = [list(each.values()) for each in trainings.values() if len(each) == 2]
        if pairs:
            apart = [100 * abs(one - other) for one, other in pairs]
            means = [f"{100 * mean(values):.1f}" for values in zip(*pairs, strict=True)]
            lines.append([task, measure, str(len(pairs)), *means, f"{mean(apart):.1f}", f"{max(apart):.1f}"])
    titles = ["task", "measure", "trainings", "first, mean", "again, mean", "points apart, mean", "most"]
    return [*table(titles, sorted(lines)), ""] if lines else []


def _p(value: float) -> str:
    return f"{max(value, 0.001):.3f}"
