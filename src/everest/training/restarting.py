"""What a start of a run finds of the one before: other data, weights, versions, processes that ended without a word."""

import json
import re
from collections.abc import Mapping
from typing import Any

from everest.datasets import Manifest
from everest.errors import RunError
from everest.training.heartbeats import clear_heartbeats
from everest.training.rundir import DATA_NAME, RunFolder

# Raised when the meaning of something in a training state changes, or what is drawn after it. States that do not say
# are of format 0: from before random numbers belonged to clips (docs/decisions/0027-any-number-of-processes.md).
STATE_FORMAT = 1
# What results depend on: the program, its arithmetic, its decoder, its augmentations.
_WATCHED = ("everest", "torch", "av", "accelerate", "kornia", "numpy")
_NUM_DIGITS = 10  # of a commit


def require_same_data(folder: RunFolder, data: Manifest) -> str:
    """Refuse data that is not that of the last start, before anything is written.

    Returns:
        A line for people where only clips have changed that are not trained on; else nothing.

    Raises:
        RunError: It is other data, and something was learnt from the first, or its best weights chosen by it.
    """
    if (before := _last_start(folder)) is None:
        return ""
    try:
        digest, num_clips, num_files = before["part_digest"], before["num_clips"], before["num_files"]
        class_names, source, whole_digest = tuple(before["class_names"]), before["source"], before["manifest_digest"]
    except (TypeError, KeyError) as error:
        raise _unreadable(folder, error) from None
    if digest == data.digest:
        return "" if whole_digest == data.source_digest else _of_other_parts(folder)
    if (num_clips, num_files) != (len(data), data.num_files):
        what = f"{num_clips:,} clips of {num_files:,} files then, {len(data):,} of {data.num_files:,} now"
    elif class_names != data.class_names:
        what = "as many clips of as many files, but other classes"
    else:
        what = "as many clips of as many files, but other paths, labels, spans or another order"
    moved = "" if source == str(data.source) else f" (from {source} then, from {data.source} now)"
    raise RunError(
        f"{folder.path}: the data has changed since this run was started, so it cannot go on as it was: {what}{moved}. "
        "Restore the data, or start a new run in another folder"
    )


def start_to_keep(folder: RunFolder, given: dict[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """Say which weights a run began with: those of its first start, and no later one can change them.

    Args:
        folder: Of the run.
        given: What became of the weights that this start was given, with their ``digest``; None without any.

    Returns:
        What the run has to say of the weights that it began with, and a line for people where this start was not given
        them again, which it does not need.

    Raises:
        RunError: This start was given other weights.
    """
    if (before := _last_start(folder)) is None:
        return given, ""
    first: dict[str, Any] | None = before.get("start")
    if given is None:
        return first, "" if first is None else f"encoder from {first['checkpoint']} at the first start"
    if first is not None and first.get("digest", given["digest"]) == given["digest"]:
        return given, ""  # moved, or of a version that kept no digest
    began = "fresh weights" if first is None else f"the weights of {first['checkpoint']}"
    other = "" if first is None or first["checkpoint"] != given["checkpoint"] else ", which holds others now"
    raise RunError(
        f"{folder.path}: this run began with {began}{other}, so it cannot go on as one that began with those of "
        f"{given['checkpoint']}. To go on with it, leave --init out; to begin with these, take another folder"
    )


def _last_start(folder: RunFolder) -> dict[str, Any] | None:
    """Read what the last start wrote of what it learnt from; None where nothing was learnt."""
    file = folder.path / DATA_NAME
    if not file.is_file() or not folder.holds_results():
        return None
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from None
    if not isinstance(before, dict):
        raise _unreadable(folder, f"it holds {type(before).__name__}, not an object")
    return before


def _unreadable(folder: RunFolder, why: object) -> RunError:
    return RunError(f"{folder.path / DATA_NAME} cannot be read, so whether the data is the same is not known: {why}")


def _of_other_parts(folder: RunFolder) -> str:
    """Say that clips have changed that are not trained on, unless the best weights so far were chosen by them."""
    what = "the data has changed since the last start, in clips that are not trained on"
    if folder.best.exists() or folder.best_record.exists():
        raise RunError(
            f"{folder.path}: {what}, and its best weights so far were chosen by such clips. Restore the data, start a "
            f"new run in another folder, or move {folder.best.name} and {folder.best_record.name} away: then the best "
            "is chosen anew"
        )
    return f"{what}: evaluations from here on cannot be compared with those before"


def require_known_format(state: Mapping[str, Any], folder: RunFolder) -> None:
    """Refuse a training state that an earlier or a later version has written, if its meaning is another one.

    Raises:
        RunError: Its format is not that of this version.
    """
    found = state.get("format_version", 0)
    if found == STATE_FORMAT:
        return
    holds = f"{folder.checkpoints} holds training states of format {found}, and this version of EVEREST reads format"
    if isinstance(found, int) and found < STATE_FORMAT:
        raise RunError(
            f"{holds} {STATE_FORMAT}: an earlier version wrote them, which drew other random numbers, so the run "
            "cannot go on as it was. Go on with the version that wrote them (environment.json says which), or start a "
            f"new run in another folder; {folder.weights} can be used as it is, also by everest finetune --init"
        )
    raise RunError(f"{holds} {STATE_FORMAT}: go on with the version that wrote them (environment.json says which)")


def since_last_start(folder: RunFolder) -> list[str]:
    """Say what is not as the last start left it; for one process, after the folder was opened for this start.

    Returns:
        Lines for people; none where the run is new, or all is as it was.
    """
    lines = []
    if len(starts := folder.starts()) > 1:
        before, now = starts[-2:]
        changed = changed_versions(before.get("packages", {}), now.get("packages", {}))
        if changed := changed + _changed_source(before.get("everest_git"), now.get("everest_git")):
            lines.append(
                f"other versions than at the last start: {', '.join(changed)}; from here on results may differ from "
                "those of a run that was not stopped"
            )
    return lines + [f"the last start ended without a word: {each}" for each in clear_heartbeats(folder.path)]


def changed_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List packages whose major or minor version is another one, as ``torch 2.12.0 -> 2.13.0``; of EVEREST any."""
    return [
        f"{name} {before[name]} -> {now[name]}"
        for name in _WATCHED
        if before.get(name) and now.get(name) and _compared(name, before[name]) != _compared(name, now[name])
    ]


def _compared(name: str, version: str) -> str:
    """What of a version may change results: a correction of EVEREST may, for it does the drawing."""
    found = None if name == "everest" else re.match(r"\d+(\.\d+)?", version)
    return found[0] if found else version


def _changed_source(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    """Say which commits EVEREST's source was of, where it is another one: its version stays between two releases."""
    if not before or not now or before == now:
        return []
    then, here = (
        f"{str(each.get('commit'))[:_NUM_DIGITS]}{' with changes' if each.get('dirty') else ''}"
        for each in (before, now)
    )
    return [f"everest's source {then} -> {here}"]
