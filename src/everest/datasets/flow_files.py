"""Optical flow on disk: one file for each span of a video.

A file is in the safetensors format: ``steps`` holds the compressed steps one after the other, ``offsets`` where each of
them begins, so a worker reads those that it needs and no others. The metadata say what the flow was computed from; a
video whose size or time of the last change differ has no flow.

Shapes: K steps, h x w nodes.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from everest.datasets.check import stat_source
from everest.datasets.records import ClipRecord, Manifest, relative_path
from everest.datasets.source import BUNDLED
from everest.errors import DataError, VideoError
from everest.links import write_new
from everest.video.optical_flow import FlowGrid, decode, pack, unpack
from everest.video.trajectories import NUM_STEPS, ClipBox, track

FORMAT = 1  # raised when the same video would get another flow, or a file is laid out differently
_KEY = "everest.flow"


@dataclass(frozen=True)
class FlowHeader:
    """What a file says of its flow.

    Attributes:
        path: The video, relative to the folder of its manifest.
        num_bytes: Its size.
        modified_ns: Time of its last change; 0 where there is none.
        rows: Of nodes.
        columns: Of nodes.
        seconds: Of video that it covers.
        fault: Why there is no flow; empty where there is.
        format: :data:`FORMAT` of the program that wrote it.
    """

    path: str
    num_bytes: int
    modified_ns: int
    rows: int = 1
    columns: int = 1
    seconds: float = 0.0
    fault: str = ""
    format: int = FORMAT


def default_flow(manifest: Manifest) -> Path:
    """Name the folder of a manifest's flow: beside the manifest or folder; for URLs and bundled data in the current."""
    source = manifest.source
    if _is_bundled(manifest):
        return Path(f"{BUNDLED}.flow")
    if not source.exists():
        return Path(f"{source.stem}.flow")
    return source.with_name(f"{source.name if source.is_dir() else source.stem}.flow")


def flow_name(record: ClipRecord, root: Path) -> str:
    """Name the file of a span inside the folder, from the path relative to the manifest's folder and the times."""
    where = None if record.member is None else (record.member.offset, record.member.num_bytes)
    key = (relative_path(record.path, root), where, record.start_seconds, record.end_seconds)
    digest = hashlib.sha256(repr(key).encode("utf-8", "backslashreplace")).hexdigest()[:24]
    return f"{digest[:2]}/{digest}.safetensors"


def header_of(record: ClipRecord, root: Path) -> FlowHeader:
    """Describe the video of a record as it is now."""
    return FlowHeader(relative_path(record.path, root), *stat_source(record.source))


def write_flow(path: Path, header: FlowHeader, steps: Sequence[NDArray[np.int8]]) -> int:
    """Write the flow of a span, completely or not at all.

    Args:
        path: Its folder is made.
        header: What it was computed from.
        steps: Each of shape [2, h, w]; none where there is a fault.

    Returns:
        Bytes of the file.

    Raises:
        DataError: It cannot be written.
    """
    packed = [pack(step) for step in steps]
    offsets = torch.tensor([0, *(len(each) for each in packed)]).cumsum(0)
    joined = torch.frombuffer(bytearray(b"".join(packed) or b"\0"), dtype=torch.uint8)
    content = save({"steps": joined, "offsets": offsets}, metadata={_KEY: json.dumps(header.__dict__)})
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(partial, content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(f"{path}: the optical flow cannot be written: {error.strerror or error}") from None
    return len(content)


def read_header(path: Path) -> FlowHeader | None:
    """Read what a file says of its flow; None where it is not there, damaged, or of another program."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = FlowHeader(**json.loads((file.metadata() or {})[_KEY]))
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None
    return header if header.format == FORMAT else None


def read_steps(path: Path, firsts: Sequence[int], num_steps: int) -> tuple[FlowHeader, Tensor, Tensor]:
    """Read the steps that begin at some frames of a span.

    Args:
        path: The file.
        firsts: Numbers of frames, from 0, in any order.
        num_steps: Steps from each of them, K.

    Returns:
        What the file says; the flow as shares of the frame's width and height, float32 [firsts, K, 2, h, w]; and where
        it can be trusted, bool [firsts, K, h, w]: nowhere in steps after the last.

    Raises:
        DataError: The file is not there, or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = FlowHeader(**json.loads((file.metadata() or {})[_KEY]))
            offsets = file.get_tensor("offsets").tolist()
            wanted = sorted({first + k for first in firsts for k in range(num_steps)} & set(range(len(offsets) - 1)))
            content = file.get_slice("steps")
            packed = [content[offsets[i] : offsets[i + 1]].numpy().tobytes() for i in wanted]
        steps = unpack(packed, FlowGrid(header.rows, header.columns))
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, DataError) as error:
        raise DataError(f"{path}: not a readable file of optical flow ({error})") from None
    values, trusted = decode(steps)
    # One row more, of nothing, for steps that are not there.
    flow = torch.from_numpy(np.concatenate([values, np.zeros_like(values, shape=(1, *values.shape[1:]))]))
    is_trusted = torch.from_numpy(np.concatenate([trusted, np.zeros((1, *trusted.shape[1:]), dtype=np.bool_)]))
    row_of = {step: row for row, step in enumerate(wanted)}
    rows = torch.tensor([[row_of.get(first + k, len(wanted)) for k in range(num_steps)] for first in firsts])
    return header, flow[rows], is_trusted[rows]


def _is_bundled(manifest: Manifest) -> bool:
    return manifest.source.is_relative_to(Path(__file__).parents[1])


class MotionReader:
    """Gives training clips the trajectories of their tokens.

    Args:
        manifest: The clips; all of them need flow.
        folder: Where it is; None: :func:`default_flow`.
        tubelet_size: Frames of a token.
        patch_size: Height and width of a token in pixels.

    Raises:
        DataError: Some clips have none.
    """

    def __init__(self, manifest: Manifest, folder: str | Path | None, *, tubelet_size: int, patch_size: int) -> None:
        self._root = manifest.root
        self.folder = default_flow(manifest) if folder is None else Path(folder).expanduser()
        self.tubelet_size, self.patch_size = tubelet_size, patch_size
        out = "" if folder is None else f" --out {folder}"
        self._command = f"everest data flow {BUNDLED if _is_bundled(manifest) else manifest.source}{out}"
        there = {path.relative_to(self.folder).as_posix() for path in self.folder.glob("??/*.safetensors")}
        names = {flow_name(record, self._root) for record in manifest.records}
        if missing := len(names - there):
            raise DataError(
                f"{manifest.source}: {missing} of {len(names)} clips have no optical flow in {self.folder}, which "
                f"objective.name=mme needs: run `{self._command}` first, or name another folder with objective.flow=DIR"
            )

    def track(
        self, record: ClipRecord, rows: Sequence[Sequence[int]], boxes: Sequence[ClipBox], height: int, width: int
    ) -> tuple[Tensor, ...]:
        """Track the points of several clips.

        Args:
            record: What they were taken from.
            rows: The frames of each clip, from 0 within the span.
            boxes: What each of them shows.
            height: Of the clips in pixels.
            width: Of the clips in pixels.

        Returns:
            What :func:`~everest.video.trajectories.track` says of each, float16, shape [N', J].

        Raises:
            DataError, VideoError: As :meth:`read`.
        """
        motion = []
        for frames, box in zip(rows, boxes, strict=True):
            flow, trusted = self.read(record, frames[:: self.tubelet_size])
            steps = track(flow, trusted, box, clip_height=height, clip_width=width, patch_size=self.patch_size)
            motion.append(steps.half())
        return tuple(motion)

    def read(self, record: ClipRecord, firsts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read the flow that trajectories take.

        Args:
            record: The clip.
            firsts: The first frame of each tubelet, from 0 within the span.

        Returns:
            What :func:`~everest.video.trajectories.track` takes.

        Raises:
            DataError: The file is damaged, or the video is another one by now.
            VideoError: The video could not be read when its flow was to be computed.
        """
        path = self.folder / flow_name(record, self._root)
        try:
            header, flow, trusted = read_steps(path, firsts, NUM_STEPS)
        except DataError as error:
            raise DataError(f"{error}: delete it and run `{self._command}` again") from None
        now = header_of(record, self._root)
        if (header.num_bytes, header.modified_ns, header.format) != (now.num_bytes, now.modified_ns, FORMAT):
            raise DataError(
                f"{record.source} has changed since its optical flow was computed: run `{self._command}` again"
            )
        if header.fault:
            raise VideoError(f"{record.source}: no optical flow: {header.fault}")
        return flow, trusted
