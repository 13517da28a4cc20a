"""Where videos are, for people."""

from pathlib import Path

import pytest

from everest.video.source import say_location

URLS = [
    "http://host:8/a/b.csv",
    "s3://bucket/000000.tar/1.mp4",
    "memory://pk/manifest.csv",
    "simplecache::https://host/x",
    "file:///data/x.tar",
]


@pytest.mark.parametrize("url", URLS)
def test_a_path_that_was_a_url_is_written_as_one(url: str) -> None:
    assert say_location(Path(url)) == url


@pytest.mark.parametrize("path", ["/data/http:/x.mp4", "videos/x.mp4", "C:/x.mp4", "a b: c/x.mp4", "/"])
def test_other_paths_stay(path: str) -> None:
    assert say_location(Path(path)) == path
