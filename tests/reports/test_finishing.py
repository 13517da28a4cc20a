"""The page that a run leaves: it is there, says what the run's files say, and can do no harm."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from everest import api
from everest.datasets import load_data
from everest.errors import RunInterruptedError
from everest.evaluation import read_evaluation
from everest.models import load_model
from everest.reports import finishing
from everest.reports.finishing import report_finished
from everest.training import TrainedRun
from everest.training.metrics import read_metrics
from everest.training.rundir import RunFolder
from everest.video.source import ShardMember
from full_disk import no_file_above

SETTINGS = (
    *("clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.epochs=1", "optim.warmup_epochs=0"),
    *(
        "optim.global_batch_size=8",
        "data.batch_size=8",
        "data.num_workers=0",
        "run.device=cpu",
        "run.tensorboard=false",
    ),
)


def a_run(folder: Path) -> TrainedRun:
    model, info = load_model(folder)
    return TrainedRun(RunFolder.open(folder), model, info, 4)


def test_both_kinds_of_run_leave_a_page(trained: Path) -> None:
    for name, parts in (
        ("pre", ("Pre-training: pre", "What was kept", "Reconstructions", "TRUE statistics")),
        ("fine", ("Fine-tuning: fine", "What was kept", "Accuracy on held-out clips", "Confusion", "Hardest clips")),
    ):
        page = (trained / name / "report.html").read_text()
        for part in (*parts, "Time and cost", "Learning rate", "Settings", "were not learnt from"):
            assert part in page, (name, part)
        assert "<script" not in page
        assert not re.search(r"""(src|href)=["'](?!data:image/|#)""", page)
        assert len(page) < 5_000_000


def test_its_numbers_are_those_of_the_files(trained: Path) -> None:
    page = (trained / "fine" / "report.html").read_text()
    found = json.loads((trained / "fine" / "evaluation.json").read_text())
    lines = [line for line in read_metrics(trained / "fine" / "metrics.jsonl") if "loss" in line]
    low, high = found["top1_interval"]
    assert f"<strong>{found['top1']:.1%}</strong>" in page
    assert f"top-1 on {found['num_clips']} clips; 95\u00a0% interval {low:.0%} to {high:.0%}" in page
    assert f"<strong>{lines[-1]['loss']:.3g}</strong>" in page
    assert f"{lines[0]['loss']:.3g} at the first" in page
    for entry in found["per_class"]:
        share = "" if entry["accuracy"] is None else f"{entry['accuracy']:.0%}"
        assert f"<tr><td>{entry['name']}</td><td>{entry['num_clips']}</td><td>{share}</td></tr>" in page
    assert page.count("data:image/webp") == 6  # as many clips as were evaluated


def test_it_can_be_turned_off(clips: Path, tmp_path: Path) -> None:
    api.pretrain(recipe="demo", data=clips, out=tmp_path / "run", settings=(*SETTINGS, "run.report=false"))
    assert not (tmp_path / "run" / "report.html").exists()
    again = api.pretrain(recipe="demo", data=clips, out=tmp_path / "run", settings=SETTINGS)  # it may change
    assert (again.folder.path / "report.html").is_file()


def test_nothing_but_the_page_changes(copied: Callable[[str], Path], clips: Path) -> None:
    folder = copied("pre")
    (folder / "report.html").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run = a_run(folder)
    states = (torch.get_rng_state(), random.getstate())
    weights = [parameter.clone() for parameter in run.model.parameters()]
    assert report_finished(run, load_data(clips)) == folder / "report.html"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(map(torch.equal, weights, run.model.parameters()))
    assert {path: path.read_bytes() for path in before} == before
    assert {path for path in folder.rglob("*") if path.is_file()} == {*before, folder / "report.html"}


@pytest.mark.parametrize("error", [TypeError("a defect"), OSError(28, "No space left on device"), MemoryError()])
def test_what_goes_wrong_is_a_line(
    error: Exception, copied: Callable[[str], Path], clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    folder = copied("fine")
    monkeypatch.setattr(finishing, "make_report", fail)
    said: list[str] = []
    assert report_finished(a_run(folder), load_data(clips), say=said.append) is None
    assert len(said) == 1
    assert said[0].startswith(f"no report was drawn: {error or 'MemoryError'}")
    assert "everest report" in said[0]
    assert (folder / "log.txt").read_text().splitlines()[-1] == said[0]


def test_a_full_disk_keeps_the_older_page(copied: Callable[[str], Path], clips: Path) -> None:
    folder = copied("fine")
    before = (folder / "report.html").read_bytes()
    said: list[str] = []
    with no_file_above(20_000):
        assert report_finished(a_run(folder), load_data(clips), say=said.append) is None
    assert "could not be written" in said[0]
    assert (folder / "report.html").read_bytes() == before


def test_whoever_asks_to_stop_does_not_wait_for_it(
    copied: Callable[[str], Path], clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise RunInterruptedError("stopped by SIGTERM")

    monkeypatch.setattr(finishing, "make_report", stop)
    with pytest.raises(RunInterruptedError):
        report_finished(a_run(copied("fine")), load_data(clips))


def test_clips_that_are_gone_leave_a_page_without_them(copied: Callable[[str], Path], clips: Path) -> None:
    folder = copied("fine")
    data = load_data(clips)
    gone = replace(data, records=tuple(replace(r, path=Path("/no/such", r.path.name)) for r in data.records))
    evaluation = read_evaluation(folder / "evaluation.json")
    assert report_finished(a_run(folder), gone, evaluation) is not None
    page = (folder / "report.html").read_text()
    assert "No pictures" in page
    assert "Confusion" in page


def test_no_run_waits_for_a_network_at_its_end(copied: Callable[[str], Path], clips: Path) -> None:
    folder = copied("fine")
    data = load_data(clips)
    member = ShardMember("https://example.invalid/shard.tar", "clip.mp4", 0, 10)
    far = replace(data, records=tuple(replace(record, member=member) for record in data.records))
    assert report_finished(a_run(folder), far, read_evaluation(folder / "evaluation.json")) is not None
    page = (folder / "report.html").read_text()
    assert "at a URL: name them with --data" in page
    assert "data:image/webp" not in page
