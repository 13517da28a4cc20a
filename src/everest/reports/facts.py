"""What a run is, in a few words and numbers; read from its folder, so whatever stands there may be missing or odd."""

from collections.abc import Mapping, Sequence
from typing import Any

from everest.history import Run, RunShown
from everest.history.files import number
from everest.history.run import tell_seconds
from everest.history.show import summarize, training_seconds
from everest.visualize import Folded, Section, Table

OBJECTIVES = {"pixels": "pixels of hidden tokens", "mme": "motion (MME)", "mvd": "features of teachers (MVD)"}
LOG_LINES = 200
UNKNOWN = "not a setting of the version that ran"


def title_of(run: Run) -> str:
    """Name a run and say what it is."""
    task = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}[run.task]
    return f"{task}: {run.path.absolute().name}"


def subtitle_of(run: Run) -> str:
    """Say in a line what was trained on what."""
    objective = str(run.settings.get("objective.name", "pixels"))
    learns = f", learning {OBJECTIVES.get(objective, objective)}" if run.task == "pretrain" else ""
    clips = run.data.get("num_clips")
    data = run.data_name + (f" ({clips:,} clips)" if type(clips) is int else "")
    begun = f", begun {run.started[:16].replace('T', ' ')} UTC" if run.started else ""
    return f"{run.model_name} on {data}; {tokens_of(run)}{learns}{begun}"


def tokens_of(run: Run) -> str:
    """Say which tokens are computed."""
    method = str(run.settings.get("selection.method", "?"))
    keep, encode = (number(run.settings.get(f"selection.{name}_ratio")) for name in ("keep", "encode"))
    if method == "all" or keep is None:
        return f"{method} tokens" if method == "all" else method
    if run.task == "pretrain" and encode is not None:
        if method in {"tube", "random"}:
            return f"{method} encodes {encode:.0%} of the tokens and predicts the others"
        return f"{method} keeps {keep:.0%} of the tokens, of which {encode / keep if keep else 0:.0%} are encoded"
    return f"{method} keeps {keep:.0%} of the tokens"


def state_notes(run: Run) -> tuple[str, ...]:
    """Say what a reader must know of a run that is not finished, or damaged."""
    state, reason = run.judge()
    steps = f"{run.num_done:,} of {'?' if run.num_steps is None else format(run.num_steps, ',')} steps"
    notes = []
    if state == "going on":
        notes.append(
            f"This run still goes on: {steps} were done when this page was made. Everything here is provisional."
        )
    if state == "stopped":
        why = f" ({reason})" if reason else ""
        notes.append(f"This run was stopped before its end: {steps} are done{why}. The same command goes on with it.")
    notes += [f"Something in the folder cannot be used: {problem}." for problem in run.problems]
    return tuple(notes)


def facts_table(run: Run) -> Table:
    """List what a run was and what it ran on."""
    took = training_seconds(run)
    start = run.data.get("start")
    weights = start.get("checkpoint") if isinstance(start, Mapping) else None
    rows = [
        ("state", f"{run.state}; {run.num_done:,} of {say(run.num_steps)} steps, "
                  f"{run.last('epoch') or 0:g} of {say(run.settings.get('optim.epochs'))} epochs"),
        ("training took", "?" if took is None else tell_seconds(took)),
        ("data", f"{say(run.data.get('source'))}; {say(run.data.get('num_clips'))} clips of "
                 f"{say(run.data.get('num_files'))} files to learn from"),
        ("digest of the data", str(run.data.get("manifest_digest", "?"))[:16]),
    ]  # fmt: skip
    rows += [("held out", str(run.data.get("note")))] * bool(run.data.get("note"))
    if run.task == "finetune":
        rows.append(("weights at the start", str(weights) if weights else "fresh ones"))
    rows += [(f"ran on{f' (start {index})' * (len(run.starts) > 1)}", machine_of(each))
             for index, each in enumerate(run.starts[-3:], start=max(1, len(run.starts) - 2))]  # fmt: skip
    command = run.starts[-1].get("command") if run.starts else None
    if isinstance(command, list):
        rows.append(("command", " ".join(map(str, command))))
    return Table((), tuple(rows))


def machine_of(start: Mapping[str, Any]) -> str:
    """Say what one start of a run ran on: hardware, versions, commit."""
    packages, cpu, git = start.get("packages"), start.get("cpu"), start.get("everest_git")
    gpus = start.get("gpus")
    versions = packages if isinstance(packages, Mapping) else {}
    hardware = ", ".join(map(str, gpus)) if isinstance(gpus, list) else ""
    if not hardware and isinstance(cpu, Mapping):
        hardware = f"{cpu.get('model') or 'a CPU'}, {cpu.get('threads', '?')} threads"
    commit = str(git.get("commit"))[:10] if isinstance(git, Mapping) else ""
    dirty = " with changes" if isinstance(git, Mapping) and git.get("dirty") else ""
    date = str(start.get("date", "?"))[:16].replace("T", " ")
    version = f"everest {versions.get('everest', '?')}" + (f" at {commit}{dirty}" if commit else "")
    return f"{hardware or '?'}; {version}, torch {versions.get('torch', '?')}; {date} UTC"


def settings_section(shown: RunShown) -> Section:
    """The settings that differ from the nearest recipe, then all of them and the log, folded."""
    run, recipe = shown.run, shown.recipe
    words = f"Nearest recipe: {recipe.name}; it is the one with the fewest settings that differ."
    tables: tuple[Table, ...] = ()
    if not recipe.name:
        words = "No recipe is for such a run."
    elif not recipe.differing:
        words = f"All settings are those of the recipe {recipe.name}."
    else:
        rows = tuple(
            (key, say(mine) if key in run.settings else UNKNOWN, say(theirs))
            for key, (theirs, mine) in recipe.differing.items()
        )
        tables = (Table(("setting", "this run", f"recipe {recipe.name}"), rows),)
    every = Table(("setting", "value"), tuple((key, say(value)) for key, value in run.settings.items()))
    folded = [Folded(f"All {len(run.settings)} settings", (every,))]
    if run.log:
        cut = f", the last {LOG_LINES} lines" if len(run.log) > LOG_LINES else ""
        folded.append(Folded(f"What the run said (log.txt{cut})", lines=tuple(run.log[-LOG_LINES:])))
    return Section("Settings", (words,), tables=tables, folded=tuple(folded))


def speed_rows(run: Run) -> list[tuple[str, str]]:
    """How fast a run was, and what it needed."""
    found = summarize(run)
    rate, batch = found["median_clips_per_second"], number(run.settings.get("optim.global_batch_size"))
    waits, memory = found["median_wait_share"], [number(line.get("gpu_memory_gb")) for line in run.lines]
    most = max((value for value in memory if value is not None), default=None)
    took = training_seconds(run)
    rows = [("training, without pauses", "" if took is None else tell_seconds(took))]
    if rate:
        rows.append(("clips per second, median", f"{rate:.3g}"))
    if rate and batch:
        rows.append((f"seconds for a step of {batch:g} clips, median", f"{batch / rate:.3g}"))
    if waits is not None:
        rows.append(("of that, waiting for data (reading and decoding)", f"{waits:.0%}"))
    rows.append(("GPU memory at most", "none recorded (not on a GPU)" if most is None else f"{most:.1f} GB"))
    rows.append(("skipped steps", "?" if found["skipped_steps"] is None else f"{found['skipped_steps']:g}"))
    return rows


def cannot_read(run: Run) -> Sequence[str]:
    """List what the log says of files that could not be read."""
    return [line.removeprefix("cannot read ") for line in run.log if line.startswith("cannot read ")]


def say(value: Any) -> str:
    """Write a value of a setting for people."""
    if value is None:
        return "none"
    return f"{value:,}" if type(value) is int and value >= 10_000 else str(value)
