"""The demo in small: the same stages, a handful of steps."""

import json
import re
from pathlib import Path

import pytest

from everest.cli import main
from everest.demo import WITH, WITHOUT, run_demo
from everest.errors import RunError
from everest.models import load_model

SETTINGS = ("run.evaluate_every_epochs=1",)
QUICK = ("clip.height=32", "clip.width=32", "optim.epochs=1", "optim.warmup_epochs=0", "run.tensorboard=false")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    said: list[str] = []
    result = run_demo(folder, settings=QUICK + SETTINGS, say=said.append)
    assert result.out == folder
    assert "always the most frequent class" in result.summary()
    assert sum(line.startswith(("1/4", "2/4", "3/4", "4/4")) for line in said) == 4
    return folder


def test_metrics_hold_the_comparison_and_its_caution(out: Path) -> None:
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["evaluation"]) == {WITH, WITHOUT}
    assert metrics["num_test_clips"] == 33
    assert metrics["majority"] == pytest.approx(10 / 33)
    for values in metrics["evaluation"].values():
        low, high = values["top1_interval"]
        assert 0 <= low <= values["top1"] <= high <= 1
        assert values["num_clips"] == 33
    assert "not how well falls are detected" in metrics["caution"]
    assert set(metrics["timings_seconds"]) >= {"pre-training", "report"}


def test_the_report_is_one_page_that_shows_everything(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    for heading in (
        "Accuracy on held-out",
        "What was kept",
        "Reconstructions",
        "Selected frames",
        "Timings",
        "Settings",
    ):
        assert heading in page
    assert "TRUE statistics" in page
    assert "not how well falls are detected" in page
    assert page.count("data:image/") >= 12
    assert "Accuracy on clips that were not trained on" in page  # the curve, beside that of the loss


def test_its_runs_can_be_used(out: Path) -> None:
    model, info = load_model(out / "finetune")
    assert info.class_names == ("bend", "fall", "lie", "sit", "stand_or_walk")
    assert info.selection.method == "rero"
    assert model.grid.num_tokens == 16


def test_it_never_overwrites(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (out / "report.html").read_bytes()
    with pytest.raises(RunError, match="not an empty folder"):
        run_demo(out)
    assert main(["demo", "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("error:") == 1
    assert (out / "report.html").read_bytes() == before


def test_it_finds_a_free_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from everest.demo import _free_folder

    monkeypatch.chdir(tmp_path)
    assert _free_folder(None) == Path("runs/demo-1")
    assert _free_folder(None) == Path("runs/demo-2")


def test_a_setting_that_is_wrong_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--set", "clip.hight=32"]) == 2
    assert "did you mean 'clip.height'?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
