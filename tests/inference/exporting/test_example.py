"""The program of the documentation runs as it stands there, in a process that has nothing of ours."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from everest.config import (
    CheckpointInfo,
    ClipConfig,
    EvaluationConfig,
    FrameSelectionConfig,
    ModelConfig,
    SelectionConfig,
    num_sampled_frames,
)
from everest.datasets import ClipRecord, Manifest, build_view_loader, load_data
from everest.exporting import export
from everest.inference.exporting.describing import describe
from everest.inference.exporting.graph import ClipGraph
from everest.models import build_classifier, classify_clips, save_weights

DOCUMENT = Path(__file__).parents[3] / "docs" / "export.md"
NAMES = ("fall", "walk", "sit down", "stand up", "bend", "other")
# An interpreter without site-packages, but for a path to them: what is installed by reference, as this project may be,
# is not there. The last two lines are no part of the example: they keep what it gave to the model.
ALONE = """
import sys
sys.path.append({packages!r})
sys.modules["everest"] = sys.modules["torch"] = None  # importing them fails
sys.argv = ["example.py", {model!r}, {video!r}]
names = {{}}
exec(compile(open({example!r}).read(), "example.py", "exec"), names)
names["np"].save({frames!r}, names["frames"])
"""


(EXAMPLE,) = re.findall(r"## Twenty lines.*?```python\n(.*?)```", DOCUMENT.read_text(), flags=re.S)


def info_with(alpha: float | None = None, **clip: Any) -> CheckpointInfo:
    """How a classifier is used, without it."""
    return CheckpointInfo(
        task="finetune",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=8, height=64, width=48, **clip),
        selection=SelectionConfig(keep_ratio=0.4, encode_ratio=0.4),
        frame_selection=FrameSelectionConfig() if alpha is None else FrameSelectionConfig(enabled=True, alpha=alpha),
        class_names=NAMES,
    )


def test_the_example_needs_nothing_of_ours_and_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(EXAMPLE)
    info = info_with(stride=3)
    torch.manual_seed(0)
    model = build_classifier(info.model, info.clip, len(NAMES)).eval()
    with torch.no_grad():
        model.head.weight.normal_()
    save_weights(model, info, tmp_path / "mine.safetensors")
    export(tmp_path / "mine.safetensors", onnx=tmp_path / "mine.onnx")
    places = {"model": "mine.onnx", "example": "example.py", "frames": "frames.npy"}
    alone = ALONE.format(
        packages=str(Path(onnxruntime.__file__).parents[1]),
        video=str(load_data("bundled").records[0].path),
        **{name: str(tmp_path / file) for name, file in places.items()},
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", alone], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    printed = [line.split("  ") for line in done.stdout.splitlines()]
    frames = torch.from_numpy(np.load(tmp_path / "frames.npy"))
    assert frames.shape == (1, 8, 64, 48, 3)
    wanted = classify_clips(model, frames.permute(0, 4, 1, 2, 3).contiguous(), info)[0]
    best = wanted.argsort(descending=True)[:5].tolist()
    assert [name for _, name in printed] == [NAMES[index] for index in best]
    for (probability, _), index in zip(printed, best, strict=True):
        assert abs(float(probability) - float(wanted[index])) <= 1e-4


def frames_of_example(info: CheckpointInfo, video: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The clip that the example gives to a model of this kind: [T', H, W, 3]."""
    told = describe(ClipGraph(build_classifier(info.model, info.clip, len(NAMES)), info), "")

    class Session:
        def __init__(self, _: str) -> None:
            pass

        def get_modelmeta(self) -> SimpleNamespace:
            return SimpleNamespace(custom_metadata_map=told)

        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
            assert outputs == ["probabilities"]
            self.__class__.given = inputs["frames"]  # type: ignore[attr-defined]
            return [np.full((1, len(NAMES)), 1 / len(NAMES))]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["example.py", "mine.onnx", str(video)])
    exec(compile(EXAMPLE, "example.py", "exec"), {})
    return torch.from_numpy(Session.given)[0]  # type: ignore[attr-defined]


def frames_of_everest(info: CheckpointInfo, video: Path) -> Tensor:
    """The middle clip as prediction takes it: [T', H, W, 3]."""
    manifest, views = Manifest((ClipRecord(video),), (), video), EvaluationConfig(num_segments=1, num_crops=1)
    (found,) = build_view_loader(manifest, info.clip, views, num_sampled_frames=num_sampled_frames(info), num_workers=0)
    (clip,) = found.unbind()
    return clip.permute(1, 2, 3, 0)


def counting_video(path: Path, *, num_frames: int = 61, rotation: int = 0) -> Path:
    """Twenty pictures a second, the blue of which counts them; red and green say where a pixel is. Lossless as mp4."""
    rows, columns = np.mgrid[:90, :120].astype(np.uint8)
    with av.open(str(path), "w") as file:
        is_lossless = path.suffix == ".mp4"
        stream = file.add_stream("libx264rgb" if is_lossless else "mpeg4", rate=20, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 90, 120, "rgb24" if is_lossless else "yuv420p"
        stream.set_display_rotation(rotation)
        for number in range(num_frames):
            picture = np.stack([2 * columns, 2 * rows, np.full_like(rows, 4 * number)], axis=-1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    return path


KINDS = {
    "stride": info_with(stride=3),
    "longer than the video": info_with(stride=16),
    "frames per second": info_with(fps=7.0),
    "segments": info_with(sampling="segments"),
    "frame selection": info_with(alpha=1.5, stride=3),
    "frame selection by time": info_with(alpha=1.5, fps=7.0),
}


@pytest.mark.parametrize(
    ("kind", "num_frames", "rotation"),
    [*((kind, num_frames, 0) for kind in KINDS for num_frames in (5, 61)), *(("stride", 5, n) for n in (90, 180, 270))],
)
def test_the_example_takes_the_frames_that_everest_takes(
    kind: str, num_frames: int, rotation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = KINDS[kind]
    video = counting_video(tmp_path / "counting.mp4", num_frames=num_frames, rotation=rotation)
    given, wanted = frames_of_example(info, video, monkeypatch), frames_of_everest(info, video)
    assert given.shape == wanted.shape
    assert given[..., 2].float().mean(dim=(1, 2)).tolist() == wanted[..., 2].float().mean(dim=(1, 2)).tolist()
    assert (given.int() - wanted.int()).abs().float().mean() < 1.5


def test_a_file_that_names_no_average_rate_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = counting_video(tmp_path / "counting.asf")
    with av.open(str(video)) as file:
        assert file.streams.video[0].average_rate is None
    info = KINDS["frames per second"]
    given, wanted = frames_of_example(info, video, monkeypatch), frames_of_everest(info, video)
    assert (given.int() - wanted.int()).abs().float().mean() < 4


@pytest.mark.parametrize("kind", ["stride", "frames per second", "segments"])
def test_the_example_sees_real_videos_as_everest_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info, video = KINDS[kind], load_data("bundled").records[0].path
    given, wanted = frames_of_example(info, video, monkeypatch), frames_of_everest(info, video)
    assert (given.int() - wanted.int()).abs().float().mean() < 4
    assert (given.flip(-1).int() - wanted.int()).abs().float().mean() > 8  # red and blue are not exchanged
