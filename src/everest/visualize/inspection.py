"""The pictures of ``everest inspect``, each a file of its own and a part of one page.

Shapes: T frames, T' candidate frames, N tokens, t time slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everest.config import VARYING, SelectionMethod
from everest.inference import Inspection
from everest.visualize.animation import animate, encode_gif, encode_mp4
from everest.visualize.charts import counts_per_slot
from everest.visualize.report import Figure, Report, Section, Table, encode_picture
from everest.visualize.sections import FramesExample, draw_reconstruction, frames_section, reconstruction_section
from everest.visualize.tokens import Picture, draw_pairs, draw_scores, draw_selection, slot_pictures, strip

ANIMATION_FPS = 6.0
NAMES: dict[SelectionMethod, str] = {
    "rero": "ReRo (EVEREST): the tokens that change most",
    "adaptive": "adaptive: as many changing tokens as cover the clip's motion",
    "rlt": "run-length: tubelets that differ from those before",
    "k_centered": "K-centered: tubelets that represent the others",
    "random": "random (agnostic): drawn from everywhere",
    "random_equal": "random, as many as ReRo: the control",
    "tube": "tube (VideoMAE): the same places through all slots",
    "running_cell": "running cell: places that move on from slot to slot",
    "all": "all tokens",
}
"""What each selection is, in the words of a picture's label."""
VARIES = "differs from clip to clip"  # what a selection costs that keeps as many tokens as a clip asks for


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one clip's forward pass.

    Attributes:
        gmacs: With a selection, in 10^9.
        full_gmacs: Where no token is dropped.
        full: What that is called.
        model: Whose forward pass it is.
    """

    gmacs: float
    full_gmacs: float
    full: str
    model: str

    @property
    def share(self) -> float:
        """Of the cost where no token is dropped."""
        return self.gmacs / self.full_gmacs


@dataclass(frozen=True)
class Drawn:
    """Everything that is drawn.

    Attributes:
        sheets: Pictures by name, without an ending.
        files: Contents of what is no single picture of ours, a chart and animations, by file name.
    """

    sheets: dict[str, Picture]
    files: dict[str, bytes]

    def contents(self) -> dict[str, bytes]:
        """Contents of all files by their names; pictures as PNG, which loses nothing."""
        return {f"{name}.png": encode_picture(sheet, "png") for name, sheet in self.sheets.items()} | self.files


def draw_inspection(found: Inspection, *, mp4: bool = False) -> Drawn:
    """Draw every picture; those of what was not looked at are left out.

    Args:
        found: What to draw.
        mp4: Add the animation as a video.
    """
    first = next(iter(found.selections))
    moving = animate(found.clip, found.scores["embedding"], found.selections[first])
    sheets = {"concept": concept(found), "scores": score_rows(found), "selection": selection_rows(found, [first])}
    if len(found.selections) > 1:
        sheets["compare"] = selection_rows(found, list(found.selections))
    if found.candidates is not None and found.frames is not None:
        sheets["frames"] = draw_pairs(
            found.candidates, found.frames.pairs[0], found.frames.counts[0], found.grid.tubelet_size
        )
    if found.reconstruction is not None:
        sheets["reconstruction"] = draw_reconstruction(found.reconstruction)
    slots: dict[str, list[int]] = {method: found.per_slot(method) for method in found.selections}
    files = {
        "tokens_per_slot.png": counts_per_slot(slots, found.grid.tokens_per_slot),
        "selection.gif": encode_gif(moving, ANIMATION_FPS),
    }
    if mp4:
        files["selection.mp4"] = encode_mp4(moving, ANIMATION_FPS)
    return Drawn(sheets, files)


def concept(found: Inspection) -> Picture:
    """The idea in one picture: a video, what changes in it, which tokens chance would take, and which ReRo takes."""
    rows = [list(slot_pictures(found.clip, found.grid)), list(_heat(found, "embedding"))]
    labels = ["video: the first frame of every time slot", "change from the slot before (yellow: most)"]
    first = next(iter(found.selections))
    by_chance: list[SelectionMethod] = [method for method in ("tube", "random") if method in found.selections]
    for method in dict.fromkeys((*by_chance[:1], first)):
        rows.append(_drawn(found, method))
        labels.append(_label(found, method))
    return strip(rows, labels=labels, captions=_times(found))


def score_rows(found: Inspection) -> Picture:
    """The frames, and the scores by the embedding and by the pixels."""
    rows = [list(slot_pictures(found.clip, found.grid))]
    rows += [list(_heat(found, measure)) for measure in found.scores]
    labels = ["video: the first frame of every time slot"]
    labels += [f"change measured by {_measure(found, measure)}{_way(found)}" for measure in found.scores]
    return strip(rows, labels=labels, captions=_times(found))


def selection_rows(found: Inspection, methods: Sequence[SelectionMethod]) -> Picture:
    """One row for each selection: orange encoded, blue predicted, dark dropped."""
    return strip(
        [_drawn(found, method) for method in methods],
        labels=[_label(found, method) for method in methods],
        captions=_times(found),
    )


def inspection_report(found: Inspection, drawn: Drawn, costs: Mapping[SelectionMethod, Cost]) -> Report:
    """Make the page.

    Args:
        found: What the pictures show.
        drawn: From :func:`draw_inspection`.
        costs: By method, of those that have one.
    """
    sections = [_method(found, drawn), _scores(found, drawn), _compared(found, drawn, costs)]
    if found.candidates is not None and found.frames is not None:
        frames = FramesExample(
            found.source.name, found.candidates, found.frames.pairs[0], found.frames.counts[0], found.grid.tubelet_size
        )
        sections.append(frames_section([frames]))
    if found.reconstruction is not None:
        sections.append(reconstruction_section({found.source.name: found.reconstruction}))
    _, num_frames, height, width = found.clip.shape
    clip = f"{found.seconds[0]:.2f} s to {found.seconds[-1]:.2f} s, {num_frames} frames of {height} x {width} pixels"
    tokens = f"{found.grid.num_tokens} tokens in {found.grid.num_slots} time slots"
    return Report(
        f"What is looked at in {found.source.name}",
        f"{clip}; {tokens}; scored by {found.embedding}",
        tuple(sections),
    )


def say_repeats(found: Inspection) -> str:
    """Say that a clip is longer than what it was taken from; nothing where it is not."""
    if not found.repeated:
        return ""
    repeat = "repeats" if len(found.repeated) == 1 else "repeat"
    return (
        f"{len(found.repeated)} of the {len(found.seconds)} frames {repeat} the one before, as the video, or the "
        "part of it that is looked at, has no more: nothing changes there."
    )


def numbers(found: Inspection, costs: Mapping[SelectionMethod, Cost]) -> dict[str, object]:
    """Say in numbers what the pictures show; for JSON."""
    return {
        "video": str(found.source),
        "start_seconds": found.seconds[0],
        "end_seconds": found.seconds[-1],
        "num_repeated_frames": len(found.repeated),
        "embedding": found.embedding,
        "scored_by": found.info.selection.model_dump(include={"scoring", "distance", "camera"}),
        "num_tokens": found.grid.num_tokens,
        "num_slots": found.grid.num_slots,
        "selections": {
            method: {
                "num_encoded": len(selection.visible[0]),
                "num_predicted": len(selection.target[0]),
                "kept_per_slot": found.per_slot(method),
                "share_of_change_kept": found.covered(method),
                "share_of_change_encoded": found.covered(method, encoded=True),
                "gmacs": costs[method].gmacs if method in costs else None,
                "full_cost": costs[method].full if method in costs else None,
                "share_of_full_cost": costs[method].share if method in costs else None,
            }
            for method, selection in found.selections.items()
        },
        "frames": None
        if found.frames is None
        else {"counts": found.frames.counts[0].tolist(), "chosen_pairs": found.frames.pairs[0].tolist()},
    }


def _method(found: Inspection, drawn: Drawn) -> Section:
    words = (
        "A clip is cut into tokens: small squares of a few frames. Only some of them are computed. Orange tokens are "
        "encoded. Blue ones are hidden, and pre-training predicts them; a fine-tuned model has none. Dark ones are "
        "dropped: nothing looks at them, so they cost nothing.",
        "Which tokens of the kept ones are orange and which blue is drawn by lot. The first two time slots always have "
        "the same scores, because nothing comes before the first one.",
    )
    notes = (repeats,) if (repeats := say_repeats(found)) else ()
    first = next(iter(found.selections))
    figures = (
        Figure(drawn.files["selection.gif"], f"{_label(found, first)}.", "Animation: video, scores and kept tokens"),
        Figure(
            encode_picture(drawn.sheets["concept"]),
            "The idea in one picture.",
            "Frames, scores and the tokens of each selection",
        ),
    )
    return Section("What is kept", words, notes, figures=figures)


def _scores(found: Inspection, drawn: Drawn) -> Section:
    camera = found.info.selection.camera
    surprises = {
        "still": "A change of light, a cut or a moving camera scores like any other change: look for that first where "
        "the selection surprises.",
        "moving": "A camera that pans is followed: what is compared has been moved as it has. A change of light, a "
        "cut, and a camera that turns or zooms score like any other change.",
    }
    words = (
        "The score of a token is the distance between its embedding and that of the token at the same place one time "
        "slot before. Yellow changes most of all tokens in this clip, dark blue does not change. Each row has a scale "
        "of its own, so a colour says nothing about another clip, nor about another row.",
        surprises[camera],
    )
    notes: tuple[str, ...] = ()
    if found.embedding.startswith("a random embedding"):
        notes = (
            "No checkpoint was given, so a random embedding scores the tokens. A random linear map nearly keeps "
            "distances, so this shows where pixels change; a trained embedding may weigh changes otherwise.",
        )
    figure = Figure(
        encode_picture(drawn.sheets["scores"]), "Above the video, below the scores.", "Frames and two rows of heat maps"
    )
    return Section("Scores", words, notes, figures=(figure,))


def _compared(found: Inspection, drawn: Drawn, costs: Mapping[SelectionMethod, Cost]) -> Section:
    header = ("selection", "encoded", "change in encoded tokens", "predicted", "change in both", "cost")
    rows = tuple(_row(found, method, costs.get(method)) for method in found.selections)
    models = sorted({cost.model for cost in costs.values()})
    words = [
        "Change is the sum of the scores. It says how much of what moves a selection has caught, not how well a model "
        "learns from it."
    ]
    if any(predicts_the_rest(found, method) for method in found.selections):
        words.append(
            "Who predicts all that is not encoded, as tube masking does, has all of the change in both: compare what "
            "is encoded."
        )
    if models:
        words.append(f"Cost is counted in multiply-adds of one forward pass of {' and '.join(models)}.")
    figures = [Figure(drawn.files["tokens_per_slot.png"], "Kept tokens of each time slot.", "Bars of the kept tokens")]
    if "compare" in drawn.sheets:
        words_below = "Orange: encoded. Blue: predicted. Dark: dropped."
        figures.insert(
            0, Figure(encode_picture(drawn.sheets["compare"]), words_below, "One row of frames for each selection")
        )
    return Section("Selections", tuple(words), tables=(Table(header, rows),), figures=tuple(figures))


def _row(found: Inspection, method: SelectionMethod, cost: Cost | None) -> tuple[str, ...]:
    """One line of the table of selections."""
    selection = found.selections[method]
    num_predicted = len(selection.target[0])
    said = f"{say_gmacs(cost.gmacs)} GMAC, {cost.share:.0%} of {cost.full}" if cost else ""
    return (
        NAMES[method],
        str(len(selection.visible[0])),
        f"{found.covered(method, encoded=True):.0%}",
        f"{num_predicted}, all the rest" if predicts_the_rest(found, method) else str(num_predicted),
        f"{found.covered(method):.0%}",
        VARIES if method in VARYING else said,
    )


def predicts_the_rest(found: Inspection, method: SelectionMethod) -> bool:
    """Whether nothing is dropped, as all that is not encoded is predicted."""
    return len(found.kept(method)) == found.grid.num_tokens and len(found.selections[method].target[0]) > 0


def say_gmacs(gmacs: float) -> str:
    """Write 10^9 multiply-adds with three digits, of a small network too."""
    return f"{gmacs:,.0f}" if gmacs >= 100 else f"{gmacs:.3g}"


def _drawn(found: Inspection, method: SelectionMethod) -> list[Picture]:
    selection = found.selections[method]
    return list(draw_selection(found.clip, selection.visible[0], selection.target[0], found.grid))


def _way(found: Inspection) -> str:
    """What is not as in the paper, for people."""
    selection = found.info.selection
    distance = "" if selection.distance == "l2" else f", {selection.distance}"
    return distance + ("" if selection.camera == "still" else ", beside the camera's motion")


def _heat(found: Inspection, measure: str) -> Picture:
    return draw_scores(found.clip, found.scores[measure], found.grid)


def _label(found: Inspection, method: SelectionMethod) -> str:
    selection = found.selections[method]
    counts = f"{len(selection.visible[0])} encoded"
    counts += f", {len(selection.target[0])} predicted" if len(selection.target[0]) else ""
    return f"{NAMES[method]} ({counts} of {found.grid.num_tokens})"


def _measure(found: Inspection, measure: str) -> str:
    return found.embedding if measure == "embedding" else "the pixels themselves"


def _times(found: Inspection) -> list[str]:
    """When each slot is in the video, and whether that was shown before."""
    size, again = found.grid.tubelet_size, set(found.repeated)
    return [
        f"{place // size}: {found.seconds[place]:.2f} s" + (" again" if place in again else "")
        for place in range(0, size * found.grid.num_slots, size)
    ]
