"""A file of predictions goes on where it stopped, and never mixes predictions of different things."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, EvaluationConfig, ModelConfig, SelectionConfig
from everest.datasets import ClipRecord, load_data
from everest.errors import DataError
from everest.inference import ClipPrediction, FailedPrediction, Predictor
from everest.inference.kept import PredictionFile
from everest.models import build_classifier, save_weights
from full_disk import no_file_above

FILES = sorted({record.path for record in load_data("bundled").records})[:3]
VIEWS = EvaluationConfig(num_segments=1, num_crops=1)
INFO = CheckpointInfo(
    task="finetune",
    model=ModelConfig(size="tiny"),
    clip=ClipConfig(num_frames=4, height=32, width=32),
    selection=SelectionConfig(keep_ratio=0.6, encode_ratio=0.1),
    class_names=("falls", "walks"),
)


def a_predictor(seed: int = 0) -> Predictor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Predictor(build_classifier(INFO.model, INFO.clip, 2), INFO)


PREDICTOR = a_predictor()
RECORDS = [ClipRecord(FILES[0]), ClipRecord(FILES[1], start_seconds=1.0, end_seconds=2.0), ClipRecord(FILES[2])]
PREDICTIONS = [
    ClipPrediction(FILES[0], (("falls", 0.75), ("walks", 0.25)), None, None, 0.1),
    ClipPrediction(FILES[1], (("walks", 1.0),), 1.0, 2.0, 0.1),
    FailedPrediction(FILES[2], "the file is empty"),
]


def test_what_was_predicted_is_known_again_and_what_failed_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with PredictionFile(path, PREDICTOR, VIEWS, 5) as file:
        assert [file.known(record) for record in RECORDS] == [None] * 3
        for index in (1, 0, 2):
            file.add(RECORDS[index], PREDICTIONS[index])
    path.write_bytes(path.read_bytes() + b'{"video": "cut off')
    with PredictionFile(path, PREDICTOR, VIEWS, 5) as file:
        for record, prediction in zip(RECORDS[:2], PREDICTIONS[:2], strict=True):
            known = file.known(record)
            assert known is not None
            assert known.classes == prediction.classes  # type: ignore[union-attr]
            assert (known.start_seconds, known.end_seconds) == (record.start_seconds, record.end_seconds)
        assert file.known(RECORDS[2]) is None
        assert file.known(ClipRecord(FILES[1])) is None  # another span
        file.finish(RECORDS, PREDICTIONS)
    rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [row["video"] for row in rows] == [str(path) for path in FILES]
    assert rows[2]["error"] == "the file is empty"


def test_a_full_disk_takes_nothing_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with PredictionFile(path, PREDICTOR, VIEWS, 5) as file:
        header = path.read_bytes()
        for _ in range(20):
            file.add(RECORDS[0], PREDICTIONS[0])
    before = path.read_bytes()

    def go_on() -> None:
        with PredictionFile(path, PREDICTOR, VIEWS, 5) as file:
            assert file.known(RECORDS[0]) is not None
            file.add(RECORDS[1], PREDICTIONS[1])

    with no_file_above(len(before) // 2), pytest.raises(DataError, match="cannot be written"):
        go_on()
    assert path.read_bytes() == before
    for cut in (before[:-1], before + b'{"video"', header[:20], b""):
        path.write_bytes(cut)
        with PredictionFile(path, PREDICTOR, VIEWS, 5):
            assert path.read_bytes() == (cut[: cut.rfind(b"\n") + 1] or header)


def test_a_file_that_has_changed_is_predicted_again(tmp_path: Path) -> None:
    video = Path(shutil.copy(FILES[0], tmp_path / "a.mp4"))
    with PredictionFile(tmp_path / "out.jsonl", PREDICTOR, VIEWS, 5) as file:
        file.add(ClipRecord(video), PREDICTIONS[0])
    video.write_bytes(video.read_bytes() + b"x")
    with PredictionFile(tmp_path / "out.jsonl", PREDICTOR, VIEWS, 5) as file:
        assert file.known(ClipRecord(video)) is None


def test_predictions_of_something_else_are_refused_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with PredictionFile(path, PREDICTOR, VIEWS, 5) as file:
        file.add(RECORDS[0], PREDICTIONS[0])
        with pytest.raises(DataError, match="is predicting and writes here"), PredictionFile(path, PREDICTOR, VIEWS, 5):
            pass
    before = path.read_bytes()
    other_views = EvaluationConfig(num_segments=2, num_crops=1)
    for predictor, views, top in ((a_predictor(1), VIEWS, 5), (PREDICTOR, other_views, 5), (PREDICTOR, VIEWS, 2)):
        with pytest.raises(DataError, match="these weights with these settings"):
            PredictionFile(path, predictor, views, top).__enter__()
    for content in (b"no JSON\n", b"no end of line", b"[]\n"):
        (tmp_path / "foreign").write_bytes(content)
        with pytest.raises(DataError, match="name another"):
            PredictionFile(tmp_path / "foreign", PREDICTOR, VIEWS, 5).__enter__()
        assert (tmp_path / "foreign").read_bytes() == content
    with pytest.raises(DataError, match="cannot be written"):
        PredictionFile(tmp_path / "nowhere" / "out.jsonl", PREDICTOR, VIEWS, 5).__enter__()
    assert path.read_bytes() == before


def test_the_command_goes_on_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_weights(PREDICTOR.model, INFO, tmp_path / "model.safetensors")
    (tmp_path / "empty.mp4").touch()
    out, videos = tmp_path / "out.jsonl", [*map(str, FILES), str(tmp_path / "empty.mp4")]
    command = ["predict", str(tmp_path / "model.safetensors"), *videos, "--out", str(out), "--views", "1x1", "--json"]
    add = PredictionFile.add

    def interrupt(self: PredictionFile, *arguments: object) -> None:
        add(self, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PredictionFile, "add", interrupt)
        assert main(command) == 130
    assert "--out goes on" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 2
    assert main(command) == 1
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "num_videos": 4, "num_failed": 1}
    rows = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert [row["video"] for row in rows] == videos
    assert [len(row.get("classes", ())) for row in rows] == [2, 2, 2, 0]


def test_what_is_not_asked_for_this_time_stays_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(PREDICTOR.model, INFO, tmp_path / "model.safetensors")
    one, other, empty = (tmp_path / f"{name}.mp4" for name in ("one", "other", "empty"))
    for copied, path in zip((one, other), FILES, strict=False):
        shutil.copy(path, copied)
    empty.touch()
    out = tmp_path / "out.jsonl"

    def lines_after(*given: object) -> list[str]:
        main(["predict", str(tmp_path / "model.safetensors"), *map(str, given), "--out", str(out), "--views", "1x1"])
        return out.read_text().splitlines()

    header, first, second, third = lines_after(one, other, empty)
    assert lines_after(one) == [header, second, third, first]
    assert lines_after(other, "--window", 2)[:4] == [header, second, third, first]
    windows = out.read_text().splitlines()[4:]
    assert len(windows) > 1
    longer = lines_after(other, "--window", 3)
    assert set(windows) < set(longer)
    other.unlink()  # what was said of it is still true of what it was
    one.write_bytes(b"no video")
    assert sorted(lines_after(one, other)) == sorted(longer)
    assert lines_after("--window", 2, other)[0] == header
    assert sorted(out.read_text().splitlines()) == sorted(longer)
    assert "error: " in capsys.readouterr().err


def test_a_manifest_or_a_folder_stands_for_its_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(PREDICTOR.model, INFO, tmp_path / "model.safetensors")
    (tmp_path / "list.csv").write_text(f"path,label,start,end\n{FILES[0]},0,0.5,1.5\n{FILES[1]},1,,\n")
    command = ["predict", str(tmp_path / "model.safetensors"), "--views", "1x1", "--device", "cpu"]
    (tmp_path / "folder").mkdir()
    shutil.copy(FILES[2], tmp_path / "folder" / "c.mp4")
    assert main([*command, str(tmp_path / "list.csv"), str(tmp_path / "folder"), str(FILES[2])]) == 0
    out = capsys.readouterr().out
    assert f"{FILES[0]} from 0.5 s to 1.5 s\n" in out
    assert f"{FILES[1]}\n" in out
    assert f"{tmp_path / 'folder' / 'c.mp4'}\n" in out
    assert f"{FILES[2]}\n" in out


def test_names_cannot_leave_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = INFO.model_copy(update={"class_names": ("falls\x1b[2J\n   99.0%  faked", "walks")})
    save_weights(PREDICTOR.model, info, tmp_path / "model.safetensors")
    bad = tmp_path / "no\x1b[2J\nerror: faked.mp4"
    video = Path(shutil.copy(FILES[0], tmp_path / "a\x1b[2J.mp4"))
    assert main(["predict", str(tmp_path / "model.safetensors"), str(video), str(bad), "--views", "1x1"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert [line.startswith("error: ") for line in err.splitlines() if "faked" in line] == [True]
    assert out.count("\\x1b[2J") == 2
    assert "\x1b" not in out + err
