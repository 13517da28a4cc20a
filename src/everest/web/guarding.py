"""Who is answered, what is said of errors, and what a browser may do with an answer. Needs aiohttp."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from everest.errors import EverestError, is_out_of_memory
from everest.web.names import Names

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def guard(names: Names) -> Any:
    """Make what answers only to our own page, and says what is wrong as it shows errors."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not names.include(request.host):
            return _problem("use the address that everest ui printed, or start it with --name", 403)
        if request.method != "GET" and request.headers.get("Origin") not in _own_origins(request):
            return _problem("this was asked by another page", 403)
        return await _answer(request, handler)

    return guarded


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Forbid other hosts, also in what aiohttp itself says of errors."""
    response.headers.update(HEADERS)


def _own_origins(request: web.Request) -> tuple[str | None, ...]:
    """Where a question may come from: this page, or what is no page."""
    return (None, f"http://{request.host}", f"https://{request.host}")


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except EverestError as error:
        return _problem(str(error), 422)
    except web.HTTPException as error:
        return _problem(error.reason, error.status)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _problem("the memory does not suffice for this clip", 422)


def _problem(text: str, status: int) -> web.Response:
    return web.json_response({"error": text}, status=status)
