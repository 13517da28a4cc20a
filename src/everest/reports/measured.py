"""The sections of a page that say how well a run does."""

from collections.abc import Sequence
from dataclasses import replace

from everest.datasets import Manifest
from everest.errors import VideoError
from everest.evaluation import ClipResult, Evaluation, hardest, most_probable
from everest.inference import inspect_video, read_clip
from everest.reports.clips import CANNOT_BE_SHOWN, MAX_UNREADABLE
from everest.reports.parts import Parts
from everest.visualize import (
    Folded,
    HardClip,
    Section,
    Table,
    animate_small,
    encode_webp,
    evaluation_section,
    hardest_section,
)

NUM_ANIMATED, NUM_HARD = 6, 20
ANIMATION_FPS = 6.0
NUM_FAILURES = 100  # that are listed
RUN_ITSELF = "the run itself"
NEARLY_ALL = 0.9  # of the predictions: whoever names one class so often has hardly learnt to tell clips apart


def accuracy_sections(parts: Parts) -> list[Section]:
    """Accuracy, confusion and the hardest clips; nothing of pre-training, which has none."""
    run, evaluation = parts.run, parts.evaluation
    if run.task == "pretrain":
        return []
    if evaluation is None:
        on_the_way = run.last("top1")
        words = "This run was not evaluated at its end"
        words += "" if on_the_way is None else f"; the last accuracy on the way was {on_the_way:.1%}, without interval"
        words += ". `everest report RUN --evaluate` measures the weights that are there, on clips that were held out."
        return [Section("Accuracy", notes=(words,))]
    notes = []
    learnt = run.data.get("part_digest")
    if evaluation.part_digest and evaluation.part_digest == learnt:
        notes.append("These are the clips that it was trained on: this says nothing about other clips.")
    if run.state != "finished":
        notes.append("The run is not finished: these are the numbers of the weights at the time of the evaluation.")
    if evaluation.failures:
        notes.append(f"{len(evaluation.failures)} clips cannot be read and are in none of these numbers.")
    notes += doubts(evaluation, "this run")
    section = evaluation_section({"this run": evaluation}, notes=notes)
    found = [replace(section, folded=(*section.folded, *_folded(parts, evaluation)))]
    return [*found, _hardest(parts, evaluation)] if evaluation.predictions else found


def is_no_better(evaluation: Evaluation) -> bool:
    """Whether the interval of an accuracy reaches what naming the most frequent class every time would give."""
    return evaluation.top1_interval[0] <= evaluation.majority


def doubts(evaluation: Evaluation, name: str) -> list[str]:
    """Say what an accuracy alone hides: that it takes no model to reach it, and that all clips are called the same.

    Args:
        evaluation: Of a run.
        name: What to call the run.
    """
    found = []
    if is_no_better(evaluation):
        is_below = evaluation.top1_interval[1] < evaluation.majority
        reaches = "all of its interval is below" if is_below else "its interval reaches"
        found.append(
            f"By these clips, {name} is no better than naming the most frequent class every time: that gives "
            f"{evaluation.majority:.1%}, and {reaches} that."
        )
    counts, true = evaluation.confusion.sum(dim=0), evaluation.confusion.sum(dim=1)
    total, place = int(counts.sum()), int(counts.argmax()) if counts.numel() else 0
    if total and counts[place] >= NEARLY_ALL * total > true[place]:
        found.append(
            f"Of {total:,} clips, {name} takes {int(counts[place]):,} for {evaluation.class_names[place]}; "
            f"{int(true[place]):,} are."
        )
    return found


def _folded(parts: Parts, evaluation: Evaluation) -> list[Folded]:
    """What could not be evaluated, and other evaluations in the folder."""
    folded = []
    if evaluation.failures:
        failed = tuple((str(each.path), each.reason) for each in evaluation.failures[:NUM_FAILURES])
        folded.append(Folded("Clips that cannot be read", (Table(("clip", "why"), failed),)))
    if len(parts.others) > 1:
        rows = []
        for name, each in parts.others.items():
            place = RUN_ITSELF if name == "." else name
            interval = "{:.0%} to {:.0%}".format(*each.top1_interval)
            rows.append((place, f"{each.top1:.1%}", interval, str(each.num_clips), str(each.num_views)))
        table = Table(("in", "top-1", "95 % interval", "clips", "views"), tuple(rows))
        folded.append(Folded("All evaluations in the folder, the newest first", (table,)))
    return folded


def _hardest(parts: Parts, evaluation: Evaluation) -> Section:
    """Show the clips that cost most loss."""
    part = parts.clips.part(evaluation.part_digest)
    worst = hardest(evaluation, NUM_HARD)
    shown: list[HardClip] = []
    why_not, in_a_row = parts.clips.why_not, 0
    if part is None and not why_not:
        why_not = "the evaluated clips are not among the data of the run: name theirs with --data to see them"
    for place, result in enumerate(worst):
        animation = None
        if part is not None and parts.info is not None and place < NUM_ANIMATED and in_a_row < MAX_UNREADABLE:
            try:
                animation = _animation(parts, part, result)
                in_a_row = 0
            except CANNOT_BE_SHOWN as error:
                why_not = f"not all of them can be shown: {error}"
                in_a_row += 1
        shown.append(_hard_clip(result, evaluation.class_names, animation))
    section = hardest_section(shown, len(evaluation.predictions))
    return replace(section, notes=(*section.notes, f"No pictures: {why_not}.")) if why_not else section


def _hard_clip(result: ClipResult, names: Sequence[str], animation: bytes | None) -> HardClip:
    begins = "" if result.start_seconds is None else f", {result.start_seconds:g} s"
    guess = most_probable(result)
    return HardClip(
        f"{result.path.stem}{begins}",
        (names[result.label], float(result.probabilities[result.label])),
        (names[guess], float(result.probabilities[guess])),
        animation,
    )


def _animation(parts: Parts, part: Manifest, result: ClipResult) -> bytes:
    """Draw the middle clip of what was evaluated, and what is kept of it.

    Raises:
        VideoError: It cannot be read.
    """
    if result.record_index >= len(part):
        raise VideoError(f"the evaluation names clip {result.record_index} of {len(part)}")
    record = part.records[result.record_index]
    if parts.looker is None:
        assert parts.info is not None  # noqa: S101 - for the type checker: the caller has looked
        clip, _ = read_clip(record, parts.info)
        return encode_webp(animate_small(clip[0], None), ANIMATION_FPS)
    found = inspect_video(parts.looker, record)
    selection = found.selections[found.info.selection.method]
    return encode_webp(animate_small(found.clip, selection), ANIMATION_FPS)
