"""One run in detail."""

import json
import shlex
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from everest.history.files import TASKS, TRACKERS, flatten, number, read_object, size_of
from everest.history.find import row_of
from everest.history.run import Run, read_run, seconds_of, tell_seconds
from everest.recipes import get_recipe, list_recipes
from everest.texts import printable

NUM_LISTED = 5
_CANNOT_READ = "cannot read "  # how the log says that a file failed
_PROGRAMS = ("everest", "__main__.py")


@dataclass(frozen=True)
class Recipe:
    """The recipe whose settings are nearest to those of a run.

    Attributes:
        name: Of the recipe; empty where the run is of a task that no recipe has.
        differing: Value of the recipe and of the run by key, where they differ.
    """

    name: str
    differing: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class RunShown:
    """A run in detail.

    Attributes:
        run: The run, read completely.
        recipe: What its settings are near to.
        num_bytes: Size of the folder.
        failed: Lines of the log about files that could not be read.
        replays: Files of steps that went wrong.
        trackers: Run of each tracker by its name.
    """

    run: Run
    recipe: Recipe
    num_bytes: int
    failed: tuple[str, ...]
    replays: tuple[str, ...]
    trackers: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        run = self.run
        return row_of(run) | {
            "recipe": self.recipe.name,
            "differing": {key: list(values) for key, values in self.recipe.differing.items()},
            "settings": run.settings,
            "source": run.data,
            "starts": run.starts,
            "metrics": summarize(run),
            "training_seconds": training_seconds(run),
            "evaluation": run.evaluation,
            "failed": list(self.failed),
            "replays": list(self.replays),
            "trackers": self.trackers,
            "num_bytes": self.num_bytes,
            "next": self.advice(),
            "problems": run.problems,
        }

    @property
    def _first_replay(self) -> str:
        return shlex.quote(str(self.run.path / self.replays[0]))

    def advice(self) -> str:
        """Say what can be done with the run now."""
        run = self.run
        command = run.starts[-1].get("command") if run.starts else None
        state = run.state
        if state == "finished" and run.task == "pretrain":
            return f"everest finetune --init {shlex.quote(str(run.path))} ..."
        if state == "finished":
            return f"everest predict {shlex.quote(str(run.path))} VIDEO..."
        if state == "going on":
            return f"it goes on; everest runs show {shlex.quote(str(run.path))} again later"
        again = _again(command)
        return again or "start it again with the same command and --resume auto"

    def __str__(self) -> str:
        run = self.run
        rows = [*_tell_run(run), *_tell_starts(run), *_tell_metrics(run), *self._tell_evaluation()]
        source = run.data.get("source")
        note = f" ({run.data['note']})" if run.data.get("note") else ""
        rows.append(("data", f"{source or '?'}, {_say(run.data.get('num_clips'))} clips{note}"))
        start = run.data.get("start")
        if isinstance(start, Mapping) and start.get("checkpoint"):
            rows.append(("weights from", str(start["checkpoint"])))
        rows += self._tell_settings()
        rows += [("cannot read", f"{len(self.failed)} files")] * bool(self.failed)
        rows += [("", f"  {line}") for line in self.failed[:NUM_LISTED]]
        if self.replays:
            rows.append(("skipped", f"{len(self.replays)} steps can be repeated: everest replay {self._first_replay}"))
        rows += [(name, f"run {value}") for name, value in self.trackers.items()]
        rows.append(("on disk", _bytes(self.num_bytes)))
        rows += [("problem", problem) for problem in run.problems]
        rows.append(("next", self.advice()))
        return "\n".join(f"{name:13}{printable(text)}".rstrip() for name, text in rows)

    def _tell_evaluation(self) -> list[tuple[str, str]]:
        found, top1 = self.run.evaluation, self.run.top1
        if top1 is None:
            return []
        value, interval = top1
        text = f"top-1 {value:.1%}"
        text += f", 95 % interval {interval[0]:.1%} to {interval[1]:.1%}" if interval else ", on the way"
        for name, form in (("top5", "top-5 {:.1%}"), ("majority", "the most frequent class {:.1%}")):
            given = number(found.get(name))
            text += "" if given is None else f"; {form.format(given)}"
        rows = [("evaluation", text)]
        if found:
            failed = number(found.get("num_failures")) or 0
            rows.append(("", f"{_say(found.get('num_clips'))} clips, {_say(found.get('num_views'))} views of each"))
            rows += [("", f"{failed:g} clips cannot be read")] if failed else []
        return rows

    def _tell_settings(self) -> list[tuple[str, str]]:
        differing = self.recipe.differing
        if not self.recipe.name:
            return []
        heading = f"recipe {self.recipe.name}" + (f", but for {len(differing)}:" if differing else "")
        return [
            ("settings", f"those of {heading}"),
            *(("", f"  {key}: {_say(mine)} instead of {_say(theirs)}") for key, (theirs, mine) in differing.items()),
        ]


def show_run(path: Path) -> RunShown:
    """Read a run completely.

    Raises:
        RunError: It is not the folder of a run.
    """
    run = read_run(path)
    trackers = read_object(path / TRACKERS, run.problems)
    return RunShown(
        run=run,
        recipe=nearest_recipe(run),
        num_bytes=size_of(path),
        failed=tuple(line.removeprefix(_CANNOT_READ) for line in run.log if line.startswith(_CANNOT_READ)),
        replays=tuple(sorted(str(p.relative_to(path)) for p in (path / "replays").glob("*.json"))),
        trackers={name: str(value) for name, value in trackers.items()},
    )


def nearest_recipe(run: Run) -> Recipe:
    """Find the recipe that a run was most likely started with: the one that needs the fewest changes."""
    found: Recipe | None = None
    for name in (recipe.name for recipe in list_recipes()):
        recipe = get_recipe(name)
        config = dict(zip(TASKS, (recipe.pretrain, recipe.finetune), strict=True))[run.task]
        if config is None:
            continue
        theirs = flatten(config.model_dump(mode="json"))
        keys = [key for key in {**theirs, **run.settings} if theirs.get(key) != run.settings.get(key)]
        differing = {key: (theirs.get(key), run.settings.get(key)) for key in keys}
        if found is None or len(differing) < len(found.differing):
            found = Recipe(name, differing)
    return found or Recipe("", {})


def summarize(run: Run) -> dict[str, Any]:
    """Sum up the metrics of a run: where the loss began, was lowest and ended, the speed, and what went wrong."""
    losses = [(line["step"], value) for line in run.lines if (value := number(line.get("loss"))) is not None]
    norms = [value for line in run.lines if (value := number(line.get("grad_norm"))) is not None]
    rates = [value for line in run.lines if (value := number(line.get("clips_per_second"))) is not None]
    waits = [value for line in run.lines if (value := number(line.get("wait_share"))) is not None]
    best = min(losses, key=lambda each: each[1], default=None)
    return {
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "best_loss": None if best is None else best[1],
        "best_loss_step": None if best is None else best[0],
        "median_grad_norm": statistics.median(norms) if norms else None,
        "largest_grad_norm": max(norms, default=None),
        "median_clips_per_second": statistics.median(rates) if rates else None,
        "median_wait_share": statistics.median(waits) if waits else None,
        "skipped_steps": run.last("skipped_steps"),
        "num_lines": len(run.lines),
    }


def training_seconds(run: Run) -> float | None:
    """Add up the time of training, without the pauses between starts; None where the metrics do not tell."""
    hours = hours_of(run)
    return hours[-1] * 3600 if hours else None


def hours_of(run: Run) -> list[float]:
    """Say at which hour of training each line of metrics was written; pauses between starts do not count.

    Lines of versions that did not write the time are placed by their clips per second.
    """
    dates = (start.get("date") for start in run.starts)
    begun = sorted(t for t in (seconds_of(date) for date in dates if isinstance(date, str)) if t is not None)
    batch = number(run.settings.get("optim.global_batch_size")) or 0
    hours: list[float] = []
    total, before, step = 0.0, None, -1
    for line in run.lines:
        now, rate = number(line.get("time")), number(line.get("clips_per_second"))
        if now is not None:
            since = max([start for start in begun if start <= now], default=now)
            total += max(0.0, now - max(since, before if before is not None else since))
        elif rate:
            total += (line["step"] - step) * batch / rate
        before, step = now, line["step"]
        hours.append(total / 3600)
    return hours


def _tell_run(run: Run) -> list[tuple[str, str]]:
    row = row_of(run)
    state = ": ".join(filter(None, (row["state"], row["reason"])))
    steps = f"{run.num_done:,} of {'?' if run.num_steps is None else format(run.num_steps, ',')} steps"
    epochs = run.settings.get("optim.epochs", "?")
    took = training_seconds(run)
    return [
        ("run", str(run.path)),
        ("task", f"{run.task}, {run.model_name}, {run.selection}, {run.data_name}"),
        ("state", f"{state}; {steps} ({run.last('epoch') or 0:g} of {epochs} epochs)"),
        ("time", f"{'?' if took is None else tell_seconds(took)} of training; begun {run.started or '?'}"),
    ]


def _tell_starts(run: Run) -> list[tuple[str, str]]:
    rows = []
    for index, start in enumerate(run.starts):
        packages, cpu = start.get("packages"), start.get("cpu")
        gpus = start.get("gpus") if isinstance(start.get("gpus"), list) else []
        machine = ", ".join(map(str, gpus or [])) or (cpu.get("model") if isinstance(cpu, dict) else None) or "?"
        host = start["process"].get("host") if isinstance(start.get("process"), dict) else None
        versions = packages if isinstance(packages, dict) else {}
        text = f"{start.get('date', '?')} on {machine}{f' ({host})' if host else ''}"
        text += f", everest {versions.get('everest', '?')}, torch {versions.get('torch', '?')}"
        changed = start.get("changed_settings")
        if isinstance(changed, dict) and changed:
            text += f"; with {', '.join(f'{key}={_say(value)}' for key, value in changed.items())}"
        rows.append(("starts" if not index else "", text))
    if len(rows) > NUM_LISTED:
        rows = [*rows[:2], ("", f"... {len(rows) - 4} more"), *rows[-2:]]
    return rows


def _tell_metrics(run: Run) -> list[tuple[str, str]]:
    found = summarize(run)
    if found["first_loss"] is None:
        return []
    rows = [
        (
            "loss",
            f"{found['first_loss']:.4f} first, {found['best_loss']:.4f} lowest (step {found['best_loss_step']:,}), "
            f"{found['last_loss']:.4f} last",
        )
    ]
    if found["median_grad_norm"] is not None:
        skipped = found["skipped_steps"]
        tail = "" if skipped is None else f"; {skipped:g} steps skipped"
        norms = f"{found['median_grad_norm']:.3g} usually, {found['largest_grad_norm']:.3g} at most"
        rows.append(("gradient", norms + tail))
    if found["median_clips_per_second"] is not None:
        wait = found["median_wait_share"]
        tail = "" if wait is None else f", {wait:.0%} of the time waiting for data"
        rows.append(("speed", f"{found['median_clips_per_second']:.1f} clips/s{tail}"))
    return rows


def _again(command: Any) -> str:
    """Write the command that goes on with a run; empty where it was not started by a command."""
    if not isinstance(command, list) or len(command) < 2 or not all(isinstance(word, str) for word in command):
        return ""
    if Path(command[0]).name not in _PROGRAMS or command[1] not in TASKS:
        return ""
    words = ["everest", *command[1:]]
    if "--resume=auto" not in words and ("--resume", "auto") not in pairwise(words):
        words += ["--resume", "auto"]
    return shlex.join(words)


def _say(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bytes(number_of: int) -> str:
    size = float(number_of)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
