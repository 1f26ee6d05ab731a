"""The files that browsers load from a relay: its pages and what they are made of, and the terminal library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).parent / "web"
BOARD = FOLDER / "board.html"
# Browsers run a module only if it is served as JavaScript (HTML, "fetch a single module script").
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
}
# A page runs what this relay serves and nothing else, and talks to it alone; a menu's pictures are data: URLs. Where
# text of a terminal ever became markup, it still could not run (Content Security Policy Level 3; Trusted Types).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types worker"
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def routes() -> list[BaseRoute]:
    """A route for each file under its path; a page's has no ending, and the page `index` is at `/`.

    All but BOARD, whose status depends on who asks.
    """
    return [_route(path, address) for address, path in _FILES.items() if path != BOARD]


def is_page(path: str) -> bool:
    """Whether a page, or a part of one, is at this path of an address: what anybody may read."""
    return path in _FILES


def has_tag(asked: str, tag: str) -> bool:
    """Whether an If-None-Match names a tag. A proxy that compresses makes it weak (RFC 9110, section 8.8.1)."""
    return not {tag, "*"}.isdisjoint(one.strip().removeprefix("W/") for one in asked.split(","))


def _address(path: Path) -> str:
    name = path.relative_to(FOLDER).as_posix()
    return "/" + (name.removesuffix(".html").removesuffix("index") if path.suffix == ".html" else name)


_FILES = {_address(path): path for path in sorted(FOLDER.rglob("*")) if path.suffix in TYPES}


def served(path: Path) -> Callable[..., Response]:
    """Answers a request with a file as it was when the relay began, under a status that is 200 unless one is given."""
    body = path.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    # Asked for anew each time, so that a page never runs the library of an older relay.
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    headers |= PAGE_HEADERS if path.suffix == ".html" else {}

    def answer(request: Request, status: int = 200) -> Response:
        if status == 200 and has_tag(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, status, media_type=TYPES[path.suffix], headers=headers)

    return answer


def _route(path: Path, address: str) -> Route:
    answer = served(path)

    async def endpoint(request: Request) -> Response:
        return answer(request)

    return Route(address, endpoint)
