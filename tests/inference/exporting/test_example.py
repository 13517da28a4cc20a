"""The program of the documentation runs as it stands there, in a process that has nothing of ours."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.exporting import export
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


def test_the_example_needs_nothing_of_ours_and_says_the_same(tmp_path: Path) -> None:
    (code,) = re.findall(r"## Twenty lines.*?```python\n(.*?)```", DOCUMENT.read_text(), flags=re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "example.py").write_text(code)
    info = CheckpointInfo(
        task="finetune",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=8, height=64, width=48, stride=3),
        selection=SelectionConfig(keep_ratio=0.4, encode_ratio=0.4),
        class_names=NAMES,
    )
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
