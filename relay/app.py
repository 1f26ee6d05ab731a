"""The routes: the WebSocket, the read-only API, health."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from . import __version__, pages, protocol, schema
from .auth import Identity, Shown, shown
from .boards import Boards
from .connections import Connections
from .errors import DatabaseUnavailable, Refusal, Unauthorized, UnknownRestaurant
from .gauges import Registry
from .health import Health
from .hub import Room
from .listener import Listener
from .origins import is_allowed
from .reader import READ_BYTES
from .snapshots import Snapshot
from .standby import Reads
from .syncer import now_ms

PAGE_ROWS, PAGE_ROWS_MOST = 100, 1000
MAX_REVISION = 2**63 - 1
LEAVING = "this relay is stopping: terminals go to another one"

Answering = Callable[[Request], Awaitable[Response]]


class OriginGate:
    """Refuses requests and WebSockets that a foreign page makes: 403."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...] | None) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in."""
        # A page's own modules are asked for with an Origin too; what they are is no secret, and CORS has its say below.
        is_public = scope["type"] == "http" and pages.is_page(scope["path"])
        if scope["type"] in ("http", "websocket") and not is_public:
            headers = Headers(scope=scope)
            if not is_allowed(headers.get("origin"), headers.get("host", ""), self._allowed):
                if scope["type"] == "websocket":
                    await receive()
                    await send({"type": "websocket.close"})  # before it is accepted: 403
                else:
                    await PlainTextResponse("this origin is not in RELAY_ORIGINS", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Api:
    """The read-only API of one relay."""

    def __init__(
        self, connections: Connections, listener: Listener, health: Health, reads: Reads, boards: Boards
    ) -> None:
        self._connections = connections
        self._listener = listener
        self._health = health
        self._reads = reads
        self._page = pages.served(pages.BOARD)
        self._boards = boards
        self._started = time.monotonic()
        self._registry = Registry(connections, listener, health, reads)

    @property
    def routes(self) -> list[BaseRoute]:
        """Every route."""
        return [
            WebSocketRoute("/ws", self._connections),
            WebSocketRoute("/", self._connections),
            Route("/health", self.health),
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", self.metrics),
            *pages.routes(),
            Route("/board", self.board_page),
            Route("/api/board", self._guarded(self.board)),
            *(
                Route(f"/api/{name}", self._answering(answer))
                for name, answer in {
                    "sync": self.sync,
                    "changes": self.changes,
                    "tables": self.tables,
                    "menu": self.menu,
                    "settings": self.settings,
                    "orders": self.orders,
                }.items()
            ),
        ]

    # Health

    async def live(self, _request: Request) -> Response:
        """The process serves requests."""
        return JSONResponse({"status": "live"})

    async def ready(self, _request: Request) -> Response:
        """Whether a proxy should send terminals here."""
        if self._health.ready:
            return JSONResponse({"status": "ready"})
        reasons = [problem.message for problem in self._health.problems() if not problem.serves]
        return JSONResponse({"status": "not ready", "problems": reasons or [LEAVING]}, 503)

    async def health(self, _request: Request) -> Response:
        """The state of this instance; 503 when it can serve nobody."""
        status = self._health.status
        silent = self._listener.silent_seconds
        body = {
            "status": status,
            "ready": self._health.ready,
            "problems": [problem.message for problem in self._health.problems()],
            "clients": len(self._connections.open),
            "timestamp": now_ms(),
            "version": __version__,
            "uptimeSeconds": round(time.monotonic() - self._started),
            "draining": self._connections.draining,
            "database": {"reached": self._listener.database_reached},
            "schema": {"installed": self._health.installed, "needed": schema.VERSION},
            "listener": {
                "hearing": self._listener.hearing,
                "silentSeconds": None if silent is None else round(silent, 1),
                "lag": self._listener.lag,
                "stuckSeconds": round(self._listener.stuck_seconds, 1),
            },
            "pending": self._connections.writer.pending,
            "lagging": sum(session.lagging for session in self._connections.hub.sessions),
        }
        return JSONResponse(body, 503 if status == "down" else 200)

    async def metrics(self, request: Request) -> Response:
        """Everything that is counted, as Prometheus reads it."""
        write, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(write(self._registry), media_type=None, headers={"Content-Type": media_type})

    # The API

    async def sync(self, request: Request) -> Response:
        """The state as in a snapshot."""
        return _tagged(request, await self._snapshot(request), Snapshot.text)

    async def tables(self, request: Request) -> Response:
        """The dining tables."""
        return _tagged(request, await self._snapshot(request), lambda s: _wrapped(s, tables=s.state.tables))

    async def menu(self, request: Request) -> Response:
        """Dishes and categories."""
        return _tagged(
            request,
            await self._snapshot(request),
            lambda s: _wrapped(s, menuItems=s.state.menu_items, categories=s.state.categories),
        )

    async def settings(self, request: Request) -> Response:
        """The settings."""
        return _tagged(request, await self._snapshot(request), lambda s: _wrapped(s, settings=s.state.settings))

    async def changes(self, request: Request) -> Response:
        """Changes after a revision, oldest first."""
        since = _number(request, "since", 0, MAX_REVISION)
        limit = _number(request, "limit", PAGE_ROWS, PAGE_ROWS_MOST, least=1)
        room = request.state.room
        epoch, read = await self._reads.changes(room.restaurant_id, since, rows=limit, size=READ_BYTES)
        found = read.get(room.restaurant_id)
        if found is None:
            raise UnknownRestaurant(room.slug)
        if (found.rows and found.rows[0].revision != since + 1) or (not found.rows and since < found.head.revision):
            raise Refusal("GONE", "the changes after this revision are pruned; take /api/sync", field="since")
        rows = ",".join(
            protocol.change(
                r.type, r.action, r.data, client_id=r.client_id, timestamp=r.milliseconds, revision=r.revision
            )
            for r in found.rows
        )
        return _json(f'{{"epoch":"{epoch}","from":{since},"revision":{found.head.revision},"changes":[{rows}]}}')

    async def orders(self, request: Request) -> Response:
        """Orders by their last change, newest first; `before` of the answer asks for the next page."""
        before = _number(request, "before", MAX_REVISION, MAX_REVISION)
        limit = _number(request, "limit", PAGE_ROWS, PAGE_ROWS_MOST, least=1)
        room = request.state.room
        rows = await self._reads.orders(room.restaurant_id, before, limit)
        more = rows[-1][0] if len(rows) == limit else None
        return _json(f'{{"orders":[{",".join(text for _, text in rows)}],"before":{json.dumps(more)}}}')

    # The board

    async def board_page(self, request: Request) -> Response:
        """The page, with 401 or 403 where a token is shown that is no manager's; without one, the page asks for it."""
        try:
            if _seen(request).token:
                await self._managed(request)
            status = 200
        except (Unauthorized, Refusal) as error:
            status = 403 if isinstance(error, Refusal) else 401
        except (DatabaseUnavailable, UnknownRestaurant):
            status = 200  # the page says so, and asks again
        return self._page(request, status)

    async def board(self, request: Request) -> Response:
        """What the page shows: of the restaurant of a manager's token, or of all where authentication is off."""
        restaurant_id = await self._managed(request)
        found = await self._boards.all(restaurant_id)
        return JSONResponse({"instances": found}, headers={"Cache-Control": "no-store"})

    async def _managed(self, request: Request) -> int | None:
        """The restaurant whose board may be shown; None: every one. Raises Refusal where the token is no manager's."""
        seen, gate = _seen(request), self._connections.gate
        if gate is None:
            return (await self._connections.slugs.room(seen.slug)).restaurant_id if seen.slug else None
        identity = await gate.identify(seen)
        if identity.role != "manager":
            raise Refusal("FORBIDDEN", f"the board is a manager's; show a manager's token, this is a {identity.role}'s")
        return (await self._room_of(identity)).restaurant_id

    def _answering(self, answer: Answering) -> Answering:
        async def endpoint(request: Request) -> Response:
            request.state.room = await self._room(request)
            return await answer(request)

        return self._guarded(endpoint)

    def _guarded(self, answer: Answering) -> Answering:
        """What an answer raises becomes an answer."""

        async def endpoint(request: Request) -> Response:
            try:
                return await answer(request)
            except Unauthorized as error:
                return _error(401, "FORBIDDEN", str(error), None, {"WWW-Authenticate": "Bearer"})
            except UnknownRestaurant as error:
                return _error(404, "VALIDATION", str(error), "restaurant")
            except DatabaseUnavailable:
                return _error(503, "UNAVAILABLE", "the database is away; try again", None, {"Retry-After": "2"})
            except Refusal as refusal:
                status = {"GONE": 410, "FORBIDDEN": 403}.get(refusal.code, 400)
                return _error(status, refusal.code, refusal.message, refusal.field)

        return endpoint

    async def _room(self, request: Request) -> Room:
        seen, gate = _seen(request), self._connections.gate
        if gate is None:
            return await self._connections.slugs.room(seen.slug)
        return await self._room_of(await gate.identify(seen))

    async def _room_of(self, identity: Identity) -> Room:
        return self._connections.room_of(identity) or await self._connections.slugs.room(identity.slug)

    async def _snapshot(self, request: Request) -> Snapshot:
        # No changes follow here, so the state must be the newest: whoever has an ACK finds what was acknowledged.
        return await self._connections.syncer.newest(request.state.room)


def _seen(request: Request) -> Shown:
    return shown(request.scope["headers"], (), request.scope["query_string"])


def _error(status: int, code: str, message: str, field: str | None, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "field": field}}, status, headers)


def _json(text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(text, media_type="application/json", headers=headers)


def _wrapped(snapshot: Snapshot, **parts: str) -> str:
    members = "".join(f'"{name}":{text},' for name, text in parts.items())
    return f'{{{members}"epoch":"{snapshot.epoch}","revision":{snapshot.revision}}}'


def _tagged(request: Request, snapshot: Snapshot, text: Callable[[Snapshot], str]) -> Response:
    tag = f'"{snapshot.epoch}-{snapshot.revision}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if pages.has_tag(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return _json(text(snapshot), headers)


def _number(request: Request, name: str, default: int, most: int, *, least: int = 0) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most):
        raise Refusal("VALIDATION", f"{name} must be a whole number from {least} to {most}", field=name)
    return int(value)


def build(connections: Connections, listener: Listener, health: Health, reads: Reads, boards: Boards) -> Starlette:
    """The ASGI application."""
    # A proxy may show a token for whoever it lets in: a page of anybody's would come in with it (CWE-1385).
    origins = connections.settings.origins or (None if connections.gate is None else ())
    cors: dict[str, Any] = (
        {"allow_origin_regex": r"https?://(localhost|127\.0\.0\.1)(:\d+)?"}
        if origins is None
        else {"allow_origins": origins}
    )
    return Starlette(
        routes=Api(connections, listener, health, reads, boards).routes,
        middleware=[
            Middleware(OriginGate, allowed=origins),
            Middleware(CORSMiddleware, **cors, allow_methods=["GET"], allow_headers=["*"], expose_headers=["ETag"]),
        ],
    )
