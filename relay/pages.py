"""The files that browsers load from a relay: the terminal library."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).parent / "web"
# Browsers run a module only if it is served as JavaScript (HTML, "fetch a single module script").
TYPES = {".js": "text/javascript; charset=utf-8", ".ts": "text/plain; charset=utf-8"}


def routes() -> list[BaseRoute]:
    """A route for each file, under its name."""
    return [_route(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES]


def has_tag(asked: str, tag: str) -> bool:
    """Whether an If-None-Match names a tag. A proxy that compresses makes it weak (RFC 9110, section 8.8.1)."""
    return not {tag, "*"}.isdisjoint(one.strip().removeprefix("W/") for one in asked.split(","))


def _route(path: Path) -> Route:
    body = path.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    # Asked for anew each time, so that a page never runs the library of an older relay.
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

    async def endpoint(request: Request) -> Response:
        if has_tag(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=TYPES[path.suffix], headers=headers)

    return Route(f"/{path.name}", endpoint)
