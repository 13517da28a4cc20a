"""The page and what it asks for. Imported only where aiohttp is there.

The page keeps what a person has set and sends it with every question; the server keeps opened videos, each under a key
that only its page knows. So two people never see each other's, and what one sets changes nothing for another. Questions
are computed one after another: quick ones, which follow a slider, in a thread of their own beside slow ones. Files are
opened and read in a third one, so that a heavy video of one person keeps no slider of another waiting.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from aiohttp import web

from everest.config import Config
from everest.datasets import ClipRecord
from everest.errors import ConfigError, VideoError
from everest.links import open_new
from everest.settings import parse
from everest.web import showing
from everest.web.costs import count_cost
from everest.web.guarding import add_headers, guard
from everest.web.looking import Choice, VideoLook
from everest.web.models import Lookers
from everest.web.names import Names
from everest.web.videos import EXAMPLES, OpenVideo, Videos, open_example, shown_name, tell

Result = TypeVar("Result")

STATIC = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("pictures", "asking", "showing", "opening", "page")
    },
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
CHUNK_BYTES = 2**18
PIECE_SECONDS = 60.0  # between two pieces of an upload
TIDY_EVERY_SECONDS = 60.0
LOCAL = Names()


class Question(Config):
    """What the page asks of a video.

    Attributes:
        choice: What is set.
        has: The clip that the page shows already, by :func:`everest.web.showing.clip_key`.
    """

    choice: Choice
    has: str = ""


class Page:
    """Answers to the page.

    Args:
        lookers: What looks at videos.
        videos: Those that are open.
        names: What this server is called in a browser. A page from elsewhere that has its own name lead to this
            machine is refused that way.
    """

    def __init__(self, lookers: Lookers, videos: Videos, names: Names = LOCAL) -> None:
        self.lookers, self.videos, self.names = lookers, videos, names
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="everest-ui-reading")
        self._quick = ThreadPoolExecutor(max_workers=1, thread_name_prefix="everest-ui-quick")
        self._slow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="everest-ui-slow")

    def app(self) -> web.Application:
        """Make the application."""
        app = web.Application(middlewares=[guard(self.names)], client_max_size=2**16)
        for path, (name, kind) in STATIC.items():
            app.router.add_get(path, functools.partial(_static, name, kind))
        app.router.add_get("/api/start", self.start)
        app.router.add_get(r"/api/examples/{number:\d{1,3}}.png", self.thumbnail)
        app.router.add_post(r"/api/examples/{number:\d{1,3}}", self.open_example)
        app.router.add_post("/api/videos", self.upload)
        app.router.add_post("/api/videos/{key}/look", self.look)
        app.router.add_post("/api/videos/{key}/think", self.think)
        app.router.add_post("/api/videos/{key}/close", self.close)
        app.on_response_prepare.append(add_headers)
        app.cleanup_ctx.append(self._tidy)
        return app

    async def start(self, _: web.Request) -> web.Response:
        """Say what there is to choose from."""
        examples = [{"name": what} for _, what, _ in EXAMPLES]
        values = {"max_bytes": self.videos.max_bytes, "examples": examples}
        return web.json_response(values | showing.describe_lookers(self.lookers))

    async def thumbnail(self, request: web.Request) -> web.Response:
        """Show an example small."""
        number = int(request.match_info["number"])
        return web.Response(body=await self._run(self._reading, _thumbnail, number), content_type="image/png")

    async def open_example(self, request: web.Request) -> web.Response:
        """Open a bundled video."""
        number = int(request.match_info["number"])
        look = await self._run(self._reading, open_example, number, self.videos.clips)
        return self._opened(self.videos.add(f"example: {EXAMPLES[number][1]}", look))

    async def upload(self, request: web.Request) -> web.Response:
        """Receive a video and open it; its bytes are the body, its name a header."""
        name = shown_name(unquote(request.headers.get("X-Name", "")))
        path = self.videos.new_path(self._announced(request))
        try:
            await self._receive(request, path)
            look = await self._run(self._reading, VideoLook, ClipRecord(path), None, self.videos.clips)
            return self._opened(self.videos.add(name, look, path))
        except VideoError as error:
            self.videos.give_up(path)
            raise VideoError(tell(error, path, name)) from None
        except BaseException:
            self.videos.give_up(path)
            raise

    async def look(self, request: web.Request) -> web.Response:
        """Show which tokens are kept."""
        video, question = await self._asked(request)
        return web.json_response(await self._run(self._quick, self._look, video, question))

    async def think(self, request: web.Request) -> web.Response:
        """Show what takes longer: cost, classes, pixels."""
        video, question = await self._asked(request)
        return web.json_response(await self._run(self._slow, self._think, video, question.choice))

    async def close(self, request: web.Request) -> web.Response:
        """Forget a video."""
        self.videos.close(request.match_info["key"])
        return web.json_response({})

    def _look(self, video: OpenVideo, question: Question) -> dict[str, Any]:
        with _told(video):
            found = video.look.choose(self.lookers.by_task[question.choice.task], question.choice).seen()
        key = showing.clip_key(found)
        clip = {} if key == question.has else showing.draw_clip(found)
        return {"clip": key, "numbers": showing.describe_look(found), "kept": showing.draw_kept(found), **clip}

    def _think(self, video: OpenVideo, choice: Choice) -> dict[str, Any]:
        with _told(video):
            chosen = video.look.choose(self.lookers.by_task[choice.task], choice)
            cost = count_cost(chosen.seen(), is_random=self.lookers.is_random)
            result, classes = chosen.reconstruct(), chosen.predict()
        return {
            "cost": showing.describe_cost(cost),
            "reconstruction": None if result is None else showing.draw_reconstruction(result),
            "classes": classes,
        }

    def _opened(self, video: OpenVideo) -> web.Response:
        values = {"key": video.key, "name": video.name, **showing.describe_video(video.look, self.lookers)}
        return web.json_response(values)

    def _announced(self, request: web.Request) -> int:
        """How large the body is: what is said of it, or the most that is accepted.

        Raises:
            VideoError: It is larger than what is accepted.
        """
        limit = self.videos.max_bytes
        announced = limit if request.content_length is None else request.content_length
        if announced > limit:
            raise _too_large(limit)
        return announced

    async def _receive(self, request: web.Request, path: Path) -> None:
        """Write the body to a file.

        Raises:
            VideoError: It is larger than what is accepted, or does not go on.
        """
        num_bytes = 0
        with open_new(path) as file:
            while chunk := await _next_piece(request):
                num_bytes += len(chunk)
                if num_bytes > self.videos.max_bytes:
                    raise _too_large(self.videos.max_bytes)
                file.write(chunk)

    async def _asked(self, request: web.Request) -> tuple[OpenVideo, Question]:
        video = self.videos.get(request.match_info["key"])
        try:
            values = await request.json()
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise ConfigError("expected a question as JSON")
        question = parse(Question, values)
        looker = self.lookers.by_task[question.choice.task]
        if not video.look.is_read(looker, question.choice):
            await self._run(self._reading, self._read, video, question.choice)
        return video, question

    def _read(self, video: OpenVideo, choice: Choice) -> None:
        with _told(video):
            video.look.choose(self.lookers.by_task[choice.task], choice)

    @staticmethod
    async def _run(thread: ThreadPoolExecutor, work: Callable[..., Result], *given: Any) -> Result:
        """Compute in a thread; who goes away before it is his turn is left out."""
        return await asyncio.get_running_loop().run_in_executor(thread, work, *given)

    async def _tidy(self, _: web.Application) -> AsyncIterator[None]:
        """While the server runs, close what nobody looks at."""

        async def from_time_to_time() -> None:
            while True:
                await asyncio.sleep(TIDY_EVERY_SECONDS)
                self.videos.close_idle()

        task = asyncio.create_task(from_time_to_time())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for thread in (self._reading, self._quick, self._slow):
            thread.shutdown(cancel_futures=True)


async def _next_piece(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            return await request.content.read(CHUNK_BYTES)
    except TimeoutError:
        raise VideoError(f"nothing more of the file came for {PIECE_SECONDS:.0f} s: send it again") from None


def _too_large(limit: int) -> VideoError:
    return VideoError(f"the file is larger than {limit / 1e6:.0f} MB: cut it, or start with --max-megabytes")


async def _static(name: str, kind: str, _: web.Request) -> web.Response:
    text = files("everest.web").joinpath("static", name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=kind)


@functools.lru_cache(maxsize=len(EXAMPLES))
def _thumbnail(number: int) -> bytes:
    return showing.thumbnail(open_example(number))


@contextlib.contextmanager
def _told(video: OpenVideo) -> Any:
    """Say what is wrong with a video by the name that its owner knows."""
    try:
        yield
    except VideoError as error:
        raise VideoError(video.told(error)) from None
