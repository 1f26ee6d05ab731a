"""All terminals' sockets of one instance: takes on new ones, and drains them when the instance ends."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from starlette.types import Receive, Scope, Send

from .admission import Closed
from .asgi import AsgiWire, wire_of
from .auth import shown
from .connection import Connection
from .parts import Leaving, Parts

SLICE, SLICE_SECONDS = 50, 0.25  # terminals closed together in a drain, at least, and the pause between two slices
SLICES = 12  # at most
COMING = 1000  # terminals a second that come back, at most
LEAST_DELAY = 0.5  # seconds, at least, that the longest of their delays is
DRAINING = Closed("this relay is being stopped", 1)


class Connections(Parts):
    """Serves WebSockets, and knows all that are open on this instance."""

    draining = False

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._places: dict[Leaving, str] = {}  # of those whose address is counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take on one WebSocket, as an ASGI application; under our own server its socket goes on when this returns."""
        await receive()
        address = (scope.get("client") or ("",))[0]
        closed = DRAINING if self.draining else self.admission.knock(address, len(self.open), time.monotonic())
        if closed is not None:
            await _refuse(scope, send, closed)
            return
        seen = shown(scope["headers"], scope.get("subprotocols", ()), scope["query_string"], scope.get("client"))
        room = self.slugs.known(seen.slug) if self.gate is None else None
        if room is not None and not self.admission.has_room(len(room.sessions)):
            # Before it says anything: what is on its way when it is closed is lost.
            await _refuse(scope, send, self.admission.turn_away(seen.slug, time.monotonic()))
            return
        await send({"type": "websocket.accept", "subprotocol": seen.subprotocol})
        wire = wire_of(scope, receive, send)
        connection = Connection(self, wire, seen.profile)
        self.open.add(connection)
        if place := self.admission.enter(address):
            self._places[connection] = place
        connection.begin(seen)
        if isinstance(wire, AsgiWire):
            await wire.hear()
            await connection.heard_out()
            await wire.stop()

    def close(self, connection: Leaving) -> None:
        """A connection is over."""
        self.admission.leave(self._places.pop(connection, ""))
        super().close(connection)

    async def drain(self) -> None:
        """Close every terminal with 1012 and a retry delay, in slices, so that they do not all come back at once."""
        self.draining = True
        leaving = list(self.open)
        size, longest = slices(len(leaving))
        for start in range(0, len(leaving), size):
            delays = [random.uniform(0.2, longest) for _ in leaving]  # noqa: S311 - spreads load, keeps no secret
            part = leaving[start : start + size]
            await asyncio.gather(*(one.leave(delay) for one, delay in zip(part, delays, strict=False)))
            if start + size < len(leaving):
                await asyncio.sleep(SLICE_SECONDS)
        while self.open:
            self.emptied.clear()
            await self.emptied.wait()

    def pay(self) -> None:
        """The database is there: bring in those that came while it was not."""
        self.syncer.pay()
        back, self.back = self.back, asyncio.Event()
        back.set()


def slices(terminals: int) -> tuple[int, float]:
    """How many terminals are closed together, and the longest delay in seconds that one is told to come back after."""
    size = max(SLICE, -(-terminals // SLICES))
    # They should not come faster than the other relays take them in; that they are closed in slices spreads them too.
    closing = SLICE_SECONDS * (max(0, terminals - 1) // size)
    return size, max(LEAST_DELAY, terminals / COMING - closing)


async def _refuse(scope: Scope, send: Send, closed: Closed) -> None:
    """Answer a handshake with 503 and when to come back; with 403 on a server that lets us say nothing."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"retry-after", b"%d" % closed.retry_after), (b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": f"{closed.why}; come back later".encode()})
