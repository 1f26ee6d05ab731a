"""Sockets that speak as the web app does, for what it is sent on the wire."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import websockets

from tests.relays import LocalRelay
from tests.terminals import Row
from tests.waiting import WITHIN_SECONDS, until

SECRET = "a secret of some length"
TABLE = {"id": "table_1700000000001", "number": 9, "seats": 4, "status": "available"}
DISH = {"id": "item_1700000000001", "name": "Tea", "price": 1, "category": "Beverage", "description": ""}
ORDER = {
    "id": "POS-01022026-001",
    "tableNumber": 1,
    "customerName": "A",
    "orderDate": "2026-01-02",
    "status": "completed",
    "total": 1,
    "items": "[]",
    "createdAt": "2026-01-02T01:00:00Z",
}
USER = {"id": "1700000000001", "name": "May", "username": "may", "roleId": "waiter", "password": "m4y"}


class App:
    """A socket that speaks as the app does, and keeps what it hears."""

    def __init__(self, client_id: str, socket: websockets.ClientConnection) -> None:
        self.client_id = client_id
        self.socket = socket
        self.heard: list[Row] = []
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self.socket:
            self.heard.append(json.loads(text))

    async def say(self, type_: str, data: Any = None) -> None:
        await self.socket.send(json.dumps({"type": type_, "data": data or {}, "clientId": self.client_id}))

    async def ask(self, type_: str, data: Any, **envelope: object) -> Row:
        """Say it with an id, as the app does not, and return its ACK or ERROR."""
        ref = secrets.token_hex(8)
        message = {"type": type_, "data": data, "clientId": self.client_id, "id": ref, **envelope}
        await self.socket.send(json.dumps(message))
        answers = await until(lambda: [m for m in self.heard if m.get("ref") == ref])
        found: Row = answers[0]
        return found

    async def do(self, type_: str, action: str, row: Row) -> None:
        await self.say(type_, {"action": action, "data": row})

    def of(self, type_: str) -> list[Row]:
        return [message for message in self.heard if message["type"] == type_]

    @property
    def lists(self) -> list[Row]:
        """The lists of each SYNC_RESPONSE."""
        return [message["data"]["data"] for message in self.of("SYNC_RESPONSE")]

    async def quiet(self) -> None:
        """Wait until an answer has come to what was said last, and what was owed by then."""
        before = len(self.of("PONG"))
        await self.say("HEARTBEAT", {"ping": True})
        await until(lambda: len(self.of("PONG")) > before)

    async def users(self, count: int = 4) -> list[Row]:
        """The users, once there are so many."""

        def found() -> list[Row]:
            lists = [message["data"].get("users", []) for message in self.of("SYNC_RESPONSE")]
            return lists[-1] if lists and len(lists[-1]) == count else []

        return await until(found, what=f"{count} users")

    async def gets(self, kind: str, within: float = WITHIN_SECONDS, *, holding: Row | None = None) -> Any:
        """The next list of a kind, or the next that holds such a row."""
        row = (holding or {}).items()

        def found() -> list[list[Row]]:
            lists = [one[kind] for one in self.lists if kind in one]
            return lists if holding is None else [one for one in lists if any(row <= each.items() for each in one)]

        return (await until(found, within, f"a list of {kind}"))[-1]


@asynccontextmanager
async def app(
    relay: LocalRelay, number: int, query: str = "", client_id: str = "", **options: Any
) -> AsyncIterator[App]:
    """An app that is synced; what it has heard until then is forgotten."""
    client_id = client_id or f"client_170000000000{number}_abc{number}"
    async with websockets.connect(relay.url + query, max_size=None, **options) as socket:
        opened = App(client_id, socket)
        await opened.say("CLIENT_CONNECTED", {"clientId": client_id})
        await opened.say("SYNC_REQUEST")
        await until(lambda: opened.of("SYNC_RESPONSE"))
        try:
            yield opened
        except BaseException:
            opened.reader.cancel()  # the test says why it fails; how the socket ends then is no fault of another's
            raise
    await opened.reader


def sql(conninfo: str, query: Any, *parameters: object) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []
