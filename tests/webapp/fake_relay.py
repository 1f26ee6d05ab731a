"""A server that does only what a test tells it, for the tests of the model itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import websockets
from websockets.asyncio.server import Server, ServerConnection

from tests.cluster import free_port
from tests.waiting import until
from tests.webapp.storage import Row


class FakeRelay:
    """Keeps what browsers say, and says what the test wants."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[Row] = []
        self.connections: list[ServerConnection] = []
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        self._server = await websockets.serve(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def say(self, type_: str, data: object, **envelope: object) -> None:
        """Say something to the newest connection."""
        await until(lambda: self.connections, what="a connection")
        message = {"type": type_, "data": data, "timestamp": 1, "clientId": "server", **envelope}
        await self.connections[-1].send(json.dumps(message))

    def types(self) -> list[str]:
        """What was said here, in order; an update with its action."""
        return [
            f"{message['type']} {message['data']['action']}" if "action" in message["data"] else message["type"]
            for message in self.heard
        ]

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            self.heard.append(json.loads(text))


@asynccontextmanager
async def fake_relay() -> AsyncIterator[FakeRelay]:
    relay = FakeRelay(free_port())
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
