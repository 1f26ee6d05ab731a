"""A relay that says only what a test tells it, and keeps what it hears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import websockets
from websockets.asyncio.server import Server, ServerConnection

from tests.cluster import free_port
from tests.waiting import slow_down, until

Row = dict[str, Any]

EPOCH = "first"
TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available", "version": 1}
ORDER = {
    "id": "o1", "tableNumber": 1, "customerName": None, "orderDate": "2026-11-22", "status": "pending", "total": 1,
    "items": [], "version": 1,
}  # fmt: skip
DISH = {"id": "d1", "name": "Tea", "price": 800.5, "category": "Drinks", "description": "", "version": 1}


def snapshot(revision: int, reason: str = "first-sync", epoch: str = EPOCH, **lists: Any) -> Row:
    """The data of a SYNC_RESPONSE with everything."""
    empty = {"tables": [TABLE], "menuItems": [], "categories": [], "settings": {}, "orderHistory": []}
    return empty | lists | {"mode": "snapshot", "reason": reason, "epoch": epoch, "revision": revision}


def seated(version: int, **fields: Any) -> Row:
    """The table, with guests."""
    return {**TABLE, "status": "occupied", "version": version, **fields}


class Line:
    """One connection of a terminal."""

    def __init__(self, socket: ServerConnection, opened: float) -> None:
        self.opened = opened  # the loop's time
        self.heard: list[Row] = []  # without heartbeats, in order
        self.texts: list[str] = []  # the same as they came
        self.beats: list[Row] = []
        self.closed: float | None = None
        self._socket = socket
        self._taken = 0

    async def hears(self, type_: str, within: float = 10.0) -> Row:
        """The next message, which must be of this type."""
        await until(lambda: len(self.heard) > self._taken, within, what=f"a {type_}")
        found = self.heard[self._taken]
        self._taken += 1
        assert found["type"] == type_, found
        return found

    async def hears_no_more(self) -> None:
        """Whatever came is taken."""
        assert self.heard[self._taken :] == []

    async def beats_again(self, within: float = 10.0) -> Row:
        """The data of the next heartbeat."""
        before = len(self.beats)
        await until(lambda: len(self.beats) > before, within, what="a heartbeat")
        data: Row = self.beats[before]["data"]
        return data

    async def welcomes(self, **limits: Any) -> Row:
        """Take the hello, welcome it, and take the SYNC_REQUEST, whose data is returned."""
        hello = await self.hears("CLIENT_CONNECTED")
        assert hello["data"]["protocol"] == 1
        welcome = {"epoch": EPOCH, "revision": 0, "restaurant": "default", "heartbeatSeconds": 20.0}
        await self.says("WELCOME", {**welcome, "maxMessageBytes": 1048576, **limits})
        data: Row = (await self.hears("SYNC_REQUEST"))["data"]
        return data

    async def syncs(self, revision: int, **lists: Any) -> None:
        """Welcome it, and give it a snapshot."""
        await self.welcomes()
        await self.says("SYNC_RESPONSE", snapshot(revision, **lists))

    async def says(self, type_: str, data: object, **envelope: object) -> None:
        message = {"type": type_, "data": data, "timestamp": 1, "clientId": "server", **envelope}
        await self._socket.send(json.dumps(message))

    async def says_text(self, text: str) -> None:
        await self._socket.send(text)

    async def changes(self, revision: int, row: Row, action: str = "update", type_: str = "UPDATE_TABLE") -> None:
        await self.says(type_, {"action": action, "data": row}, revision=revision, clientId="another")

    async def acknowledges(self, mutation: Row, revision: int, **details: Any) -> None:
        await self.says("ACK", {"revision": revision, **details}, ref=mutation["id"])

    async def refuses(self, mutation: Row, code: str, *, retryable: bool = False, **details: Any) -> None:
        data = {"code": code, "message": f"it is {code}", "retryable": retryable, **details}
        await self.says("ERROR", data, ref=mutation["id"])

    async def closes(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    def stops_reading(self) -> None:
        """Leave what comes in the kernel's buffers."""
        self._socket.transport.pause_reading()

    def breaks(self) -> None:
        """End it without a word."""
        self._socket.transport.abort()


class ScriptedRelay:
    def __init__(self) -> None:
        self.port = free_port()
        self.lines: list[Line] = []
        self._taken = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        self._server = await websockets.serve(self._serve, "127.0.0.1", self.port, max_size=None, ping_interval=None)

    async def stop(self) -> None:
        if self._server is not None:
            # Whom asyncio has accepted becomes a connection in the loop's next turn. If the server is closed by then,
            # its socket is left open, and the test that comes next is blamed.
            for socket in self._server.sockets:
                asyncio.get_running_loop().remove_reader(socket)
            await slow_down(0)
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def line(self, within: float = 10.0) -> Line:
        """The next connection."""
        await until(lambda: len(self.lines) > self._taken, within, what="a connection")
        self._taken += 1
        return self.lines[self._taken - 1]

    async def _serve(self, socket: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        line = Line(socket, loop.time())
        self.lines.append(line)
        try:
            async for text in socket:
                assert isinstance(text, str)
                message = json.loads(text, parse_float=Decimal)
                if message["type"] == "HEARTBEAT":
                    line.beats.append(message)
                else:
                    line.texts.append(text)
                    line.heard.append(message)
        except websockets.ConnectionClosed:
            pass
        line.closed = loop.time()


@asynccontextmanager
async def scripted_relay() -> AsyncIterator[ScriptedRelay]:
    relay = ScriptedRelay()
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
