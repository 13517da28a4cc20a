"""Single videos at URLs are copied a few at a time, and only where they have to be looked at."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import everest
from everest.cli import main
from everest.commands_timeline import tell_timelines
from everest.datasets import load_data
from everest.errors import DataError
from everest.inference import Timeline, Windows, far_videos
from everest.inference.far_videos import MAX_COPIES, Copies, far_record, with_sizes
from everest.video.fetching import fetch_file
from failing_server import FailingServer, serving
from full_disk import no_file_above

CLIP = load_data("bundled").records[0].path
NUM_VIDEOS = 2 * MAX_COPIES + 1


@dataclass
class Fetched:
    """What was copied.

    Attributes:
        urls: Of each copy.
        num_beside: Other copies that were there then.
    """

    urls: list[str] = field(default_factory=list)
    num_beside: list[int] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[FailingServer]:
    with serving() as found:
        found.files = {f"{number}.mp4": CLIP.read_bytes() for number in range(NUM_VIDEOS)}
        yield found


@pytest.fixture
def urls(server: FailingServer) -> list[str]:
    return [f"{server.url}/{name}" for name in server.files]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Fetched:
    found = Fetched()

    def fetch(url: str, path: Path, *given: object, **more: object) -> int:
        found.urls.append(url)
        found.num_beside.append(len(list(path.parent.iterdir())))
        return fetch_file(url, path, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(far_videos, "fetch_file", fetch)
    return found


def test_there_is_room_for_a_few_and_what_is_known_is_not_copied_again(
    server: FailingServer,
    urls: list[str],
    fetched: Fetched,
    small_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.jsonl"

    def predict(*videos: object) -> list[str]:
        command = ["predict", str(small_weights), *map(str, videos), "--out", str(out), "--views", "1x1"]
        assert main(command) == (1 if f"{server.url}/none.mp4" in videos else 0)
        return [json.loads(line)["video"] for line in out.read_text().splitlines()[1:]]

    assert predict(*urls[:2]) == urls[:2]
    given = [*urls[:6], f"{server.url}/none.mp4", CLIP, *urls[6:]]
    assert predict(*given) == list(map(str, given))  # in the order in which they were given
    assert fetched.urls == urls
    assert max(fetched.num_beside) < MAX_COPIES
    capsys.readouterr()
    assert predict(*urls) == [f"{server.url}/none.mp4", str(CLIP), *urls]
    assert fetched.urls == urls
    assert f"predicting {NUM_VIDEOS}/{NUM_VIDEOS}\n" in capsys.readouterr().err  # not 0 of them, when all are known
    server.files["0.mp4"] += b"x"  # another video now
    predict(urls[0])
    assert fetched.urls == [*urls, urls[0]]


def test_timelines_of_more_videos_than_there_is_room_for(
    urls: list[str], fetched: Fetched, small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(small_weights), *urls, "--window", "2", "--json", "--timelines", str(tmp_path)]
    assert main(command) == 0
    known = everest.load(small_weights).timeline(CLIP, Windows(2.0))
    rows = json.loads(capsys.readouterr().out)
    assert [row["video"] for row in rows] == urls
    for row in rows:
        assert [part["name"] for part in row["segments"]] == [part.name for part in known.segments()]
        assert [part["start"] for part in row["windows"]] == [window.start_seconds for window in known.windows]
    assert max(fetched.num_beside) < MAX_COPIES
    assert {url: fetched.urls.count(url) for url in urls} == dict.fromkeys(urls, 2)  # once more for the pictures
    assert len(list(tmp_path.glob("*.png"))) == len(urls)


def test_the_pictures_of_few_videos_need_no_second_copy(
    server: FailingServer, fetched: Fetched, small_weights: Path, tmp_path: Path
) -> None:
    url = f"{server.url}/0.mp4"
    assert main(["predict", str(small_weights), url, "--window", "2", "--timelines", str(tmp_path), "--annotate"]) == 0
    assert fetched.urls == [url]
    assert {path.name for path in tmp_path.iterdir()} == {"0.json", "0.png", "0.mp4"}


def test_what_other_machines_have_read_is_copied_once_for_its_pictures(
    server: FailingServer,
    fetched: Fetched,
    small_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    windows = everest.load(small_weights).timeline(CLIP, Windows(2.0)).windows
    videos, _ = with_sizes([far_record(f"{server.url}/{name}.mp4") for name in ("0", "none")], for_others=True)
    timelines = [Timeline(video.path, windows) for video in videos]
    server.requests.clear()
    options = Namespace(json=True, timelines=tmp_path, annotate=True)
    with Copies() as copies:
        assert tell_timelines(options, timelines, videos, copies) == 1
    assert fetched.urls == [f"{server.url}/0.mp4"]
    assert len(server.asked("0.mp4")) <= 3  # its size, in up to two ways, and the bytes
    assert {path.name for path in tmp_path.iterdir()} == {"0.json", "0.png", "0.mp4", "none.json", "none.png"}
    assert f"error: {server.url}/none.mp4: no frames in the picture: cannot be fetched: 404" in capsys.readouterr().err


def test_a_copy_that_is_used_again_stays(server: FailingServer, fetched: Fetched) -> None:
    videos = [far_record(f"{server.url}/{name}") for name in server.files]
    with Copies() as copies:
        for video in [*videos[:MAX_COPIES], videos[0], *videos[MAX_COPIES : 2 * MAX_COPIES - 1], videos[0]]:
            _, near = copies.near(video)
            assert not isinstance(near, str)
            assert near.path.exists()
    assert len(fetched.urls) == 2 * MAX_COPIES - 1


def test_a_size_that_a_server_does_not_tell_is_that_of_the_copy(
    server: FailingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = far_record(f"{server.url}/0.mp4")
    monkeypatch.setattr(far_videos, "size_of_url", lambda url, patience: None)
    assert with_sizes([video])[1] == [video]
    assert "does not say how large" in str(with_sizes([video], for_others=True)[1][0])
    with Copies() as copies:
        record, near = copies.near(video)
        assert not isinstance(near, str)
        assert near.path.read_bytes() == CLIP.read_bytes()
        assert record.member is not None
        assert record.member.num_bytes == CLIP.stat().st_size
        assert copies.near(video) == (record, near)
    assert not near.path.exists()
    with Copies() as copies, no_file_above(1000), pytest.raises(DataError, match="no room for a copy"):
        copies.near(video)
