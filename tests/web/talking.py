"""A server of the page in this process, and what is asked of it. Needs aiohttp."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from everest.datasets import load_data
from everest.web.app import Page
from everest.web.models import Lookers
from everest.web.videos import Videos

CLIPS = sorted({record.path for record in load_data("bundled").records})
Client = TestClient[Any, Any]
Story = Callable[[Client], Awaitable[None]]


def tell(story: Story, lookers: Lookers, folder: Path) -> None:
    """Run a server and do something with it; in the end no upload is left that was closed."""

    async def run() -> None:
        page = Page(lookers, Videos(folder, 10_000_000, 30_000_000))
        async with TestClient(TestServer(page.app())) as client:
            await story(client)

    folder.mkdir(exist_ok=True)
    asyncio.run(run())


async def opened(client: Client, clip: Path = CLIPS[0], name: str = "a.mp4") -> dict[str, Any]:
    response = await client.post("/api/videos", data=clip.read_bytes(), headers={"X-Name": name})
    assert response.status == 200, await response.text()
    video: dict[str, Any] = await response.json()
    return video


async def asked(client: Client, key: str, what: str = "look", has: str = "", **choice: Any) -> dict[str, Any]:
    response = await client.post(f"/api/videos/{key}/{what}", json={"choice": choice, "has": has})
    answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    return answer


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)
