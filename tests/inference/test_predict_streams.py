"""`everest predict` on streams: what was seen is told, kept and drawn, however the stream ends."""

import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
from small_predictors import a_predictor

from everest.cli import main
from everest.commands_stream import _Seen
from everest.datasets import load_data
from everest.errors import DataError
from everest.inference import ClipPrediction, Windows
from everest.inference.kept import StreamFile
from everest.inference.predict import ONE_VIEW
from full_disk import no_file_above
from live_sources import as_transport_stream, sending

CLIP = load_data("bundled").records[0].path
CONTENT = as_transport_stream(CLIP)


def run(capsys: pytest.CaptureFixture[str], *command: object) -> tuple[int, str, str]:
    code = main(["predict", *map(str, command)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_stream_is_told_line_by_line(small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, folder = tmp_path / "l.jsonl", tmp_path / "t"
    command = (small_weights, "--window", 0.8, "--json", "--out", out, "--timelines", folder)
    with sending(CONTENT) as address:
        code, told, err = run(capsys, *command, address)
    rows = [json.loads(line) for line in told.splitlines()]
    assert (code, err) == (0, "")
    assert rows
    header, started, *kept = map(json.loads, out.read_text().splitlines())
    assert kept == rows
    assert (header["stream"], header["window"], header["hop"]) == (address, 0.8, None)
    assert set(started) == {"started"}
    assert json.loads((folder / "stream.json").read_text())["windows"][0]["classes"] == rows[0]["classes"]
    assert (folder / "stream.png").stat().st_size > 5000
    with sending(CONTENT) as address:
        code, told, _ = run(capsys, small_weights, address, "--window", 0.5, "--seconds", 1.2)
    assert code == 0
    assert told.splitlines()[0].startswith("0:00.0 - 0:00.5  ")
    assert len(told.splitlines()) <= 2


def test_what_ended_a_stream_is_said_although_nothing_can_be_drawn(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (small_weights, "--window", 0.8, "--timelines", tmp_path)
    with sending(CONTENT, silent_seconds=1.0, torn=True) as address, no_file_above(100):
        code, told, err = run(capsys, *command, address)
    assert code == 1
    assert told
    assert [line.rpartition(":")[0] for line in err.splitlines()] == [
        f"error: {address}: broke off",
        f"error: {tmp_path}: cannot be written: File too large; name another folder".rpartition(":")[0],
    ]


def test_what_was_seen_is_drawn_when_somebody_has_seen_enough(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = _Seen.tell

    def interrupt(self: _Seen, window: ClipPrediction) -> None:
        tell(self, window)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Seen, "tell", interrupt)
    command = (small_weights, "--window", 0.8, "--timelines", tmp_path)
    for name in ("stream", "stream-2"):  # what was seen before is not written over
        with sending(CONTENT) as address:
            assert run(capsys, *command, address)[0] == 130
        assert len(json.loads((tmp_path / f"{name}.json").read_text())["windows"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{ending}" for name in ("stream", "stream-2") for ending in ("json", "png")
    }


def test_windows_are_only_kept_to_be_drawn(tmp_path: Path) -> None:
    for folder, num_kept in ((None, 0), (tmp_path, 3)):
        seen = _Seen(Namespace(json=True, timelines=folder))
        for number in range(3):
            seen.tell(ClipPrediction(Path("a"), (("walk", 1.0),), float(number), number + 1.0, 0.0))
        assert (len(seen._windows), seen.num_windows) == (num_kept, 3)


def test_a_file_of_windows_holds_those_of_one_stream(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = Path(shutil.copy(CLIP, tmp_path / "a.mp4"))
    predictions, windows = tmp_path / "p.jsonl", tmp_path / "w.jsonl"
    assert run(capsys, small_weights, video, "--views", "1x1", "--window", 2, "--out", predictions)[0] == 0
    before = predictions.read_bytes()
    with sending(CONTENT) as address:
        command = (small_weights, address, "--window", 0.8, "--out")
        code, out, err = run(capsys, *command, predictions)
        assert (code, out) == (2, "")
        assert f"error: {predictions}: exists, but does not hold windows of this stream" in err
        assert predictions.read_bytes() == before
        code, out, err = run(capsys, *command, tmp_path / "none" / "w.jsonl")
        assert (code, out) == (2, "")
        assert f"error: {tmp_path / 'none' / 'w.jsonl'}: cannot be written: No such file or directory" in err
        with no_file_above(500):
            code, out, err = run(capsys, *command, windows, "--timelines", tmp_path / "t")
        assert (code, len(out.splitlines())) == (2, 1)
        assert err.splitlines() == [  # what was seen is drawn nevertheless, as far as that can be
            f"error: {tmp_path / 't'}: cannot be written: File too large; name another folder",
            f"error: {windows}: cannot be written: File too large; name another file with --out",
        ]
    code, out, err = run(capsys, small_weights, video, "--window", 0.8, "--out", windows)
    assert (code, out) == (2, "")
    assert f"error: {windows}: exists, but does not hold predictions of these weights" in err


def a_file(path: Path) -> StreamFile:
    return StreamFile(path, a_predictor(), "tcp://a:1", Windows(1.0), views=ONE_VIEW, top=5)


def test_one_program_at_a_time_adds_to_a_file_of_windows(tmp_path: Path) -> None:
    first, second = (a_file(tmp_path / "w.jsonl") for _ in range(2))
    window = ClipPrediction(Path("a"), (("walk", 1.0),), 0.0, 1.0, 0.0)
    with first:
        first.add(window)
        with pytest.raises(DataError, match="is predicting and writes here"), second:
            pass
    whole = (tmp_path / "w.jsonl").read_bytes()
    (tmp_path / "w.jsonl").write_bytes(whole + b'{"video": "cut off')
    with second:
        second.add(window)
        second.add(window)
    rows = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert ["started" in row for row in rows] == [False, True, False, True, False, False]


def test_a_stream_stands_alone_and_is_one(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, told in (
        ((CLIP, "udp://127.0.0.1:9"), "a stream has to be the only VIDEO"),
        ((CLIP, "--live"), f"{CLIP}: is neither a camera nor at a URL; a file is read without --live"),
        (("http://127.0.0.1:9/c", "--live"), "http://127.0.0.1:9/c: cannot be opened: connection refused"),
        (("http://127.0.0.1:9/c", "--live", "--seconds", 0), "--seconds must be more than 0, given: 0"),
    ):
        code, out, err = run(capsys, small_weights, *given)
        assert (code, out) == (2, "")
        assert told in err
