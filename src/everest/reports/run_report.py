"""The page about one run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from everest.bench.costs import TaskCost, beside_all_tokens
from everest.config import CheckpointInfo
from everest.errors import EverestError
from everest.evaluation import Evaluation
from everest.history import Run, points_of, show_run
from everest.history.show import summarize, training_seconds
from everest.reports.clips import ShownClips, frames_of, look_at, reconstructions_of, selection_of
from everest.reports.facts import (
    cannot_read,
    facts_table,
    settings_section,
    speed_rows,
    state_notes,
    subtitle_of,
    title_of,
)
from everest.reports.measured import accuracy_sections, is_no_better
from everest.reports.parts import Parts, collect
from everest.visualize import Card, Folded, Report, Section, Table, training_section
from everest.visualize.accuracy import NBSP
from everest.visualize.inspection import say_gmacs
from everest.visualize.training_curves import TRACES

NAME = "report.html"
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class RunReport:
    """The page about a run, and its numbers.

    Attributes:
        page: Ready to be written.
        values: What the page says in numbers, as JSON can hold it.
    """

    page: Report
    values: dict[str, Any]


def make_report(path: Path, *, clips: ShownClips | None = None, evaluation: Evaluation | None = None) -> RunReport:
    """Make the page about a run out of its folder. Nothing random is used up, and nothing is written.

    Args:
        path: The folder; the run may be going on, or stopped.
        clips: Its data; None: looked for where it was.
        evaluation: Of its weights; None: the newest in its folder.

    Raises:
        RunError: It is not the folder of a run. What else is wrong stands in the page.
    """
    with torch.random.fork_rng(devices=()):
        shown = show_run(path)
        parts = collect(shown.run, clips, evaluation)
        costs = () if parts.info is None else _costs(parts.info)
        sections = [
            Section("The run", tables=(facts_table(shown.run),)),
            *accuracy_sections(parts),
            *_pictures(parts),
            training_section({trace.name: points_of(shown.run, trace.name, "steps") for trace in TRACES}),
            _cost_section(parts, costs),
            settings_section(shown),
        ]
    page = Report(
        title_of(shown.run),
        subtitle_of(shown.run),
        tuple(sections),
        state_notes(shown.run),
        _cards(parts, costs),
    )
    return RunReport(page, _values(parts, costs))


def _pictures(parts: Parts) -> list[Section]:
    """Show what was kept, and predicted, of a few clips."""
    heading = "What was kept"
    if parts.looker is None:
        return [Section(heading, notes=(f"No pictures: {parts.no_looker}.",))]
    examples, were_learnt = parts.clips.examples(NUM_EXAMPLES)
    found, problems = look_at(parts.looker, examples)
    if not found:
        why = parts.clips.why_not or "; ".join(problems)
        return [Section(heading, notes=(f"No pictures: {why}.",))]
    which = "These clips were not learnt from."
    if were_learnt:
        which = "The run has learnt from these very clips, as no others were held out: it may know them by heart."
    section = selection_of(found)
    section = replace(section, paragraphs=(which, *section.paragraphs), notes=tuple(problems))
    predicted = reconstructions_of(found)
    if predicted is not None:
        predicted = replace(predicted, paragraphs=(which, *predicted.paragraphs))
    return [each for each in (section, predicted, frames_of(found)) if each is not None]


def _costs(info: CheckpointInfo) -> tuple[TaskCost, ...]:
    try:
        return beside_all_tokens(info)
    except EverestError:  # settings that make no sense together: somebody has changed them since
        return ()


def _cost_section(parts: Parts, costs: Sequence[TaskCost]) -> Section:
    """How fast it was, and what it costs beside all tokens."""
    run = parts.run
    rows = speed_rows(run)
    if parts.evaluation is not None and parts.evaluation.seconds > 0:
        rows.append(
            ("the evaluation", f"{parts.evaluation.seconds:.1f} s, {parts.evaluation.clips_per_second:.1f} clips/s")
        )
    tables = [Table((), tuple(rows))]
    words = ["Medians over the logged steps. More in docs/speed.md."]
    if costs:
        words.append(
            "Cost is counted in multiply-adds (10^9, GMAC) of one clip, once forward, and forward and backward in "
            "training, scoring of the tokens included. It is not time: that depends on the machine, and on waiting for "
            "data."
        )
        whole = costs[-1]
        header = ("tokens of one clip", "encoded", "predicted", "of", "GMAC forward", "GMAC training", "share")
        tables.append(Table(header, tuple(_cost_row(each, whole) for each in costs)))
    elif parts.info is not None:
        words.append(_no_cost(run))
    failed = cannot_read(run)
    folded = (Folded(f"{len(failed)} files could not be read", lines=tuple(failed[:200])),) if failed else ()
    return Section("Time and cost", tuple(words), tables=tuple(tables), folded=folded)


def _cost_row(cost: TaskCost, whole: TaskCost) -> tuple[str, ...]:
    return (
        cost.name,
        str(cost.num_encoded),
        str(cost.num_predicted),
        str(cost.num_tokens),
        say_gmacs(cost.gmacs),
        say_gmacs(cost.gmacs_training),
        f"{cost.gmacs_training / whole.gmacs_training:.0%}",
    )


def _no_cost(run: Run) -> str:
    tokens = run.last("tokens_per_clip")
    counted = "" if tokens is None else f" In the last logged step a clip had {tokens:.0f} of them."
    return (
        f"Multiply-adds are not counted: this network or selection takes other numbers of tokens of each clip.{counted}"
    )


def _cards(parts: Parts, costs: Sequence[TaskCost]) -> tuple[Card, ...]:
    """The numbers that are looked for first."""
    run, evaluation, found = parts.run, parts.evaluation, summarize(parts.run)
    cards = []
    if evaluation is not None:
        interval = "{:.0%} to {:.0%}".format(*evaluation.top1_interval)
        cards.append(
            Card(f"{evaluation.top1:.1%}", f"top-1 on {evaluation.num_clips:,} clips; 95{NBSP}% interval {interval}")
        )
        than = "; the run is no better" if is_no_better(evaluation) else ""
        cards.append(Card(f"{evaluation.majority:.1%}", f"naming the most frequent class every time{than}"))
    elif run.task == "finetune" and (top1 := run.last("top1")) is not None:
        cards.append(Card(f"{top1:.1%}", "top-1, on the way"))
    if found["last_loss"] is not None:
        cards.append(
            Card(f"{found['last_loss']:.3g}", f"loss of the last step; {found['first_loss']:.3g} at the first")
        )
    if len(costs) > 1:
        this, whole = costs
        share = f"{this.gmacs_training / whole.gmacs_training:.0%}"
        tokens = f"{this.num_encoded + this.num_predicted} of {this.num_tokens} tokens"
        cards.append(Card(share, f"of the training cost of {whole.name}, at {tokens}"))
    if found["median_clips_per_second"] is not None:
        waits = found["median_wait_share"]
        waiting = "" if waits is None else f"; {waits:.0%} of the time waiting for data"
        cards.append(Card(f"{found['median_clips_per_second']:.3g}", f"clips per second{waiting}"))
    return tuple(cards)


def _values(parts: Parts, costs: Sequence[TaskCost]) -> dict[str, Any]:
    run, evaluation = parts.run, parts.evaluation
    state, reason = run.judge()
    return {
        "run": str(run.path),
        "task": run.task,
        "state": state,
        "reason": reason,
        "num_done": run.num_done,
        "num_steps": run.num_steps,
        "metrics": summarize(run),
        "training_seconds": training_seconds(run),
        "evaluation": None if evaluation is None else evaluation.to_dict(predictions=False),
        "cost": [vars(each) for each in costs],
        "clips": parts.clips.why_not or "shown",
        "problems": list(run.problems),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
