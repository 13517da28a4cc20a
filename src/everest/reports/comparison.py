"""The page about several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everest.bench.costs import TaskCost, beside_all_tokens
from everest.errors import DataError, EverestError
from everest.evaluation import Evaluation, find_evaluations, most_probable, read_evaluation, sign_test
from everest.history import Axis, Run, RunComparison, compare_runs
from everest.reports.curves import AXIS_LABELS, curves_of
from everest.reports.facts import machine_of, say, speed_rows, tokens_of
from everest.reports.measured import doubts
from everest.training import describe_checkpoint
from everest.training.rundir import RunFolder
from everest.visualize import Figure, Report, Section, Table, accuracy_bars, draw_runs
from everest.visualize.accuracy import ALL_THE_TIME, FEW_CLASSES, NUM_WORST
from everest.visualize.inspection import say_gmacs

ABSENT = ""
TASKS = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}
TOLD_ELSEWHERE = ("clips/s", "skipped steps", "training")
MOST_POINTS = 100  # of a curve: between so many, two runs can be told apart
LIKELY = 0.05  # chance alone gives such a difference so often, or more: it is none to rely on


@dataclass(frozen=True)
class ComparisonReport:
    """The page about several runs, and what it says in numbers.

    Attributes:
        page: Ready to be written.
        values: As JSON can hold it.
        text: For a terminal.
    """

    page: Report
    values: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Duel:
    """Two classifiers on the same clips.

    Attributes:
        first, second: Their names.
        only_first: Clips that only the first one recognises.
        only_second: Clips that only the second one recognises.
        chance: How likely such a difference is where both are equally good, 0 to 1.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    chance: float

    @property
    def verdict(self) -> str:
        """Say which one is better, if that can be said."""
        if self.chance >= LIKELY:
            return "they cannot be told apart"
        return f"{self.first if self.only_first > self.only_second else self.second} is better"


def compare_reports(paths: Sequence[Path], axis: Axis = "steps") -> ComparisonReport:
    """Make the page out of folders, which may come from anybody: nothing in them is run, and no clips are looked for.

    Args:
        paths: Folders of runs. What is no such folder is among the problems that the page names.
        axis: What curves are laid over.

    Raises:
        RunError: None of them is the folder of a run.
    """
    compared = compare_runs(paths)
    problems = list(compared.problems)
    evaluations = [_evaluation(run, problems) for run in compared.runs]
    costs = [_cost(run) for run in compared.runs]
    duels = _duels(compared.names, evaluations)
    sections = (
        _results(compared),
        *_accuracy(compared.names, evaluations, duels),
        _settings(compared),
        _curves(compared, axis),
        _cost_section(compared, costs),
    )
    kinds = {run.task for run in compared.runs}
    page = Report(
        f"{len(compared.runs)} runs compared" if len(compared.runs) != 1 else "One run",
        ", ".join(compared.names),
        sections,
        _notes(compared, kinds, problems),
    )
    values = compared.to_dict() | {
        "problems": problems,
        "duels": [vars(duel) | {"verdict": duel.verdict} for duel in duels],
    }
    for row, cost in zip(values["runs"], costs, strict=True):
        row["cost"] = [vars(each) for each in cost]
    return ComparisonReport(page, values, str(compared))


def _notes(compared: RunComparison, kinds: set[str], problems: Sequence[str]) -> tuple[str, ...]:
    """Say what keeps the runs from being compared, and what could not be read."""
    notes = []
    if len(kinds) > 1:
        notes.append(
            "Some of these runs are pre-training and some fine-tuning: their losses measure different things, and must "
            "not be compared."
        )
    elif "data digest" in compared.differing or len({run.settings.get("objective.name") for run in compared.runs}) > 1:
        notes.append("These runs learnt from different clips, or different things: their losses are not comparable.")
    unfinished = [name for name, run in zip(compared.names, compared.runs, strict=True) if run.state != "finished"]
    if unfinished:
        notes.append(f"Not finished: {', '.join(unfinished)}. What is shown of them is provisional.")
    return (*notes, *(f"Could not be used: {problem}." for problem in problems))


def _results(compared: RunComparison) -> Section:
    """What the runs are, side by side."""
    rows = [("task", *(run.task for run in compared.runs))]
    rows += [
        ("network", *(run.model_name for run in compared.runs)),
        ("tokens", *(tokens_of(run) for run in compared.runs)),
        ("data", *(f"{run.data_name}, {say(run.data.get('num_clips'))} clips" for run in compared.runs)),
        ("ran on", *(machine_of(run.starts[-1]) if run.starts else "?" for run in compared.runs)),
    ]
    rows += [row for row in compared.results() if row[0] not in TOLD_ELSEWHERE]
    return Section("Side by side", tables=(Table(("", *compared.names), tuple(rows)),))


def _accuracy(
    names: Sequence[str], evaluations: Sequence[Evaluation | None], duels: Sequence[Duel]
) -> tuple[Section, ...]:
    """Accuracies with intervals, who beats whom on the same clips, and the classes."""
    measured = [(name, each) for name, each in zip(names, evaluations, strict=True) if each is not None]
    if not measured:
        return ()
    notes = []
    if len({each.part_digest for _, each in measured}) > 1:
        notes.append("The evaluations are of different clips, so the accuracies cannot be compared with each other.")
    if len({each.num_views for _, each in measured}) > 1:
        notes.append("The evaluations have different numbers of views of each clip, which alone changes accuracy.")
    for name, each in measured:
        notes += doubts(each, name)
    has_top5 = any(each.top5 is not None for _, each in measured)
    rows = []
    for name, each in measured:
        five = ("" if each.top5 is None else f"{each.top5:.1%}",) if has_top5 else ()
        interval = "{:.1%} to {:.1%}".format(*each.top1_interval)
        rows.append(
            (
                name,
                f"{each.top1:.1%}",
                interval,
                *five,
                f"{each.majority:.1%}",
                f"{each.num_clips:,}",
                str(each.num_views),
            )
        )
    header = ("run", "top-1", "95 % interval", *(("top-5",) if has_top5 else ()), ALL_THE_TIME, "clips", "views")
    tables = [Table(header, tuple(rows))]
    words = ["An interval is Wilson's, at 95 %, and takes clips as independent. Overlapping intervals settle nothing."]
    if duels:
        words.append(
            "On the same clips two runs can be told apart better: what counts are clips that one of them recognises "
            "and the other one does not. Chance alone would make such a difference between equals so often as the "
            f"table says; from {LIKELY:.0%} on there is nothing to rely on. Clips cut from one recording are not "
            "independent, and chance then does more than this says."
        )
        tables.append(
            Table(
                ("first", "second", "only the first is right", "only the second is right", "by chance", "so"),
                tuple(
                    (d.first, d.second, str(d.only_first), str(d.only_second), _chance(d.chance), d.verdict)
                    for d in duels
                ),
            )
        )
    line = (ALL_THE_TIME, measured[0][1].majority) if len({each.majority for _, each in measured}) == 1 else None
    bars = accuracy_bars([(name, each.top1, each.top1_interval) for name, each in measured], line)
    figures = (Figure(bars, "Top-1 with 95 % intervals.", "Bars of the accuracies"),)
    tables += _classes(measured)
    return (Section("Accuracy", tuple(words), tuple(notes), tuple(tables), figures),)


def _classes(measured: Sequence[tuple[str, Evaluation]]) -> list[Table]:
    """Accuracies by class, where all have the same; of many the ones that differ most."""
    first = measured[0][1]
    if len(measured) < 2 or any(each.class_names != first.class_names for _, each in measured):
        return []
    rows = []
    for number, entry in enumerate(first.per_class):
        values = [each.per_class[number].accuracy for _, each in measured]
        known = [value for value in values if value is not None]
        spread = max(known, default=0.0) - min(known, default=0.0)
        cells = ("" if value is None else f"{value:.0%}" for value in values)
        rows.append((spread, (entry.name, f"{entry.num_clips:,}", *cells)))
    heading = "class"
    if len(rows) > FEW_CLASSES:
        rows = sorted(rows, key=lambda row: -row[0])[:NUM_WORST]
        heading = f"the {NUM_WORST} classes that differ most"
    return [Table((heading, "clips", *(name for name, _ in measured)), tuple(cells for _, cells in rows))]


def _curves(compared: RunComparison, axis: Axis) -> Section:
    """Losses and accuracies over each other, of each task by itself."""
    curves = {name: curves_of(run, name, axis) for run, name in zip(compared.runs, compared.names, strict=True)}
    figures = []
    for task, title in TASKS.items():
        names = [name for run, name in zip(compared.runs, compared.names, strict=True) if run.task == task]
        if names:
            drawn = draw_runs([curves[name] for name in names], AXIS_LABELS[axis], MOST_POINTS)
            figures.append(Figure(drawn, f"{title}, over {AXIS_LABELS[axis]}.", f"Curves of {', '.join(names)}"))
    words = (
        "Averages of neighbouring steps; all steps are pale behind. Whiskers at the ends of accuracies are the 95 % "
        "intervals of the evaluations that closed the runs."
    )
    return Section("Curves", (words,), figures=tuple(figures))


def _settings(compared: RunComparison) -> Section:
    rows = tuple((key, *(say(value) for value in values)) for key, values in compared.differing.items())
    if not rows:
        return Section("What differs", ("All settings, the data and the versions are the same.",))
    words = (
        "Settings, data, weights at the start and versions that are not the same; all else is. Where a run does not "
        "have a setting, or sets nothing, it says none."
    )
    return Section("What differs", (words,), tables=(Table(("", *compared.names), rows),))


def _cost_section(compared: RunComparison, costs: Sequence[Sequence[TaskCost]]) -> Section:
    """How fast they were, and what they cost beside all tokens."""
    columns = [dict(speed_rows(run)) for run in compared.runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [(key, *(column.get(key, ABSENT) for column in columns)) for key in keys]
    tokens = [f"{c[0].num_encoded} + {c[0].num_predicted} of {c[0].num_tokens}" if c else "" for c in costs]
    if any(tokens):
        rows.append(("tokens of a clip: encoded + predicted", *tokens))
        rows.append(("GMAC of a clip, training", *(say_gmacs(c[0].gmacs_training) if c else "" for c in costs)))
        shares = (f"{c[0].gmacs_training / c[-1].gmacs_training:.0%} of {c[-1].name}" if c else "" for c in costs)
        rows.append(("that is", *shares))
    words = (
        "Medians over the logged steps. Times are comparable only where the machines are the same and had nothing else "
        "to do. Multiply-adds (10^9, GMAC) are of one clip, forward and backward."
    )
    return Section("Time and cost", (words,), tables=(Table(("", *compared.names), tuple(rows)),))


def _evaluation(run: Run, problems: list[str]) -> Evaluation | None:
    """Read the newest evaluation in a run's folder."""
    for path in find_evaluations(run.path) if run.task == "finetune" else ():
        try:
            return read_evaluation(path)
        except DataError as error:
            problems.append(str(error))
    return None


def _cost(run: Run) -> tuple[TaskCost, ...]:
    names = run.data.get("class_names")
    try:
        config = RunFolder.open(run.path).config()
        return beside_all_tokens(describe_checkpoint(config, tuple(map(str, names)) if isinstance(names, list) else ()))
    except EverestError:  # settings of another version, or that make no sense
        return ()


def _duels(names: Sequence[str], evaluations: Sequence[Evaluation | None]) -> list[Duel]:
    """Compare each with the first on the clips that both were evaluated on."""
    measured = [(n, e) for n, e in zip(names, evaluations, strict=True) if e is not None and e.predictions]
    found = []
    for name, each in measured[1:]:
        first_name, first = measured[0]
        if not first.part_digest or each.part_digest != first.part_digest:
            continue
        before, after = _right(first), _right(each)
        both = before.keys() & after.keys()
        only_first = sum(before[clip] and not after[clip] for clip in both)
        only_second = sum(after[clip] and not before[clip] for clip in both)
        found.append(Duel(first_name, name, only_first, only_second, sign_test(only_first, only_second)))
    return found


def _right(evaluation: Evaluation) -> dict[int, bool]:
    return {each.record_index: most_probable(each) == each.label for each in evaluation.predictions}


def _chance(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else f"{value:.1%}" if value >= 0.001 else "under 0.1%"
