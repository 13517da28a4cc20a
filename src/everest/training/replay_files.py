"""Replay files: all that is needed to repeat a step whose loss or gradient was not finite.

RUN/replays/
├── step-00000057-rank-0.json          the clips of each pass of one process, their seeds, settings, versions
├── step-00000058-rank-0.json          a step that was skipped right after it, with the same weights
└── step-00000057-weights.safetensors  the weights that these steps started from
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everest.config import FinetuneConfig, PretrainConfig
from everest.datasets import Batch, ClipRecord, SampleKey
from everest.errors import RunError
from everest.training.files import atomic_write
from everest.video import ShardMember

FORMAT = 1
MAX_STEPS = 20  # of which replay files are kept; the oldest are dropped
MAX_WEIGHTS = 3  # sets of weights: they are large
_NAME = re.compile(r"step-(\d{8,})-rank-(\d+)\.json")
_WEIGHTS = re.compile(r"step-(\d{8,})-weights\.safetensors")


class _Stored(BaseModel):
    """Base of what is stored: closed to unknown keys; numbers may be NaN and infinite, as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ReplayVideo(_Stored):
    """A video of a pass, and where in the run its clips stood.

    Attributes:
        epoch: From 0.
        position: In the epoch, from 0: decides what is random when it is read.
        record_index: In the manifest of the run.
        path: The file; for a member of a shard the shard and the name in it.
        label: Class index; None where there is none.
        start_seconds: Where the clip begins.
        end_seconds: Where it ends.
        shard: Shard, name, first byte and length; None for a file of its own.
        seeds: Of what is drawn for each of its clips after reading.
        sha256: Hash of the bytes of a member of a shard; empty where the list had none.
    """

    epoch: int
    position: int
    record_index: int
    path: str
    label: int | None
    start_seconds: float | None
    end_seconds: float | None
    shard: tuple[str, str, int, int] | None
    seeds: tuple[int, ...]
    sha256: str = ""

    def __str__(self) -> str:
        if self.start_seconds is None and self.end_seconds is None:
            return self.path
        end = "the end" if self.end_seconds is None else f"{self.end_seconds:g} s"
        return f"{self.path} ({self.start_seconds or 0:g} s to {end})"

    def record(self) -> ClipRecord:
        """Give the record that the loader read."""
        member = None if self.shard is None else ShardMember(*self.shard, self.sha256)
        return ClipRecord(Path(self.path), self.label, None, self.start_seconds, self.end_seconds, member)


class ReplayPass(_Stored):
    """One forward and backward pass.

    Attributes:
        loss: As the process saw it.
        videos: What was in the batch, in its order.
    """

    loss: float
    videos: tuple[ReplayVideo, ...]


class Replay(_Stored):
    """A step of one process that was skipped.

    Attributes:
        format_version: Raised when the meaning of a field changes.
        step: The optimiser step, from 0.
        rank: Number of the process.
        world_size: How many there were.
        grad_norm: Of all processes together.
        learning_rate: That the step would have had.
        precision: What matrix products computed in, such as ``bfloat16``.
        loss_scale: Of a gradient scaler. There is none: bfloat16 has the range of float32, and nothing is scaled.
        device: Kind of device.
        passes: What was computed.
        weights: Name of the weights file, in the same folder.
        data_source: Manifest or folder of the data.
        data_digest: Of the part that was learnt from.
        config: Of the run.
        versions: Of the packages, as in ``environment.json``.
    """

    format_version: Literal[1] = 1
    step: int
    rank: int
    world_size: int
    grad_norm: float
    learning_rate: float
    precision: str
    loss_scale: None = None
    device: str
    passes: tuple[ReplayPass, ...]
    weights: str
    data_source: str
    data_digest: str
    config: Annotated[PretrainConfig | FinetuneConfig, Field(discriminator="task")]
    versions: dict[str, Any]

    def __repr__(self) -> str:
        return f"Replay(step {self.step}, rank {self.rank}, {len(self.passes)} passes)"


def replay_pass(
    batch: Batch, keys: Sequence[SampleKey], loss: float, records: Sequence[ClipRecord], clips_per_video: int
) -> ReplayPass:
    """Describe a pass.

    Args:
        batch: What the loader gave.
        keys: What the loader was asked for: epoch, position and wanted record of each video.
        loss: Of the pass.
        records: Of the data.
        clips_per_video: Clips of each video, which follow each other in the batch.
    """
    indices = batch.record_indices.tolist()[::clips_per_video]
    seeds = [] if batch.seeds is None else batch.seeds.tolist()
    videos = []
    for number, (index, (epoch, position, _)) in enumerate(zip(indices, keys, strict=True)):
        record, first = records[index], number * clips_per_video
        member = record.member
        videos.append(
            ReplayVideo(
                epoch=epoch,
                position=position,
                record_index=index,
                path=str(record.path),
                label=record.label,
                start_seconds=record.start_seconds,
                end_seconds=record.end_seconds,
                shard=None if member is None else (member.shard, member.name, member.offset, member.num_bytes),
                seeds=tuple(seeds[first : first + clips_per_video]),
                sha256="" if member is None else member.sha256,
            )
        )
    return ReplayPass(loss=loss, videos=tuple(videos))


def replay_path(folder: Path, step: int, rank: int) -> Path:
    """Name the replay file of a step and a process."""
    return folder / f"step-{step:08d}-rank-{rank}.json"


def weights_path(folder: Path, step: int) -> Path:
    """Name the weights that a step started from."""
    return folder / f"step-{step:08d}-weights.safetensors"


def write_replay(folder: Path, replay: Replay) -> Path:
    """Write the replay file of one process.

    Raises:
        RunError: It cannot be written.
    """
    path = replay_path(folder, replay.step, replay.rank)
    with atomic_write(path) as file:
        file.write((replay.model_dump_json(indent=1) + "\n").encode())
    return path


def read_replay(path: Path) -> Replay:
    """Read a replay file.

    Raises:
        RunError: There is none, or it is not one of this version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a replay file ({error}): name one of RUN/replays") from None
    found = values.get("format_version") if isinstance(values, dict) else None
    if found != FORMAT:
        raise RunError(f"{path} is not a replay file of this version: format_version is {found!r}, expected {FORMAT}")
    try:
        replay = Replay.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{path} is damaged or of another version: {where}: {first['msg']}") from None
    if Path(replay.weights).name != replay.weights:
        raise RunError(f"{path} names weights outside of its folder: {replay.weights!r}")
    return replay


def prune_replays(folder: Path) -> None:
    """Keep the newest steps and the newest weights, and nothing that lacks its other half. For one process only."""
    steps = sorted({int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))})
    weights = sorted(int(match[1]) for path in folder.iterdir() if (match := _WEIGHTS.fullmatch(path.name)))
    kept = weights[-MAX_WEIGHTS:]
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and (int(match[1]) not in steps[-MAX_STEPS:] or (kept and int(match[1]) < kept[0])):
            with suppress(OSError):
                path.unlink()
    for step in weights[:-MAX_WEIGHTS]:
        with suppress(OSError):
            weights_path(folder, step).unlink()
