"""Files at URLs, copied part by part."""

from pathlib import Path

import pytest

from everest.errors import RemoteError
from everest.video import fetching
from everest.video.fetching import fetch_file
from everest.video.remote import Patience, size_of_url
from failing_server import Fault, serving

CONTENT = bytes(range(256)) * 40
QUICK = Patience(total_seconds=20.0, first_wait_seconds=0.01, longest_wait_seconds=0.05)


@pytest.mark.parametrize("part_bytes", [100_000, 10_240, 3_000, 1])
def test_a_copy_has_the_same_bytes_in_parts_of_any_size(
    part_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CONTENT if part_bytes > 1 else CONTENT[:7]
    monkeypatch.setattr(fetching, "PART_BYTES", part_bytes)
    with serving() as server:
        server.files = {"a.mp4": content}
        server.fault_of = lambda request: Fault(drop=True) if request.number % 3 == 2 else None
        url = f"{server.url}/a.mp4"
        seen: list[int] = []
        size = size_of_url(url, patience=QUICK)
        assert fetch_file(url, tmp_path / "copy", size, patience=QUICK, on_bytes=seen.append) == len(content)
    assert size == len(content)
    assert (tmp_path / "copy").read_bytes() == content
    assert seen == [min((n + 1) * part_bytes, len(content)) for n in range(-(-len(content) // part_bytes))]


def test_what_is_not_there_or_comes_short_is_an_error(tmp_path: Path) -> None:
    with serving() as server:
        server.files = {"a.mp4": CONTENT}
        with pytest.raises(RemoteError, match="404"):
            size_of_url(f"{server.url}/none.mp4", patience=QUICK)
        with pytest.raises(RemoteError, match="10240 bytes came where 10241 were asked for"):
            fetch_file(f"{server.url}/a.mp4", tmp_path / "copy", len(CONTENT) + 1, patience=QUICK)
