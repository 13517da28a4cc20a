"""Every example runs as it stands, in a folder of its own, and says what it promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from everest.datasets import load_data

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_them_are_tested() -> None:
    text = Path(__file__).read_text()
    assert all(f'run("{path.stem}"' in text for path in EXAMPLES.glob("*.py"))


def test_a_first_look(tmp_path: Path) -> None:
    out = run("first_look", tmp_path)
    encoded, predicted, total = map(int, re.search(r"(\d+) tokens .* (\d+) predicted, of (\d+)", out).groups())  # type: ignore[union-attr]
    assert encoded == 0.1 * total // 1
    assert encoded + predicted == 0.3 * total // 1
    change = int(re.search(r"hold (\d+)% of all change", out)[1])  # type: ignore[index]
    assert 60 < change <= 100
    assert (tmp_path / "first-look" / "report.html").stat().st_size > 100_000


def test_own_data(tmp_path: Path) -> None:
    for number, record in enumerate(load_data("bundled").records[:40:4]):
        place = tmp_path / "videos" / "ab"[number % 2] / f"{number}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.path, place)
    out = run("own_data", tmp_path, "videos", "runs")
    assert "ClipPrediction(" in out
    assert re.search(r"^ +0\.0 s to +\d+\.\d s: [ab] \(\d+%\)$", out, re.MULTILINE)
    assert (tmp_path / "runs" / "classifier" / "weights.safetensors").is_file()


def test_comparing_selections(tmp_path: Path) -> None:
    out = run("comparing_selections", tmp_path)
    rows = {
        values[0]: values[1:] for values in map(str.split, out.splitlines()) if len(values) == 5 and "%" in values[1]
    }
    change = {name: int(values[1].rstrip("%")) for name, values in rows.items()}
    assert set(change) == {"rero", "random_equal", "running_cell", "tube", "all"}
    assert change["all"] == 100
    assert change["rero"] > 1.5 * max(change[name] for name in ("random_equal", "running_cell", "tube"))
    assert float(rows["all"][3]) > 3 * float(rows["rero"][3])
    assert (tmp_path / "selections" / "report.html").is_file()


@pytest.mark.parametrize("name", ["tokens_in_transformers", "tokens_in_any_vit"])
def test_tokens_of_other_models(name: str, tmp_path: Path) -> None:
    scripts = {"tokens_in_transformers": lambda: run("tokens_in_transformers", tmp_path)}
    scripts["tokens_in_any_vit"] = lambda: run("tokens_in_any_vit", tmp_path)
    out = scripts[name]()
    differences = [float(number) for number in re.findall(r"by (\S+) at most", out)]
    assert len(differences) == 3
    assert differences[0] < 1e-5  # all tokens: nothing was changed
    assert min(differences[1:]) > 1e-3
