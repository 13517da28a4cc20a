"""Files that people send: none that is no video, none that is too large, and none that stays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from aiohttp.test_utils import TestClient, TestServer
from talking import CLIPS, Client, asked, opened, tell, until

from everest.web import app
from everest.web.app import Page
from everest.web.models import Lookers
from everest.web.videos import IDLE_SECONDS, Videos


def wrong_files() -> dict[str, bytes]:
    whole = CLIPS[0].read_bytes()
    return {
        "text": b"this is a letter\n" * 50,
        "empty": b"",
        "torn": whole[: len(whole) // 3],
        "playlist": b"#EXTM3U\n",
    }


@pytest.mark.parametrize("kind", ["text", "empty", "torn", "playlist"])
def test_a_wrong_file_is_an_error_and_leaves_nothing(kind: str, lookers: Lookers, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"

    async def story(client: Client) -> None:
        response = await client.post("/api/videos", data=wrong_files()[kind], headers={"X-Name": "holiday.mp4"})
        assert response.status == 422
        error = (await response.json())["error"]
        assert "holiday.mp4" in error
        for secret in (str(tmp_path), "uploads", "Traceback", "/"):
            assert secret not in error
        assert list(folder.iterdir()) == []
        await asked(client, (await opened(client))["key"], keep_ratio=0.5)  # the page goes on working

    tell(story, lookers, folder)


def test_a_file_that_breaks_later_is_told_by_its_name(lookers: Lookers, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"

    async def story(client: Client) -> None:
        video = await opened(client)
        (file,) = folder.iterdir()
        file.write_bytes(b"")
        response = await client.post(f"/api/videos/{video['key']}/look", json={"choice": {"keep_ratio": 0.5}})
        assert response.status == 422
        error = (await response.json())["error"]
        assert error.startswith("a.mp4")
        assert file.name not in error
        assert str(folder) not in error

    tell(story, lookers, folder)


def test_large_files_are_refused_whatever_is_said_of_them(lookers: Lookers, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"

    async def in_pieces() -> Any:
        for _ in range(12):
            yield bytes(1_000_000)

    async def story(client: Client) -> None:
        for data in (bytes(10_000_001), in_pieces()):
            response = await client.post("/api/videos", data=data, headers={"X-Name": "long.mp4"})
            assert response.status == 422
            assert "larger than 10 MB" in (await response.json())["error"]
        assert list(folder.iterdir()) == []

    tell(story, lookers, folder)


def test_an_upload_that_breaks_off_leaves_nothing(lookers: Lookers, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"

    async def story(client: Client) -> None:
        reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
        writer.write(b"POST /api/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n" + bytes(3000))
        await writer.drain()
        while not list(folder.iterdir()):
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        for _ in range(500):
            if not list(folder.iterdir()):
                break
            await asyncio.sleep(0.01)
        assert list(folder.iterdir()) == []

    tell(story, lookers, folder)


async def begin_upload(client: Client, num_bytes: int) -> asyncio.StreamWriter:
    """Announce a file, and send less of it."""
    _, writer = await asyncio.open_connection(client.server.host, client.server.port)
    writer.write(b"POST /api/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % num_bytes)
    writer.write(bytes(3000))
    await writer.drain()
    return writer


def test_files_that_are_not_sent_to_the_end_take_their_room_for_a_while(
    lookers: Lookers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "PIECE_SECONDS", 2.0)
    folder = tmp_path / "uploads"

    async def story(client: Client) -> None:
        writers = [await begin_upload(client, 9_990_000) for _ in range(3)]
        await until(lambda: len(list(folder.iterdir())) == 3)
        content = CLIPS[0].read_bytes()
        response = await client.post("/api/videos", data=content, headers={"X-Name": "a.mp4"})
        assert response.status == 422
        assert "too many videos are being received: try again" in (await response.json())["error"]
        await until(lambda: not list(folder.iterdir()))
        await opened(client)
        for writer in writers:
            writer.close()

    tell(story, lookers, folder)


def test_clips_of_closed_videos_are_forgotten(lookers: Lookers, tmp_path: Path) -> None:
    async def run() -> None:
        videos = Videos(tmp_path, 10_000_000, 30_000_000)
        async with TestClient(TestServer(Page(lookers, videos).app())) as client:
            keys = [
                (await opened(client))["key"],
                (await (await client.post("/api/examples/1", json={})).json())["key"],
            ]
            for key in keys:
                before = videos.clips.num_bytes
                await asked(client, key, keep_ratio=0.5)
                assert videos.clips.num_bytes > before
            for key in keys:
                await client.post(f"/api/videos/{key}/close")
            assert videos.clips.num_bytes == 0

    asyncio.run(run())


def test_what_nobody_looks_at_is_deleted_by_and_by(
    lookers: Lookers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TIDY_EVERY_SECONDS", 0.05)
    now = [0.0]

    async def run() -> None:
        videos = Videos(tmp_path, 10_000_000, 30_000_000, lambda: now[0])
        async with TestClient(TestServer(Page(lookers, videos).app())) as client:
            await opened(client)
            await asyncio.sleep(0.2)
            assert len(list(tmp_path.iterdir())) == 1
            now[0] = IDLE_SECONDS + 1
            await until(lambda: not list(tmp_path.iterdir()))

    asyncio.run(run())
