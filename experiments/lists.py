"""Where an experiment is made, and what its lists of clips say: contents, groups, how often clips come round."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from profiles import Profile, Settings
from time_tasks import BASE_FPS, TASKS

from everest.errors import DataError
from everest.links import write_new
from everest.video import probe

CACHE_BYTES = 4e9
CONTROL = "-control"
"""Ends the name of a task whose clips are filled with one of their frames."""
FEW = "-few"
"""Ends the name of a task of which few of the training clips are labelled (``fewer_labels.py``)."""
MAKING = 1
"""Counts the ways in which the data were made: a script that puts other pictures into clips of the same list and length
raises it, as all that was found on the earlier ones is void then."""
BESIDE = {CONTROL: "controls", FEW: "few"}
"""Ending of a task's name -> folder, where it is not among the tasks."""


@dataclass(frozen=True)
class Bench:
    """Where an experiment is made.

    Attributes:
        data: The folder that ``prepare.py`` has made.
        out: Results, and the runs they come from.
        profile: How large everything is.
        equal: ``steps``; or ``time``: every arm is pre-trained as long as VideoMAE is on this machine.
        minutes: Of equal time, how long; None: as long as the profile's clips take VideoMAE.
        chosen: Tasks to do, in this order; none: all.
        kept: A folder for results; None: in that of the runs.
    """

    data: Path
    out: Path
    profile: Profile
    equal: str = "steps"
    minutes: float | None = None
    chosen: tuple[str, ...] = ()
    kept: Path | None = None

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.kept or self.out / "results"

    @property
    def footage(self) -> Path:
        """What is learnt from without labels."""
        return self.data / "footage" / "manifest.csv"

    def tasks(self) -> tuple[str, ...]:
        """Names of the labelled tasks."""
        found = tuple(sorted(path.parent.name for path in (self.data / "tasks").glob("*/manifest.csv")))
        if not found:
            raise DataError(f"{self.data}/tasks holds no tasks: make them with prepare.py")
        beside = {
            f"{path.parent.name}{ending}"
            for ending, folder in BESIDE.items()
            for path in (self.data / folder).glob("*/manifest.csv")
        }
        if wrong := set(self.chosen) - set(found) - beside:
            raise DataError(f"no task {', '.join(sorted(wrong))}; there are {', '.join(found)}")
        return self.chosen or found

    def manifest(self, task: str) -> Path:
        """The list of a task."""
        folder = next((folder for ending, folder in BESIDE.items() if task.endswith(ending)), "tasks")
        return self.data / folder / whole_of(task) / "manifest.csv"


def whole_of(task: str) -> str:
    """Name the task that a control, or one with few labels, is made of."""
    return task.removesuffix(CONTROL).removesuffix(FEW)


def write_table(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a list of clips, whole or not at all."""
    table = io.StringIO()
    csv.writer(table).writerows([names, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, table.getvalue())


def write_labelled(target: Path, source: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a list of some of the clips of another, which stay where they are.

    Args:
        target: To be written.
        source: The list that paths are beside.
        rows: With ``path``, ``label``, ``split`` and ``group``.
    """
    folder = Path(os.path.relpath(source.parent, target.parent))
    names = ("path", "label", "split", "group")
    write_table(target, names, [(f"{folder / row['path']}", *(row[name] for name in names[1:])) for row in rows])


def digest_of(*given: object) -> str:
    """Say in short what a result comes from."""
    return hashlib.sha256(repr(given).encode()).hexdigest()[:12]


def contents(manifest: Path) -> str:
    """Say in short what a list holds: which it is, its text, how long and large its clips are, and how they were made.

    Not the bytes of the files: another processor rounds a few pixels otherwise, and a coder then takes other bytes, so
    what one machine has found would be lost on the next.
    """
    text = manifest.read_text()
    paths = [manifest.parent / row["path"] for row in csv.DictReader(io.StringIO(text))]
    kind, name = manifest.parts[-3:-1]  # a task and its control have one text
    which = (kind, name) if kind in ("tasks", *BESIDE.values()) else name
    return digest_of(MAKING, which, text, [_shape_of(path, path.stat().st_size) for path in paths])


@cache
def _shape_of(path: Path, _num_bytes: int) -> tuple[int, int, int]:
    info = probe(path)
    return info.num_frames, info.height, info.width


def made_of(bench: Bench, task: str) -> str:
    """Say in short what results of a task come from: clips with labels, footage, and the profile."""
    return digest_of(contents(bench.manifest(task)), contents(bench.footage), bench.profile)


def write_groups(bench: Bench, task: str, name: str) -> None:
    """Write down which scene or video each test clip is from, in ``groups``; clips of one are not independent."""
    path = bench.results / "groups" / f"{name}.json"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, json.dumps(list(groups_of(bench, task, "test").values())))


def groups_of(bench: Bench, task: str, split: str) -> dict[Path, str]:
    """Give the scene or video of each clip of a part of a task, in the order of the list."""
    manifest = bench.manifest(task)
    with manifest.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split") == split]
    return {(manifest.parent / row["path"]).resolve(): row.get("group") or row["path"] for row in rows}


def sampling(task: str) -> Settings:
    """Say which frames a clip of a task takes: of a task of time all that were rendered, else one second.

    Data of ``moving_camera.py`` holds just the frames of a clip, which c and e say in their arms.
    """
    if whole_of(task) in TASKS:
        return {"clip.fps": BASE_FPS, "evaluation.num_segments": 1}
    return {"clip.fps": BASE_FPS / 2, "evaluation.num_segments": 3}


@cache
def fits_memory(manifest: Path) -> bool:
    """Whether all decoded frames of a list fit into the memory that one process of several may take."""
    with manifest.open(newline="") as file:
        paths = {manifest.parent / row["path"] for row in csv.DictReader(file)}
    infos = (probe(path) for path in paths)
    return sum(info.num_frames * info.height * info.width * 3 for info in infos) <= CACHE_BYTES


def num_videos_of(manifest: Path) -> int:
    """Count the clips for training.

    Raises:
        DataError: There are none.
    """
    with manifest.open(newline="") as file:
        num_videos = sum(row.get("split", "") in {"", "train", None} for row in csv.DictReader(file))
    if not num_videos:
        raise DataError(f"{manifest} has no clips for training")
    return num_videos


def schedule(manifest: Path, num_clips: int, most_epochs: int = 100_000) -> dict[str, float]:
    """Say for how many epochs so many clips come round, and warm up for a tenth of them."""
    num_epochs = min(max(1, round(num_clips / num_videos_of(manifest))), most_epochs)
    return {"optim.epochs": num_epochs, "optim.warmup_epochs": num_epochs / 10}


def tuning_schedule(bench: Bench, task: str, times: float = 1.0) -> dict[str, float]:
    """Say for how many epochs a classifier is trained, or for so many times as many; with few labels as many steps."""
    profile = bench.profile
    if task.endswith(FEW):
        num_steps = times * num_tuning_clips(bench, whole_of(task)) / profile.tuning_batch
        num_epochs = max(1, round(num_steps / steps_of_epoch(bench, task)))
        return {"optim.epochs": num_epochs, "optim.warmup_epochs": num_epochs / 10}
    most = max(1, round(times * profile.finetune_epochs))
    return schedule(bench.manifest(task), round(times * profile.finetune_clips), most_epochs=most)


def steps_of_epoch(bench: Bench, task: str) -> int:
    """Count the whole batches of an epoch of fine-tuning, one at least: training leaves out what is over."""
    return max(1, num_videos_of(bench.manifest(task)) // bench.profile.tuning_batch)


def num_tuning_clips(bench: Bench, task: str) -> float:
    """Say how many clips a classifier is trained on, each as often as it comes round."""
    return steps_of_epoch(bench, task) * bench.profile.tuning_batch * tuning_schedule(bench, task)["optim.epochs"]
