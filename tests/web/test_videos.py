"""Uploaded files are limited, named here, and gone when nobody looks at them."""

from pathlib import Path

import pytest

from everest.datasets import ClipRecord, load_data
from everest.errors import ConfigError, VideoError
from everest.web import videos as module
from everest.web.looking import VideoLook
from everest.web.videos import EXAMPLES, Videos, open_example, shown_name, tell

LOOK = VideoLook(ClipRecord(load_data("bundled").records[0].path))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def uploaded(videos: Videos, num_bytes: int = 10) -> tuple[str, Path]:
    path = videos.new_path(num_bytes)
    path.write_bytes(bytes(num_bytes))
    return videos.add("a.mp4", LOOK, path).key, path


def test_keys_and_names_cannot_be_guessed(tmp_path: Path) -> None:
    videos = Videos(tmp_path, 100, 1000)
    keys = {uploaded(videos)[0] for _ in range(20)}
    assert len(keys) == 20
    assert min(map(len, keys)) >= 32
    assert len({path.name for path in tmp_path.iterdir()}) == 20
    for key in ("", "..", "a.mp4", "0"):
        with pytest.raises(VideoError, match="not here any more"):
            videos.get(key)


def test_a_closed_video_leaves_nothing(tmp_path: Path) -> None:
    videos = Videos(tmp_path, 100, 1000)
    key, path = uploaded(videos)
    other, kept = uploaded(videos)
    videos.close(key)
    videos.close(key)
    assert not path.exists()
    assert kept.exists()
    assert videos.get(other).upload == kept
    with pytest.raises(VideoError, match="open it again"):
        videos.get(key)


def test_examples_are_never_deleted(tmp_path: Path) -> None:
    videos = Videos(tmp_path, 100, 1000)
    look = open_example(0)
    videos.close(videos.add("an example", look).key)
    assert look.record.path.exists()


def test_what_nobody_looks_at_is_closed(tmp_path: Path) -> None:
    clock = Clock()
    videos = Videos(tmp_path, 100, 1000, clock)
    (old, gone), (used, kept) = uploaded(videos), uploaded(videos)
    clock.now = module.IDLE_SECONDS - 1
    videos.close_idle()
    videos.get(used)
    clock.now += 2
    videos.close_idle()
    assert not gone.exists()
    assert kept.exists()
    with pytest.raises(VideoError):
        videos.get(old)


def test_files_and_videos_together_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    videos = Videos(tmp_path, 400, 1000, clock)
    keys = []
    for number in range(4):
        clock.now = number
        keys.append(uploaded(videos, 300)[0])
        if number == 2:
            clock.now += 0.5
            videos.get(keys[0])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
    videos.get(keys[0])
    with pytest.raises(VideoError):
        videos.get(keys[1])  # was not used for longest
    monkeypatch.setattr(module, "MAX_VIDEOS", 5)
    for _ in range(9):
        videos.add("an example", LOOK)
    assert len(videos) == 5


def test_files_on_their_way_are_limited_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = Videos(tmp_path, 400, 1000)
    (_, gone), (_, kept) = uploaded(videos, 400), uploaded(videos, 400)
    on_its_way = videos.new_path(300)
    assert (gone.exists(), kept.exists()) == (False, True)
    videos.new_path(400)
    assert not kept.exists()
    with pytest.raises(VideoError, match="try again"):
        videos.new_path(400)
    on_its_way.write_bytes(bytes(300))
    videos.give_up(on_its_way)
    assert not on_its_way.exists()
    again = videos.new_path(400)
    again.write_bytes(bytes(400))
    key = videos.add("a.mp4", LOOK, again).key  # what was on its way is not counted twice
    videos.new_path(200)
    assert videos.get(key).upload == again
    monkeypatch.setattr(module, "MAX_VIDEOS", 3)
    videos.new_path(0)
    with pytest.raises(VideoError):
        videos.get(key)
    with pytest.raises(VideoError, match="try again"):
        videos.new_path(0)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("/etc/passwd", "passwd"),
        ("C:\\videos\\clip.mp4", "clip.mp4"),
        ("", "video"),
        ("folder/", "video"),
        ("a\nb\x1b[31m.mp4", "a\\nb\\x1b[31m.mp4"),
        ("x" * 200, "x" * 79 + "…"),
    ],
)
def test_names_take_one_line(given: str, shown: str) -> None:
    assert shown_name(given) == shown


def test_messages_name_no_place_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "0123abcd"
    for message in (
        f"{path}: not a readable video",
        "0123abcd: is empty",
        f"nothing in {tmp_path} can be read\nat all",
    ):
        told = tell(VideoError(message), path, "mine.mp4")
        assert str(tmp_path) not in told
        assert "0123abcd" not in told
        assert "\n" not in told
    assert tell(VideoError(f"{path}: is empty"), path, "mine.mp4") == "mine.mp4: is empty"


def test_examples_can_be_opened_and_show_their_moment() -> None:
    for number, (_, _, moment) in enumerate(EXAMPLES):
        look = open_example(number)
        assert 0 < moment < look.info.duration_seconds
    with pytest.raises(ConfigError, match="there are examples 0 to 5"):
        open_example(len(EXAMPLES))


def test_examples_show_people_that_the_demo_learns_nothing_of() -> None:
    bundled = load_data("bundled")
    unseen = {record.path for record in bundled.records if record.split == "test"}
    seen = {record.path for record in bundled.records if record.split != "test"}
    paths = {open_example(number).record.path for number in range(len(EXAMPLES))}
    assert paths <= unseen - seen
