"""What an evaluation says: accuracies, classes, confusions, and the clips that a classifier finds hardest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from everest.evaluation import Evaluation
from everest.visualize.charts import accuracy_bars, confusion
from everest.visualize.report import Figure, FigureSize, Folded, Section, Table

FEW_BESIDE = 8  # of which a matrix fits beside something else
FEW_CLASSES = 20  # of which all are listed at once
NUM_WORST = 10  # classes, or pairs of them, that are listed where there are many
NBSP = "\u00a0"  # a number and its unit stay on one line
ALL_THE_TIME = "always the most frequent class"


@dataclass(frozen=True, eq=False)
class HardClip:
    """A clip whose true class got little probability.

    Attributes:
        name: Of the clip.
        true: Its class, and the probability of that, 0 to 1.
        predicted: The most probable class, and its probability.
        animation: WebP or GIF; None where it cannot be shown.
    """

    name: str
    true: tuple[str, float]
    predicted: tuple[str, float]
    animation: bytes | None = field(default=None, repr=False)

    @property
    def is_right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.true[0] == self.predicted[0]


def evaluation_section(
    results: Mapping[str, Evaluation],
    *,
    notes: Sequence[str] = (),
    heading: str = "Accuracy on held-out clips",
    unit: str = "clips",
) -> Section:
    """Accuracies with intervals beside the largest class, per class, and confusion pictures.

    Args:
        results: By name, of the same classes.
        notes: What must not be overlooked.
        heading: Of the section.
        unit: What was evaluated, in the plural.
    """
    first = next(iter(results.values()))
    top5 = any(r.top5 is not None for r in results.values())
    rows = [_row(name, r, top5) for name, r in results.items()]
    blank = ("",) * top5
    rows.append((ALL_THE_TIME, f"{first.majority:.1%}", "", *blank, str(first.num_clips), "", ""))
    bars = accuracy_bars(
        [(name, r.top1, r.top1_interval) for name, r in results.items()], (ALL_THE_TIME, first.majority)
    )
    size: FigureSize = "half" if len(first.class_names) <= FEW_BESIDE else "whole"
    overlap = "Overlapping intervals: the data cannot tell the two apart."
    alone = "The black line is the 95 % interval: what other clips of this kind may give."
    figures = [Figure(bars, overlap if len(results) > 1 else alone, "Bars of the accuracies", size)]
    figures += [
        Figure(
            confusion(r.confusion, r.class_names),
            f"Confusion, {name}: rows are true classes, columns what was predicted; the diagonal is right.",
            f"Confusion matrix, {name}",
            size,
        )
        for name, r in results.items()
    ]
    words = (
        f"Share of {unit} whose most probable class is right, averaged over {first.num_views} views of each. The "
        f"interval is Wilson's, at 95 %, and takes {unit} as independent.",
    )
    top = (("top-5",) if top5 else ()) + (unit, "views", "unreadable")
    tables = [Table(("model", "top-1", "95 % interval", *top), tuple(rows))]
    classes = _classes(results, unit)
    folded = []
    if len(first.class_names) <= FEW_CLASSES:
        tables.append(classes)
    else:
        tables += [_worst(classes, first, unit), _confusions(first, unit)]
        folded.append(Folded(f"All {len(first.class_names)} classes", (classes,)))
    return Section(heading, words, tuple(notes), tuple(tables), tuple(figures), tuple(folded))


def hardest_section(clips: Sequence[HardClip], total: int, heading: str = "Hardest clips") -> Section:
    """Show the clips whose true classes got the least probability, the worst one first.

    Args:
        clips: The hardest ones, in order.
        total: How many there were.
        heading: Of the section.
    """
    words = (
        f"Of {total:,} evaluated clips, those whose true class was given the least probability, the worst first: what "
        "costs most loss. Look for wrong labels here before blaming the model. A picture moves through the middle of "
        "its clip, on the left as the model gets it, on the right what it computes (orange; dark tokens are dropped). "
        "The probabilities are means over all views.",
    )
    notes = ("All of these are recognised: they are only the least certain ones.",) * all(c.is_right for c in clips)
    figures = tuple(
        Figure(clip.animation, f"{clip.name}. {_verdict(clip)}", f"Animation of {clip.name}", "third")
        for clip in clips
        if clip.animation is not None
    )
    rows = tuple(
        (c.name, c.true[0], _percent(c.true[1]), c.predicted[0], _percent(c.predicted[1]))
        for c in clips
        if c.animation is None
    )
    table = Table(("clip", "true class", "its probability", "predicted class", "its probability"), rows)
    if figures and rows:
        return Section(heading, words, notes, figures=figures, folded=(Folded(f"{len(rows)} more", (table,)),))
    return Section(heading, words, notes, tables=(table,) if rows else (), figures=figures)


def _row(name: str, r: Evaluation, top5: bool) -> tuple[str, ...]:
    five = ("" if r.top5 is None else f"{r.top5:.1%}",) if top5 else ()
    interval = "{:.0%} to {:.0%}".format(*r.top1_interval)
    return (name, f"{r.top1:.1%}", interval, *five, str(r.num_clips), str(r.num_views), str(len(r.failures)))


def _classes(results: Mapping[str, Evaluation], unit: str) -> Table:
    """Every class with its clips and the accuracies of all results."""
    first = next(iter(results.values()))
    rows = [
        (entry.name, str(entry.num_clips), *(_share(r.per_class[number].accuracy) for r in results.values()))
        for number, entry in enumerate(first.per_class)
    ]
    names = tuple(results) if len(results) > 1 else ("recognised",)
    return Table(("class", unit, *names), tuple(rows))


def _worst(classes: Table, result: Evaluation, unit: str) -> Table:
    """The classes that are recognised least."""
    measured = [(entry.accuracy, row) for entry, row in zip(result.per_class, classes.rows, strict=True)]
    rows = sorted(((value, row) for value, row in measured if value is not None), key=lambda each: each[0])
    return Table(
        (f"the {NUM_WORST} least recognised classes", *classes.header[1:]), tuple(r for _, r in rows[:NUM_WORST])
    )


def _confusions(result: Evaluation, unit: str) -> Table:
    """The pairs of classes that are taken for each other most often."""
    wrong = result.confusion.clone().fill_diagonal_(0)
    counts, places = wrong.flatten().sort(descending=True, stable=True)
    names, size = result.class_names, len(result.class_names)
    rows = tuple(
        (names[place // size], names[place % size], str(count))
        for count, place in zip(counts[:NUM_WORST].tolist(), places[:NUM_WORST].tolist(), strict=True)
        if count
    )
    return Table(("often mistaken: true class", "predicted", unit), rows)


def _verdict(clip: HardClip) -> str:
    true = f"True: {clip.true[0]} ({_percent(clip.true[1])})."
    return (
        f"{true} Recognised."
        if clip.is_right
        else f"{true} Predicted: {clip.predicted[0]} ({_percent(clip.predicted[1])})."
    )


def _percent(value: float) -> str:
    return f"under 1{NBSP}%" if value < 0.01 else f"{100 * value:.0f}{NBSP}%"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
