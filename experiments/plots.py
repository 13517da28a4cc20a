"""Plots of results: one file for each experiment, a panel for each task."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from costs import gmacs_of
from found import machine_of_rates
from lists import BESIDE
from results import Results, over_seeds
from trials import KEYS, PROBES

Row = Mapping[str, Any]
Panel = Callable[[Any, Sequence[Row]], None]
_ACCURACY = "accuracy, %"
_MULTIPLY_ADDS = "million multiply-adds a clip"
_RED, _GREY = "#c0392b", "#888888"
COLOURS = {"all tokens": "#333333", "60 %": _RED, "changing": _RED, "at random": _GREY, "60 % at random": _GREY}
COLOURS |= {"fine-tuned with 60 %": _RED, "frozen, linear": "#333333"}
COLOURS |= {"60%": _RED, "60% at random": _GREY, "60% that change": "#e59866"}
COLOURS |= {
    "frozen": "#333333",
    "frozen, 60 %": _RED,
    "60 %, as long as both": "#2471a3",
    "60 %, a fifth as long": "#e59866",
    "60 %, a fifth as long, own rate": "#8e44ad",
}


def draw(folder: Path, images: Path) -> list[Path]:
    """Draw what there are results of; gives the files that were written."""
    written = []
    for path in sorted(folder.glob("?.jsonl")):
        for name, (rows, panel, label) in figures_of(path.stem, list(Results(path, KEYS))).items():
            images.mkdir(parents=True, exist_ok=True)
            written.append(_figure(rows, panel, label, images / f"results-{name}.png"))
    return written


def figures_of(letter: str, rows: Sequence[Row]) -> dict[str, tuple[Sequence[Row], Panel, str]]:
    """Say what is drawn of an experiment: name of the figure -> results, kind of panel, and what its height is."""
    tuned = [row for row in rows if is_drawn(row)]
    frozen = [{**row, "top1": row["linear"]} for row in rows if is_drawn(row, frozen=True)]
    found: dict[str, tuple[Sequence[Row], Panel, str]] = {}
    if letter == "b":
        of_one = [row for row in tuned if row["arm"].endswith(" 30%")]
        found["b"] = (with_cost(of_one), _ratios, _ACCURACY)
        if len({row["arm"] for row in tuned}) > 1:
            both = [{**row, "how": "fine-tuned with 60 %"} for row in tuned if row["how"] == "60%"]
            both += [{**row, "how": "frozen, linear"} for row in frozen if row["how"] == "frozen"]
            found["b-pretraining"] = (with_multiply_adds(both), partial(_ratios, cost=_MULTIPLY_ADDS), _ACCURACY)
    elif len({row["arm"] for row in tuned}) == 1:  # ways to fine-tune it beside each other
        found[letter] = ([{**row, "arm": row["how"], "how": ""} for row in tuned], _arms, _ACCURACY)
    else:
        found[letter] = (tuned, _arms, _ACCURACY)
    if letter == "a":
        found["a-frozen"] = (frozen, _arms, _ACCURACY)
        found["a-time"] = ([row for row in rows if is_drawn(row, equal="time")], _arms, _ACCURACY)
        by_run = {(row["arm"], row["seed"]): row for row in rows if is_drawn(row) and "pretrain_losses" in row}
        found["a-losses"] = ([{**row, "task": "pre-training"} for row in by_run.values()], _losses, "loss")
    return {name: figure for name, figure in found.items() if figure[0]}


def is_drawn(row: Row, *, frozen: bool = False, equal: str = "steps") -> bool:
    """Leave out other profiles, other budgets and tasks beside others; frozen features have a plot of their own."""
    plain = row["profile"] in {"cpu", "quick"} and row["equal"] == equal
    return plain and (row["how"] in PROBES) == frozen and not row["task"].endswith(tuple(BESIDE))


def with_cost(rows: Sequence[Row]) -> list[Row]:
    """Add what a clip of fine-tuning took, in milliseconds: the median over the runs of a way on one machine."""
    machine = machine_of_rates(rows)
    rates: dict[str, list[float]] = {}
    for row in rows:
        if "rate" in row and row.get("hardware", "") == machine:
            rates.setdefault(row["how"], []).append(row["rate"])
    return [{**row, "cost": 1000 / median(rates[row["how"]])} for row in rows if row["how"] in rates]


def with_multiply_adds(rows: Sequence[Row]) -> list[Row]:
    """Add what a clip of pre-training takes, in million multiply-adds: not all were made on one machine."""
    return [{**row, "cost": 1000 * gmacs_of(row["profile"], ratio_of(row["arm"]), "pretrain")} for row in rows]


def ratio_of(arm: str) -> float:
    """The keep ratio that stands at the end of the name of one of b's arms."""
    return float(arm.rsplit(maxsplit=1)[-1].rstrip("%")) / 100


def _figure(rows: Sequence[Row], panel: Panel, label: str, path: Path) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    tasks, arms = sorted({row["task"] for row in rows}), list(dict.fromkeys(row["arm"] for row in rows))
    figure, axes = plt.subplots(1, len(tasks), figsize=(3.2 * len(tasks), 3.6), squeeze=False, layout="constrained")
    for axis, task in zip(axes[0], tasks, strict=True):
        some = [row for row in rows if row["task"] == task]
        some.sort(key=lambda row: arms.index(row["arm"]))  # in one order in all panels
        panel(axis, some)
        if label == _ACCURACY:
            axis.axhline(100 * some[0]["majority"], color="black", linewidth=0.8, linestyle=":")
            low, high = axis.get_ylim()
            axis.set_ylim(low - 1, max(high + 1, low + 19))  # a point looks like a point in every panel
        axis.set_title(task)
    axes[0][0].set_ylabel(label)
    shown = [pair for axis in axes[0] for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    labelled = {label: handle for handle, label in shown}
    names = [name for name in labelled if name]
    if len(names) > 1:
        columns = min(len(names), 1 + len(tasks))  # what is wider than the panels would be cut off
        figure.legend([labelled[n] for n in names], names, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _arms(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Arms beside each other: every seed a dot, the mean a bar."""
    arms, hows = (list(dict.fromkeys(row[name] for row in rows)) for name in ("arm", "how"))
    found: dict[tuple[str, str], list[float]] = {(arm, how): [] for arm in arms for how in hows}
    for row in rows:
        found[row["arm"], row["how"]].append(100 * row["top1"])
    for (arm, how), values in found.items():
        if values:
            between = min(0.25, 0.8 / len(hows))
            x, colour = arms.index(arm) + between * (hows.index(how) - (len(hows) - 1) / 2), COLOURS.get(how, _RED)
            axis.plot([x] * len(values), values, "o", color=colour, markersize=4, alpha=0.6, label=how)
            axis.plot(
                [x - 0.4 * between, x + 0.4 * between], [sum(values) / len(values)] * 2, color=colour, linewidth=2
            )
    axis.set_xticks(range(len(arms)), [arm.replace(", ", ",\n") for arm in arms], rotation=35, ha="right")
    axis.set_xlim(-0.6, len(arms) - 0.4)


def _ratios(axis: Any, rows: Sequence[Row], cost: str = "ms a clip of training") -> None:
    """Accuracy against what training took, with the interval over seeds."""
    lines: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        how = row["how"].lstrip("0123456789").lstrip("%").strip() if row["how"][0].isdigit() else row["how"]
        lines.setdefault(how or "changing", {}).setdefault(row["cost"], []).append(row["top1"])
    for name, points in lines.items():
        costs = sorted(points)
        found = [over_seeds(points[each]) for each in costs]
        halves = [100 * (each.high - each.mean) if each.num > 1 else 0.0 for each in found]
        colour = COLOURS.get(name, _RED)
        axis.errorbar(
            costs, [100 * each.mean for each in found], halves, marker="o", color=colour, label=name, capsize=2
        )
    axis.set_xlabel(cost)


def _losses(axis: Any, rows: Sequence[Row]) -> None:
    """Losses of pre-training, the mean over seeds: each arm predicts other tokens, so heights compare loosely."""
    for arm in dict.fromkeys(row["arm"] for row in rows):
        runs = [row["pretrain_losses"] for row in rows if row["arm"] == arm]
        clips = next(row["pretrain_clips"] for row in rows if row["arm"] == arm)
        means = [mean(values) for values in zip(*runs, strict=True)]
        axis.plot([clips * (n + 1) / len(means) / 1000 for n in range(len(means))], means, label=arm)
    axis.set_xlabel("thousand clips")
