"""Parts of reports, each with the words that keep a newcomer from misreading it.

Shapes: T frames, T' candidate frames, H height, W width, N tokens, V visible, M targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from everest.inference import Reconstruction
from everest.tokens import TokenGrid
from everest.visualize.charts import curves
from everest.visualize.report import Figure, Section, Table, encode_picture
from everest.visualize.tokens import Picture, draw_pairs, draw_scores, draw_selection, slot_pictures, strip

SLOTS_IN_A_SHEET = 8
CHOSEN_BY_CHANGE = "Only tokens that change from one time slot to the next are used."
RECONSTRUCTION_ROWS = (
    "original",
    "what the encoder saw",
    "predicted, with TRUE statistics of each patch (leaks the answer)",
    "predicted, with statistics of visible patches (no leak)",
)


@dataclass(frozen=True, eq=False)
class SelectionExample:
    """One clip and the tokens that were selected.

    Attributes:
        name: What to call it.
        clip: Shape [3, T, H, W], values 0 to 1 or uint8.
        visible: Numbers of the encoded tokens, shape [V].
        target: Numbers of the predicted tokens, shape [M].
        scores: Change of every token, shape [N].
        grid: The tokens of the clip.
    """

    name: str
    clip: Tensor
    visible: Tensor
    target: Tensor
    scores: Tensor
    grid: TokenGrid

    def __repr__(self) -> str:
        return f"SelectionExample({self.name!r}, {list(self.clip.shape)})"


@dataclass(frozen=True, eq=False)
class FramesExample:
    """Candidate frames of one clip and the pairs that were chosen.

    Attributes:
        name: What to call it.
        candidates: Shape [3, T', H, W], values 0 to 1 or uint8.
        pairs: Numbers of the chosen pairs, shape [k].
        counts: Selected tokens of each candidate pair, shape [n].
        tubelet_size: Frames of a pair.
    """

    name: str
    candidates: Tensor
    pairs: Tensor
    counts: Tensor
    tubelet_size: int

    def __repr__(self) -> str:
        return f"FramesExample({self.name!r}, {list(self.candidates.shape)})"


def curves_section(runs: Mapping[str, Sequence[Mapping[str, Any]]], heading: str = "Learning curves") -> Section:
    """Loss over steps, and accuracy over epochs where it was measured.

    Args:
        runs: Lines of metrics.jsonl by name of the run.
        heading: Of the section.
    """
    losses = {name: _points(rows, "step", "loss") for name, rows in runs.items()}
    top1 = {name: _points(rows, "epoch", "top1") for name, rows in runs.items()}
    figures = [
        Figure(
            curves(losses, "Loss on training clips", "optimiser step", "loss"),
            "Loss of each step's batch.",
            f"Line chart of the training loss of {', '.join(runs)}",
        )
    ]
    if any(top1.values()):
        figures.append(
            Figure(
                curves(top1, "Accuracy on held-out clips", "epoch", "top-1"),
                "Accuracy on clips that were not trained on.",
                f"Line chart of the accuracy of {', '.join(runs)}",
            )
        )
    words = (
        "Lower is better, but a loss on training clips says nothing about other clips. Losses of pre-training and of "
        "fine-tuning measure different things and cannot be compared with each other."
    )
    return Section(heading, (words,), figures=tuple(figures))


def selection_section(
    examples: Sequence[SelectionExample], heading: str = "What was kept", chosen: str = CHOSEN_BY_CHANGE
) -> Section:
    """Tokens drawn over frames, and the scores that they were chosen by.

    Args:
        examples: Clips.
        heading: Of the section.
        chosen: Which tokens are used, in a sentence.
    """
    words = (
        f"A clip is cut into tokens of a few frames and a small square each. {chosen} Orange: encoded. Blue: hidden, "
        "and to be predicted (in pre-training only). Dark: dropped; the model never sees them and is never asked for "
        "them. The first two slots always share their scores, because nothing comes before the first.",
        "The second row is the score: yellow changes most of all tokens of this clip, dark blue does not change. The "
        "scale is each clip's own, so clips cannot be compared by colour. A change of light or of the camera scores "
        "like any other change.",
    )
    figures = []
    for example in examples:
        kept = draw_selection(example.clip, example.visible, example.target, example.grid)
        heat = draw_scores(example.clip, example.scores, example.grid)
        slots = _shown_slots(example.grid)
        rows = [[kept[slot] for slot in slots], [heat[slot] for slot in slots]]
        counts = f"{len(example.visible)} encoded"
        counts += f", {len(example.target)} predicted" if len(example.target) else ""
        figures.append(
            Figure(
                encode_picture(strip(rows, captions=_captions(slots))),
                f"{example.name}: {counts}, of {example.grid.num_tokens} tokens.",
                f"First frame of every time slot of {example.name}; above the kept tokens, below the scores",
            )
        )
    return Section(heading, words, figures=tuple(figures))


def reconstruction_section(examples: Mapping[str, Reconstruction], heading: str = "Reconstructions") -> Section:
    """What pre-training predicts, with and without the true statistics of the patches."""
    words = (
        "Pre-training hides tokens and predicts their pixels from the others. It predicts them normalised: each patch "
        "less its own mean, over its own standard deviation. To show a picture, both must be put back.",
        "Third row: the true mean and standard deviation of each hidden patch are used. They leak the patch's "
        "brightness, colour and contrast, so this row looks better than what the model knows. Fourth row: those of the "
        "nearest visible patch are used, which the model could know. Grey patches are dropped: nobody predicts them.",
    )
    figures = tuple(
        Figure(
            encode_picture(draw_reconstruction(result)),
            name,
            f"Four rows of frames of {name}: {'; '.join(RECONSTRUCTION_ROWS)}",
        )
        for name, result in examples.items()
    )
    return Section(heading, words, figures=figures)


def draw_reconstruction(result: Reconstruction) -> Picture:
    """Draw the first clip of a reconstruction: four rows of frames, labelled for what they are."""
    clips = (result.original, result.encoded_only, result.with_true_statistics, result.with_visible_statistics)
    grid = result.selection.grid
    slots = _shown_slots(grid)
    rows = [[picture for slot, picture in enumerate(slot_pictures(clip[0], grid)) if slot in slots] for clip in clips]
    return strip(rows, labels=RECONSTRUCTION_ROWS, captions=_captions(slots))


def frames_section(examples: Sequence[FramesExample], heading: str = "Selected frames") -> Section:
    """Candidate pairs of frames, their counts, and which were chosen."""
    words = (
        "Information-intensive frame selection takes more pairs of frames than needed and draws some of them, the "
        "likelier the more changing tokens a pair has. The number under each pair is its count; orange frames mark the "
        "pairs that were drawn. It is a draw: a pair with a lower count may win.",
    )
    figures = tuple(
        Figure(
            encode_picture(draw_pairs(e.candidates, e.pairs, e.counts, e.tubelet_size)),
            f"{e.name}: {len(e.pairs)} of {len(e.counts)} candidate pairs.",
            f"Candidate frames of {e.name} with the numbers of their changing tokens; chosen ones are framed",
        )
        for e in examples
    )
    return Section(heading, words, figures=figures)


def timings_section(seconds: Mapping[str, float], machine: str, heading: str = "Timings") -> Section:
    """How long each stage took, and on what."""
    rows = tuple((name, f"{value:.1f} s") for name, value in seconds.items())
    return Section(heading, (f"Measured on: {machine}.",), tables=(Table(("stage", "time"), rows),))


def settings_section(settings: Mapping[str, Mapping[str, Any]], heading: str = "Settings") -> Section:
    """Every setting of every run, by the key that --set takes."""
    keys = list(dict.fromkeys(key for values in settings.values() for key in values if key != "task"))
    rows = tuple((key, *(str(values.get(key, "")) for values in settings.values())) for key in keys)
    return Section(heading, tables=(Table(("key", *settings), rows),))


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    return [(row[x], row[y]) for row in rows if row.get(y) is not None]


def _shown_slots(grid: TokenGrid) -> range:
    """Time slots that a sheet has room for, evenly spread."""
    return range(0, grid.num_slots, -(-grid.num_slots // SLOTS_IN_A_SHEET))


def _captions(slots: range) -> list[str]:
    return [f"slot {slot}" for slot in slots]
