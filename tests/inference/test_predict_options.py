"""What `everest predict` refuses, it refuses before any work, and with the name of the option."""

from pathlib import Path

import pytest

from everest.cli import main

NO_WEIGHTS = "no-weights"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--annotate"], "--annotate writes into the folder of --timelines, which is not given"),
        (["--seconds", "3"], "--seconds says when to stop reading a stream; no VIDEO is one"),
        (["--window", "0"], "--window must be 0.001 seconds or more, given: 0"),
        (["--window", "-3"], "--window must be 0.001 seconds or more, given: -3"),
        (["--window", "nan"], "--window must be 0.001 seconds or more, given: nan"),
        (["--hop", "inf"], "--hop must be 0.001 seconds or more, given: inf"),
        (["--top", "0"], "--top must be at least 1, given: 0"),
        (["--views", "3"], "--views '3': expected SEGMENTSxCROPS with numbers from 1 to"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    given: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", NO_WEIGHTS, "a.mp4", *given, "--out", str(tmp_path / "n.jsonl")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {told}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("video", ["a.mp4", "tcp://127.0.0.1:1"])
def test_a_folder_that_cannot_be_written_is_said_first(
    video: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    assert main(["predict", NO_WEIGHTS, video, "--timelines", str(taken)]) == 2
    assert capsys.readouterr().err == f"error: {taken}: cannot be written: File exists; name another folder\n"
