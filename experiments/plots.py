"""Plots of results: one file for each experiment, a panel for each task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costs import gmacs_of
from lists import BESIDE
from results import Results, over_seeds
from trials import KEYS, PROBES

_RED, _GREY = "#c0392b", "#888888"
COLOURS = {"all tokens": "#333333", "60 %": _RED, "changing": _RED, "at random": _GREY, "60 % at random": _GREY}
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
    for letter in "abcdef":
        panel = _ratios if letter == "b" else _arms
        path = folder / f"{letter}.jsonl"
        rows = [row for row in Results(path, KEYS) if is_drawn(row)]
        if letter != "b" and len({row["arm"] for row in rows}) == 1:  # ways to fine-tune it beside each other
            rows = [{**row, "arm": row["how"], "how": ""} for row in rows]
        frozen = [{**row, "top1": row["linear"]} for row in Results(path, KEYS) if is_drawn(row, frozen=True)]
        for some, kind, name in ((rows, panel, letter), (frozen if letter == "a" else [], _arms, f"{letter}-frozen")):
            if some:
                images.mkdir(parents=True, exist_ok=True)
                written.append(_figure(some, kind, images / f"results-{name}.png"))
    return written


def is_drawn(row: Mapping[str, Any], *, frozen: bool = False) -> bool:
    """Leave out other profiles, equal time and tasks beside others; frozen features have a plot of their own."""
    plain = row["profile"] in {"cpu", "quick"} and row["equal"] == "steps"
    return plain and (row["how"] in PROBES) == frozen and not row["task"].endswith(tuple(BESIDE))


def _figure(rows: Sequence[Mapping[str, Any]], panel: Any, path: Path) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    tasks, arms = sorted({row["task"] for row in rows}), list(dict.fromkeys(row["arm"] for row in rows))
    figure, axes = plt.subplots(1, len(tasks), figsize=(3.2 * len(tasks), 3.6), squeeze=False, layout="constrained")
    for axis, task in zip(axes[0], tasks, strict=True):
        some = [row for row in rows if row["task"] == task]
        some.sort(key=lambda row: arms.index(row["arm"]))  # in one order in all panels
        panel(axis, some)
        axis.axhline(100 * some[0]["majority"], color="black", linewidth=0.8, linestyle=":")
        low, high = axis.get_ylim()
        axis.set_ylim(low - 1, max(high + 1, low + 19))  # a point looks like a point in every panel
        axis.set_title(task)
    axes[0][0].set_ylabel("accuracy, %")
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
    axis.set_xticks(range(len(arms)), arms, rotation=35, ha="right")
    axis.set_xlim(-0.6, len(arms) - 0.4)


def _ratios(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy of fine-tuning against cost, with the interval over seeds."""
    rows = [row for row in rows if row["arm"].endswith("30%")]
    for name, ending in (("changing", "%"), ("at random", "% at random")):
        hows = [how for how in dict.fromkeys(row["how"] for row in rows) if how.lstrip("0123456789") == ending]
        points = []
        for how in hows:
            found = over_seeds([row["top1"] for row in rows if row["how"] == how])
            cost = gmacs_of(rows[0]["profile"], float(how.split("%")[0]) / 100)
            points.append((cost, 100 * found.mean, 100 * (found.high - found.mean) if found.num > 1 else 0.0))
        if points:
            costs, means, halves = zip(*sorted(points), strict=True)
            axis.errorbar(costs, means, halves, marker="o", color=COLOURS[name], label=name, capsize=2)
    axis.set_xlabel("GMAC a clip")
