"""The wheel in an environment that was empty, with what pip brings for it, and the whole demo: `make test-wheel`."""

import json
import re
import sys
import time
import venv
from pathlib import Path

import pytest
from wheels import PROJECT, ROOT, build, call

MINUTE = 60.0


def accuracy(out: str, name: str) -> float:
    """Read a line of the demo's table, in per cent."""
    (value,) = re.findall(rf"^  {name}: +(\d+\.\d)%", out, flags=re.M)
    return float(value)


def test_the_demo_of_an_installed_wheel(tmp_path: Path) -> None:
    wheel = build(tmp_path / "build").wheel
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True, symlinks=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check")
    start = time.perf_counter()
    call(*pip, "install", "-c", ROOT / "constraints.txt", wheel, folder=tmp_path, seconds=20 * MINUTE)
    call(*pip, "check", folder=tmp_path)
    print(f"pip install: {time.perf_counter() - start:.0f} s")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start = time.perf_counter()
    out = call(programs / "everest", "demo", folder=elsewhere, seconds=40 * MINUTE)
    print(f"everest demo: {time.perf_counter() - start:.0f} s\n{out}")

    pretrained, scratch = accuracy(out, "pre-trained by EVEREST"), accuracy(out, "without pre-training")
    most_frequent = accuracy(out, "always the most frequent class")
    assert most_frequent < pretrained <= 100  # what the recipe promises, and no more than that
    assert 0 <= scratch <= 100
    assert [path.name for path in elsewhere.iterdir()] == ["runs"]
    metrics = json.loads((elsewhere / "runs" / "demo-1" / "metrics.json").read_text())
    assert metrics["environment"]["packages"]["everest"] == PROJECT["version"]
    assert [values["top1"] for values in metrics["evaluation"].values()] == [
        pytest.approx(pretrained / 100, abs=5e-4),
        pytest.approx(scratch / 100, abs=5e-4),
    ]
    assert (elsewhere / "runs" / "demo-1" / "report.html").stat().st_size > 100_000
