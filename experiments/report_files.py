"""Tables of what is measured once, without training: chosen frames, agreement of scores, where the budget goes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from profiles import PROFILES
from results import Results

CAMERAS = ("still", "moving")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows)]


def budget(folder: Path, profile: str) -> list[str]:
    """Where the budget goes under a moving camera."""
    path = folder / f"e_budget-{profile}.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())["found"]
    by_key: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in found:
        by_key.setdefault((row["task"], row["moves"], row["pixels"], row["clips"]), {})[row["camera"]] = row
    rows = [
        [
            task,
            str(clips),
            moves,
            f"{pixels:g}",
            *_shares(each, "background"),
            *_shares(each, "foreground_found"),
            *_shares(each, "precision"),
            "{:+.0f} ({:+.0f} to {:+.0f})".format(*(100 * value for value in each["moving"]["won"])),
            f"{100 * each['still']['chance']:.0f} %",
        ]
        for (task, moves, pixels, clips), each in by_key.items()
    ]
    titles = ["task", "clips", "camera", "pixels a frame"]
    titles += [f"{name}, {camera}" for name in ("background", "foreground kept", "precision") for camera in CAMERAS]
    titles += ["precision won", "background of random tokens"]
    return [*table(titles, rows), ""]


def _shares(each: Mapping[str, Mapping[str, float]], name: str) -> list[str]:
    return [f"{100 * each[camera][name]:.0f} %" for camera in CAMERAS]


def chosen(folder: Path, profile: str) -> list[str]:
    """Which frames are taken where most of a video stands still."""
    path = folder / f"c_chosen-{profile}.json"
    if not path.exists():
        return []
    names = ("inside", "inside_blindly", "after_cut", "after_cut_blindly")
    rows = [
        [row["task"], str(row["clips"]), row["arm"], *(f"{100 * row[name]:.0f} %" for name in names)]
        for row in json.loads(path.read_text())["found"]
    ]
    titles = ["inside the clip", "of all candidates", "pairs after a cut", "of all candidates"]
    return [*table(["task", "clips", "", *titles], rows), ""]


def agreement(folder: Path, profile: str) -> list[str]:
    """How far other scores choose the tokens of the paper's, and what they cost."""
    path = folder / f"d_agreement-{profile}.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())["found"]
    rows = [
        [row["name"], f"{row['ms_per_clip']:.2f}", *(f"{100 * each['mean']:.1f} %" for each in row["agreement"])]
        for row in found["scorings"]
    ]
    ratios = [f"same of {100 * each['keep_ratio']:.0f} %" for each in found["scorings"][0]["agreement"]]
    hardware = f"{found['hardware']['name']}, {found['hardware']['threads']} threads"
    where = f"{found['num_clips']} clips of the footage; {found['size']}, {found['checkpoint']}; {hardware}"
    return [*table(["score", "ms a clip", *ratios], rows), "", where, ""]


def tuning(folder: Path, profile: str) -> list[str]:
    """What learning rates were chosen by: accuracy on groups that were held out of the training clips."""
    path = folder / "tuning.jsonl"
    keys = ("profile", "stage", "arm", "rate", "seed", "task", "made_of")
    found = [row for row in Results(path, keys) if row["profile"] == profile]
    tasks = sorted({row["task"] for row in found})
    rows = []
    for stage, arm, rate in sorted({(row["stage"], row["arm"], row["rate"]) for row in found}):
        its = [row for row in found if (row["stage"], row["arm"], row["rate"]) == (stage, arm, rate)]
        by_task = {task: [row["accuracy"] for row in its if row["task"] == task] for task in tasks}
        cells = [f"{100 * mean(each):.1f}" if each else "" for each in by_task.values()]
        average = mean(mean(each) for each in by_task.values() if each)
        rows.append([stage, arm, f"{rate:g}", f"{len({row['seed'] for row in its})}", *cells, f"{100 * average:.1f}"])
    return [*table(["", "", "base learning rate", "seeds", *tasks, "mean"], rows), ""] if rows else []


def ready_made(folder: Path) -> list[str]:
    """What the weights that come with the program are worth, and others that were made in the same way."""
    path = folder / "ready_made.jsonl"
    if not path.exists():
        return []
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(Results(path, ("data", "init", "seed")), key=lambda row: int(row["seed"])):
        found.setdefault((row["data"], row["init"]), []).append(row)
    rows = []
    for (data, init), its in sorted(found.items(), key=lambda each: each[0][0]):
        each_seed = ", ".join(f"{100 * row['top1']:.1f}" for row in its)
        low, high = its[0]["top1_interval"]
        losses = f"{mean(row['losses'][-1] for row in its):.2f}"
        numbers = [f"{100 * mean(row['top1'] for row in its):.1f}", each_seed, f"{100 * low:.0f} to {100 * high:.0f}"]
        rows.append([data, init, *numbers, losses, f"{100 * its[0]['majority']:.1f}"])
    titles = ["test clips of", "start", "top-1, mean, %", "of seeds 0, 1, ...", "95 % of seed 0", "last loss"]
    return [*table([*titles, "most frequent class, %"], rows), ""]


def of_files(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Make all tables of measurements, with their names; those of which there are none are empty."""
    yield "ready-made", ready_made(folder)
    for profile in PROFILES:
        yield f"a, {profile}, tuning", tuning(folder, profile)
        yield f"c, {profile}, chosen", chosen(folder, profile)
        yield f"d, {profile}, agreement", agreement(folder, profile)
        yield f"e, {profile}, budget", budget(folder, profile)
