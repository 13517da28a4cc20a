"""Look at a video as the method does, and write what is seen into a folder."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from everest.bench.costs import costs_of
from everest.config import VARYING, CheckpointInfo, ModelConfig, SelectionMethod
from everest.datasets import ClipRecord, load_data
from everest.errors import ConfigError, RunError
from everest.inference import WITHOUT_CHECKPOINT, Inspection, Looker, inspect_video
from everest.settings import override, parse
from everest.texts import printable
from everest.training.files import atomic_write
from everest.visualize import draw_inspection, inspection_report, numbers, say_repeats
from everest.visualize.inspection import VARIES, predicts_the_rest

NUMBERS = "inspection.json"
SOMETIMES = ("compare.png", "frames.png", "reconstruction.png", "selection.mp4")  # the others are always drawn
COMPARED: tuple[SelectionMethod, ...] = ("rero", "tube", "random", "rlt")


@dataclass(frozen=True)
class InspectReport:
    """What was written.

    Attributes:
        out: The folder.
        files: Names of the files in it, the page first.
        values: What inspection.json holds.
        found: What was seen.
    """

    out: Path
    files: tuple[str, ...]
    values: dict[str, Any]
    found: Inspection

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        lines = [f"{printable(self.values['video'])}, scored by {self.values['embedding']}"]
        lines += [self._say(method, each) for method, each in self.values["selections"].items()]
        if repeats := say_repeats(self.found):
            lines.append(f"note: {repeats}")
        return "\n".join([*lines, f"pictures: {self.out / self.files[0]}"])

    def _say(self, method: SelectionMethod, each: dict[str, Any]) -> str:
        """Tell of a selection, first what is encoded: tube masking predicts all the rest, and so catches everything."""
        num_tokens, encoded, both = (
            self.values["num_tokens"],
            each["share_of_change_encoded"],
            each["share_of_change_kept"],
        )
        told = f"{each['num_encoded']} of {num_tokens} tokens encoded, {encoded:.0%} of the change"
        if each["num_predicted"]:
            rest = " (all the rest)" if predicts_the_rest(self.found, method) else ""
            told += f"; {each['num_predicted']} predicted{rest}, {both:.0%} in both"
        if method in VARYING:
            told += f"; the cost {VARIES}"
        elif each["full_cost"] is not None:
            told += f"; {each['share_of_full_cost']:.0%} of the cost of {each['full_cost']}"
        return f"  {method:12}  {told}"


def inspect(
    video: str | Path,
    out: str | Path,
    *,
    checkpoint: str | Path | None = None,
    compare: Sequence[SelectionMethod] = COMPARED,
    start_seconds: float | None = None,
    keep_ratio: float | None = None,
    encode_ratio: float | None = None,
    num_frames: int | None = None,
    size: int | None = None,
    stride: int | None = None,
    frame_selection: float | None = None,
    settings: Sequence[str] = (),
    seed: int = 0,
    mp4: bool = False,
) -> InspectReport:
    """Draw what the method makes of a clip of a video: scores, kept tokens, chosen frames, a reconstruction.

    Args:
        video: A file; or the word ``bundled`` for the first of the clips that come with the program.
        out: A new folder, or one that such pictures were written to before.
        checkpoint: Whose embedding scores the tokens, and whose reconstruction is drawn; None: a random embedding, and
            clips and ratios of the paper's pre-training.
        compare: Selections to draw side by side. That of the checkpoint, or ReRo without one, always comes first.
        start_seconds: Where the clip begins; None: so that it is in the middle of the video.
        keep_ratio: Share of all tokens that is kept; None: that of the checkpoint.
        encode_ratio: Share of all tokens that is encoded in pre-training; None: that of the checkpoint.
        num_frames: Frames of the clip; only without a checkpoint, whose model takes clips of one shape.
        size: Height and width of the clip in pixels; only without a checkpoint.
        stride: Frames of the video from one frame of the clip to the next; None: as in training.
        frame_selection: Candidates for each frame, above 1; None: as in training.
        settings: Further settings of the selection, such as ``selection.camera=moving``.
        seed: Of the random embedding and of what is random in a selection.
        mp4: Write the animation as a video too.

    Raises:
        ConfigError: An option makes no sense, or not with the others.
        WeightsError: The checkpoint cannot be read, or has no tokens to show.
        VideoError: The video cannot be read.
        RunError: The folder holds something else.
    """
    folder = _folder(Path(out))
    changes: dict[str, dict[str, Any]] = {"selection": {"keep_ratio": keep_ratio, "encode_ratio": encode_ratio}}
    changes["clip"] = {"num_frames": num_frames, "height": size, "width": size}
    if checkpoint is not None and any(value is not None for value in changes["clip"].values()):
        raise ConfigError("the number of frames and their size are those of the checkpoint's model: leave them out")
    if stride is not None:
        changes["clip"] |= {"stride": stride, "fps": None, "sampling": "dense"}
    if frame_selection is not None:
        changes["frame_selection"] = {"enabled": True, "alpha": frame_selection}
    if checkpoint is None:
        looker = Looker.random(_changed(WITHOUT_CHECKPOINT, changes, settings), seed)
    else:
        looker = Looker.load(checkpoint)
        looker = looker.with_info(_changed(looker.info, changes, settings))
    # of the bundled clips the whole file: their spans are shorter than the paper's clip
    path = load_data("bundled").records[0].path if str(video) == "bundled" else Path(video).expanduser()
    found = inspect_video(looker, ClipRecord(path), start_seconds=start_seconds, compare=_methods(compare), seed=seed)
    if checkpoint is None:
        paper = found.info.model_copy(update={"model": ModelConfig()})
        costs = costs_of(paper, found.selections, "a ViT-B that is pre-trained")
    else:
        costs = costs_of(found.info, found.selections, "the checkpoint's model")
    drawn = draw_inspection(found, mp4=mp4)
    values = numbers(found, costs)
    contents = {"report.html": inspection_report(found, drawn, costs).render().encode()} | drawn.contents()
    values["files"] = [*contents, NUMBERS]
    contents[NUMBERS] = (json.dumps(values, indent=2) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_older(folder, contents)
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    return InspectReport(folder, tuple(contents), values, found)


def _folder(out: Path) -> Path:
    """The folder to write to.

    Raises:
        RunError: It holds something else than such pictures.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: name a folder for the pictures")
    if out.is_dir() and any(out.iterdir()) and not (out / NUMBERS).is_file():
        raise RunError(f"{out} holds other files already: name another folder for the pictures")
    return out


def _remove_older(folder: Path, drawn: Collection[str]) -> None:
    """Remove pictures that an earlier call wrote and this one does not draw: they show another clip.

    Args:
        folder: Only files that its list names go, and of those only what may be left out: others may be somebody's own.
        drawn: Names of what is drawn now.
    """
    try:
        listed = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, LookupError, TypeError):  # none, or one of an older version
        return
    for name in SOMETIMES:
        if isinstance(listed, list) and name in listed and name not in drawn:
            (folder / name).unlink(missing_ok=True)


def _changed(info: CheckpointInfo, changes: dict[str, dict[str, Any]], settings: Sequence[str]) -> CheckpointInfo:
    """Change settings that are given.

    Raises:
        ConfigError: They make no sense.
    """
    for setting in settings:
        if not setting.strip().startswith("selection."):
            raise ConfigError(
                f"--set {setting!r}: only settings of selection can be given, such as selection.camera=moving"
            )
    values = info.model_dump()
    for section, given in changes.items():
        values[section] |= {key: value for key, value in given.items() if value is not None or key == "fps"}
    return override(parse(CheckpointInfo, values), settings)


def _methods(names: Sequence[str]) -> list[SelectionMethod]:
    known = get_args(SelectionMethod)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no selection is called {', '.join(unknown)}; there are {', '.join(known)}")
    return list(names)  # type: ignore[arg-type]
