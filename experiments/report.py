"""Tables and plots of what was found, into a page.

    python experiments/report.py experiments/results --page docs/results.md

What stands in the page between ``<!-- table: NAME -->`` and ``<!-- end -->`` is written anew; everything else is left
alone. A page that is not there yet is begun with all tables. Plots go into the folder ``images`` beside it.

Accuracies are means over seeds with Student's 95 % interval; one seed has none, and numbers of seeds in between stand
in brackets. Differences are taken seed by seed, with the number of seeds in which the first was better; the interval
over videos, a bootstrap, says how far another choice of test videos could come out, and that over both, rather too
wide, how far another start and another choice together could. Only what was written down before
(``questions.py``) is tested: p is of a paired t test over seeds or over seeds and videos together, the larger, adjusted
for all that an experiment asks (Holm), and in a table of its own for all that all of them ask. Accuracies of runs some
of which have learnt nothing are two heaps and no bell, for which neither Student nor t are made: such runs are counted,
and p is no less than that of changing signs.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median

from asked import all_asked, beside_numbers, made_twice
from costs import gmacs_of
from found import PRETRAINING, SIMPLE, Experiment, is_frozen
from lists import FEW, whole_of
from plots import draw, ratio_of
from questions import QUESTIONS, Pair, asked_of
from report_files import of_files, table
from results import Results, holm
from trials import KEYS

from everest.errors import DataError, EverestError
from everest.links import write_new

ALL = "100%"  # of the tokens, in b


def accuracies(experiment: Experiment) -> list[str]:
    """All accuracies: a table for each task, arms by measures."""
    lines = []
    for task in (task for task in experiment.tasks if not task.endswith(FEW)):
        chance = f"always the most frequent class: {100 * experiment.majority[task]:.1f} %"
        lines += [f"**{task}** ({chance}; seeds: {experiment.seeds()})", ""]
        for frozen in (False, True):
            measures = [m for m in experiment.measures() if is_frozen(m) == frozen]
            rows = [[arm, *(experiment.accuracy(task, arm, m) for m in measures)] for arm in experiment.arms()]
            if rows := [row for row in rows if any(row[1:])]:
                lines += [*table(["", *measures], rows), ""]
    return lines


def compared(
    experiment: Experiment, pairs: Sequence[Pair], letter: str = "", tasks: Sequence[str] | None = None
) -> list[str]:
    """Compare pairs of arm and measure, a row for each pair and a column for each task; with p where that is asked."""
    tasks = experiment.compared if tasks is None else tasks
    adjusted = tested(experiment, letter, tasks)
    rows = []
    for pair in pairs:
        cells = []
        for task in tasks:
            found = experiment.difference(task, *pair)
            if found is None:
                cells.append("")
                continue
            p = f", p {max(adjusted[pair, task], 0.001):.3f}" if (pair, task) in adjusted else ""
            both = f"; both {found.both}" if found.both else ""
            cells.append(found.text + p + (f"; videos {found.videos}" if found.videos else "") + both)
        if any(cells):
            rows.append([*_names(*pair), *cells])
    return [*table(["measure", "this", "less that", *tasks], rows), ""] if rows else ["No seed has both.", ""]


def tested(experiment: Experiment, letter: str, tasks: Sequence[str]) -> dict[tuple[Pair, str], float]:
    """Give the adjusted p of all that an experiment asks of some tasks, by pair and task."""
    found = {}
    for pair in QUESTIONS.get(letter, ()):
        for task in asked_of(tasks):
            difference = experiment.difference(task, *pair)
            if difference is not None and difference.p is not None:
                found[pair, task] = difference.p
    return dict(zip(found, holm(list(found.values())), strict=True))


def stuck(experiment: Experiment) -> list[str]:
    """List the classifiers that name all classes alike: by their loss, and by what they say of test clips."""
    rows = []
    for (task, arm, how), ends in experiment.ends.items():
        if num := experiment.num_stuck(task, arm, how):
            rows.append([task, arm, how, f"{num} of {len(ends)}"])
    return [*table(["task", "", "fine-tuned", "learnt nothing"], rows), ""] if rows else ["All have learnt.", ""]


def by_source(experiment: Experiment, letter: str) -> list[str]:
    """Accuracy of each kind of footage apart, of tasks that are made of several, in what the experiment asks about."""
    asked = {measure for pair in QUESTIONS[letter] for _, measure in pair}
    lines = []
    for task in experiment.tasks:
        sources = [group.partition("/")[0] for group in experiment.groups.get(task, ())]
        names = sorted(set(sources))
        rows = []
        for (its_task, arm, how), marked in experiment.marked.items():
            if its_task == task and how in asked and len(names) > 1:
                cells = []
                for name in names:
                    places = [place for place, source in enumerate(sources) if source == name]
                    shares = [sum(right[place] for place in places) / len(places) for right in marked.values()]
                    cells.append(f"{100 * mean(shares):.1f}")
                rows.append([arm, how, *cells])
        if rows:
            titles = ["", "fine-tuned", *(f"{name} ({sources.count(name)})" for name in names)]
            lines += [f"**{task}**", "", *table(titles, rows), ""]
    return lines


def _names(one: tuple[str, str], other: tuple[str, str]) -> tuple[str, str, str]:
    """What is compared, without what both have in common."""
    if one[1] == other[1]:
        return one[1], one[0], other[0]
    if one[0] == other[0]:
        return one[0], one[1], other[1]
    return "both", ", ".join(one), ", ".join(other)


def against(experiment: Experiment, ours: str, letter: str) -> list[str]:
    """Compare an arm with all others: fine-tuned, and of frozen features, linear and by 20 neighbours."""
    others = [arm for arm in experiment.arms() if arm not in {ours, *SIMPLE}]
    endings = (", linear", ", 20 nearest neighbours")
    measures = [m for m in experiment.measures() if not is_frozen(m) or m.endswith(endings)]
    return compared(experiment, [((ours, m), (arm, m)) for m in measures for arm in others], letter)


def of_choice() -> list[Pair]:
    """What a asks of fine-tuning: changing tokens against random ones and all, and EVEREST against other ways whole."""
    pairs = [((arm, "60 %"), (arm, other)) for arm in ("none", "everest") for other in ("60 % at random", "all tokens")]
    pairs += [(("everest", "60 %"), ("random", "60 % at random")), (("everest", "60 %"), ("videomae", "all tokens"))]
    return [*pairs, (("everest", "60 %"), ("none", "60 %, as long as both"))]


def above_drawn(experiment: Experiment) -> list[Pair]:
    """What pre-training has put into frozen features: those of each arm against those of weights as drawn."""
    arms = [arm for arm in experiment.arms() if arm not in {"none", *SIMPLE}]
    return [((arm, how), ("none", how)) for how in ("frozen, linear", "frozen, 60 %, linear") for arm in arms]


def crossed() -> list[Pair]:
    """What e's crossed trials ask: the same fine-tuning after two ways to pre-train, and two ways after the same."""
    change, at_random = "60% that change", "60% at random"
    ours, others = {change: "60%", at_random: at_random}, {change: change, at_random: "60%"}
    of_pretraining = [(("camera=still", ours[how]), ("random", others[how])) for how in (change, at_random)]
    return [
        *of_pretraining,
        (("camera=still", ours[change]), ("camera=still", ours[at_random])),
        (("random", others[change]), ("random", others[at_random])),
    ]


def pretrained_for(experiment: Experiment) -> list[str]:
    """How many clips each arm was pre-trained on, and for how long: what is meant to be equal, and what was."""
    rows = []
    for arm, of_seeds in experiment.pretraining.items():
        clips, seconds = zip(*of_seeds.values(), strict=True)
        rows.append(
            [arm, f"{median(clips):,.0f}", f"{median(seconds):.0f}", f"{min(seconds):.0f} to {max(seconds):.0f}"]
        )
    return [*table(["pre-training", "clips", "seconds, median", "of seeds"], rows), ""] if rows else []


def rates(experiment: Experiment) -> list[str]:
    """How fast each arm trained, before and in fine-tuning, whatever the task."""
    hows = [measure for measure in experiment.measures() if not is_frozen(measure)]
    rows = []
    for arm in experiment.arms():
        each = [experiment.rates[arm, how] for how in (PRETRAINING, *hows)]
        rows.append([arm, *(f"{median(found):.0f}" if found else "" for found in each)])
    return [*table(["clips a second", PRETRAINING, *(f"fine-tuning, {how}" for how in hows)], rows), ""]


def few_labels(experiment: Experiment) -> list[str]:
    """Accuracy with a fifth of the labels beside that with all of them, and EVEREST against all others with few."""
    tasks = [task for task in experiment.tasks if task.endswith(FEW)]
    measures = list(dict.fromkeys(measure for task, _, measure in experiment.found if task in tasks))
    rows = [
        [arm, measure, *(experiment.accuracy(each, arm, measure) for task in tasks for each in (task, whole_of(task)))]
        for measure in measures
        for arm in experiment.arms()
        if any((task, arm, measure) in experiment.found for task in tasks)
    ]
    titles = [f"{whole_of(task)}, {labels}" for task in tasks for labels in ("a fifth of the labels", "all")]
    others = [arm for arm in experiment.arms() if arm not in {"everest", *SIMPLE}]
    pairs = [(("everest", measure), (arm, measure)) for measure in measures for arm in others]
    return [*table(["", "measure", *titles], rows), "", *compared(experiment, pairs, "a, few labels", tasks)]


def keep_ratios(experiment: Experiment, profile: str) -> list[str]:
    """Fine-tuning by keep ratio: cost, accuracy with what changes and with random tokens."""
    arm = next((arm for _, arm, measure in experiment.found if "random" in measure), "")
    hows = [m for m in experiment.measures() if not is_frozen(m) and "random" not in m]
    rows = []
    for how in hows:
        cost = f"{gmacs_of(profile, float(how.rstrip('%')) / 100):.3f}"
        rates = experiment.rates.get((arm, how), [])
        rate = f"{median(rates):.0f}" if rates else ""
        cells = [
            f"{experiment.accuracy(task, arm, name)}" for task in experiment.tasks for name in (how, f"{how} at random")
        ]
        rows.append([how, cost, rate, *cells])
    titles = [f"{task}, {name}" for task in experiment.tasks for name in ("changing", "random")]
    pairs = [((arm, how), (arm, f"{how} at random")) for how in hows if how != ALL]
    pairs += [((arm, how), (arm, ALL)) for how in hows if how != ALL]
    return [*table(["kept", "GMAC", "clips a second", *titles], rows), "", *compared(experiment, pairs, "b")]


def pretrained_ratios(experiment: Experiment, of_features: Experiment, profile: str) -> list[str]:
    """Pre-training by keep ratio: its cost and rate, and what fine-tuning with 60 % and frozen features come to.

    Rates are of the machine with the most ratios, which those of fine-tuning have no say in.
    """
    ratios = {arm: ratio_of(arm) for arm in experiment.arms()}
    arms, measures = sorted(ratios, key=ratios.__getitem__, reverse=True), ("60%", "frozen, linear")
    rows = []
    for arm in arms:
        rates = of_features.rates[arm, PRETRAINING]
        cost = f"{gmacs_of(profile, ratios[arm], 'pretrain'):.3f}"
        cells = [experiment.accuracy(task, arm, m) for task in experiment.tasks for m in measures]
        rows.append([arm, cost, f"{median(rates):.0f}" if rates else "", *cells])
    titles = [f"{task}, {measure}" for task in experiment.tasks for measure in measures]
    pairs = [((arm, m), ("pre-trained with 30%", m)) for m in measures for arm in arms if not arm.endswith(" 30%")]
    return [*table(["", "GMAC", "clips a second", *titles], rows), "", *compared(experiment, pairs, "b")]


def adaptive(experiment: Experiment) -> list[str]:
    """What adaptive selection has kept of the test clips, and how fast it and the fixed one trained."""
    rows = []
    for task, arm, how in experiment.found:
        kept = experiment.kept.get((task, arm, how))
        cells = (
            [f"{100 * mean(each[n] for each in kept):.0f} %" for n in range(3)] if kept else [how.split()[0], "", ""]
        )
        rows.append([task, how, *cells, f"{median(experiment.rates[arm, how]):.0f}"])
    pairs = [(("everest", f"{r}% on average"), ("everest", f"{r}% of each")) for r in (60, 40)]
    titles = ["task", "", "kept, mean", "least", "most", "clips a second, both tasks"]
    return [*table(titles, rows), "", *compared(experiment, pairs, "f")]


def blocks(folder: Path) -> dict[str, list[str]]:
    """Make all tables for which there are results."""
    groups = {path.stem: json.loads(path.read_text()) for path in (folder / "groups").glob("*.json")}
    found: dict[str, list[str]] = {}
    asking: dict[str, dict[str, Experiment]] = {}
    everything = {path.stem: list(Results(path, KEYS)) for path in sorted(folder.glob("?.jsonl"))}
    for letter, rows in everything.items():
        for profile, equal in sorted({(row["profile"], row["equal"]) for row in rows}):
            some = [row for row in rows if (row["profile"], row["equal"]) == (profile, equal)]
            experiment = Experiment(some, groups)
            name = f"{letter}, {profile}, equal {equal}" if letter == "a" else f"{letter}, {profile}"
            if equal == "steps":
                asking.setdefault(profile, {})[letter] = experiment
            found[f"{name}, accuracy"] = accuracies(experiment)
            found[f"{name}, learnt nothing"] = stuck(experiment)
            if letter == "a":
                found[f"{name}, differences"] = against(experiment, "everest", letter)
                found[f"{name}, pre-training"] = pretrained_for(experiment)
                found[f"{name}, choice"] = compared(experiment, of_choice(), letter)
                found[f"{name}, above weights as drawn"] = compared(experiment, above_drawn(experiment))
                found[f"{name}, beside numbers"] = beside_numbers(experiment)
                found[f"{name}, by source"] = by_source(experiment, letter)
                if any(task.endswith(FEW) for task in experiment.tasks):
                    asking[profile]["a, few labels"] = experiment
                    found[f"{name}, few labels"] = few_labels(experiment)
            elif letter == "b":
                found[f"{name}, fine-tuning"] = keep_ratios(experiment, profile)
                of_features = Experiment([row for row in some if is_frozen(row["how"])], groups)
                found[f"{name}, pre-training"] = pretrained_ratios(experiment, of_features, profile)
            elif letter in {"c", "d", "e"}:
                ours = {"c": "alpha 1.5", "d": "l2 of the embedding", "e": "camera=still"}[letter]
                found[f"{name}, differences"] = against(experiment, ours, letter)
                found[f"{name}, rates"] = rates(experiment)
                if letter == "e":
                    found[f"{name}, crossed"] = compared(experiment, crossed())
            elif letter == "f":
                found[f"{name}, differences"] = adaptive(experiment)
    found |= {f"{profile}, all that is asked": all_asked(its) for profile, its in asking.items()}
    found["made twice"] = made_twice(row for rows in everything.values() for row in rows)
    return {name: made for name, made in (*found.items(), *of_files(folder)) if made}


def fill(page: str, made: Mapping[str, Sequence[str]]) -> str:
    """Write the tables into a page.

    Raises:
        DataError: The page has a place for a table that there is not.
    """

    def one(match: re.Match[str]) -> str:
        if match[1] not in made:
            raise DataError(f"the page asks for the table {match[1]!r}; there are: {', '.join(made)}")
        return "\n".join([f"<!-- table: {match[1]} -->", "", *made[match[1]], "<!-- end -->"])

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", one, page, flags=re.DOTALL)


def main(words: Sequence[str] | None = None) -> int:
    """Write the page from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("--page", type=Path, required=True)
    given = parser.parse_args(words)
    try:
        made = blocks(given.results)
        begun = "".join(f"## {name}\n\n<!-- table: {name} -->\n<!-- end -->\n\n" for name in made)
        page = given.page.read_text() if given.page.exists() else f"# Results\n\n{begun}"
        write_new(given.page, fill(page, made))
        draw(given.results, given.page.parent / "images")
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.page}: {len(made)} tables")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
