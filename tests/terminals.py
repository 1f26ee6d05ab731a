"""A terminal that keeps the protocol's rules, records what it applies, and complains of what must not happen."""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import psycopg
import websockets

from relay.checksums import checksum
from tests.waiting import WITHIN_SECONDS, until

Row = dict[str, Any]


class Terminal:
    """One terminal. Its state outlives its connection, as a real one's does; numbers are kept as Decimal."""

    def __init__(self, url: str, client_id: str | None = None, token: str | None = None) -> None:
        self.url = url
        self.token = token  # shown in CLIENT_CONNECTED
        self.client_id = client_id or f"t-{secrets.token_hex(4)}"
        self.epoch: str | None = None
        self.revision = -1  # what it holds; -1: nothing yet
        self.tables: dict[str, Row] = {}
        self.menu: dict[str, Row] = {}
        self.categories: set[str] = set()
        self.settings: Row = {}
        self.orders: dict[str, Row] = {}
        self.applied: list[tuple[str, int, Row]] = []  # (epoch, revision, message), as applied
        self.received: list[Row] = []  # every message, in order
        self.snapshots: list[Row] = []
        self.faults: list[str] = []  # what the protocol forbids
        self.close_code: int | None = None
        self.close_reason = ""
        self._answers: dict[str, asyncio.Future[Row]] = {}
        self._socket: websockets.ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._syncs = 0  # SYNC_RESPONSEs so far
        self._resuming = False  # connected, and not synced yet: what it lacks is still to come, and no gap

    # Connection

    async def connect(self, *, hello: bool = True, sync: bool = True, **options: Any) -> Terminal:
        """Connect, introduce itself and sync from where it stands."""
        # To look for a proxy in the environment would cost more than all the rest of a connection.
        self._socket = await websockets.connect(self.url, max_size=None, compression=None, proxy=None, **options)
        self.close_code, self.close_reason, self._resuming = None, "", sync
        self._reader = asyncio.create_task(self._read(self._socket))
        if hello:
            shown = {"token": self.token} if self.token else {}
            await self.say("CLIENT_CONNECTED", {"clientId": self.client_id, "protocol": 1, **shown})
        if sync:
            await self.sync()
        return self

    @property
    def connected(self) -> bool:
        """As far as it knows."""
        return self._socket is not None and self.close_code is None

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await self._reader
        self._fail_answers()

    async def cut(self) -> None:
        """Drop the connection without a word."""
        if self._socket is not None:
            self._socket.transport.abort()
        if self._reader is not None:
            await self._reader
        self._fail_answers()

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffers."""
        assert self._socket is not None
        self._socket.transport.pause_reading()

    def read_again(self) -> None:
        assert self._socket is not None
        self._socket.transport.resume_reading()

    async def __aenter__(self) -> Self:
        if self._socket is None:
            await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Speaking

    async def send_text(self, text: str | bytes) -> None:
        """Send a text frame as it stands; bytes go as a binary frame."""
        assert self._socket is not None
        await self._socket.send(text)

    async def say(self, type_: str, data: object = None, **envelope: object) -> None:
        message = {"type": type_, "data": {} if data is None else data, "clientId": self.client_id, **envelope}
        await self.send_text(json.dumps(message))

    async def ask(
        self, type_: str, data: object = None, *, id: str | None = None, within: float = 15.0, **envelope: object
    ) -> Row:
        """Send a message with a mutation id and return its ACK or ERROR (the whole message)."""
        ref = id or secrets.token_hex(8)
        answer = self._answers[ref] = asyncio.get_running_loop().create_future()
        await self.say(type_, data, id=ref, **envelope)
        async with asyncio.timeout(within):
            found: Row = await answer
        return found

    async def update(self, type_: str, action: str, row: object, **options: Any) -> Row:
        """Ask for an UPDATE_* and return its ACK's data; an ERROR fails the test."""
        answer = await self.ask(type_, {"action": action, "data": row}, **options)
        assert answer["type"] == "ACK", answer
        data: Row = answer["data"]
        return data

    async def table(self, action: str, row: object, **options: Any) -> Row:
        return await self.update("UPDATE_TABLE", action, row, **options)

    async def order(self, action: str, row: object, **options: Any) -> Row:
        return await self.update("UPDATE_ORDER", action, row, **options)

    async def dish(self, action: str, row: object, **options: Any) -> Row:
        return await self.update("UPDATE_MENU", action, row, **options)

    async def refused(self, type_: str, data: object, **options: Any) -> Row:
        """Ask for what must be refused and return the ERROR's data; an ACK fails the test."""
        answer = await self.ask(type_, data, **options)
        assert answer["type"] == "ERROR", answer
        error: Row = answer["data"]
        return error

    async def sync(self, *, within: float = 15.0) -> None:
        """Ask for what follows the cursor and wait for the SYNC_RESPONSE."""
        cursor = {} if self.epoch is None else {"epoch": self.epoch, "revision": self.revision}
        before = self._syncs

        def answered() -> bool:
            if self._syncs == before and self.close_code is not None:
                raise websockets.ConnectionClosedError(None, None)
            return self._syncs > before

        await self.say("SYNC_REQUEST", cursor)
        await until(answered, within=within, what="a SYNC_RESPONSE")

    async def reaches(self, revision: int, within: float = 10.0) -> None:
        """Wait until it holds a revision."""
        await until(lambda: self.revision >= revision, within=within, what=f"revision {revision} at {self.client_id}")

    async def hears(self, type_: str, within: float = WITHIN_SECONDS, after: int = 0) -> Row:
        """The first message of a type among those received from index `after` on."""
        found = await until(
            lambda: [m for m in self.received[after:] if m["type"] == type_], within=within, what=f"a {type_}"
        )
        message: Row = found[0]
        return message

    async def change(self, revision: int, within: float = 5.0) -> Row:
        """The first change with a revision among all it received, whether or not it syncs."""
        found = await until(
            lambda: [m for m in self.received if m.get("revision") == revision],
            within=within,
            what=f"the change with revision {revision} at {self.client_id}",
        )
        message: Row = found[0]
        return message

    # Listening

    async def _read(self, socket: websockets.ClientConnection) -> None:
        try:
            async for text in socket:
                self._hear(json.loads(text, parse_float=Decimal))
        except websockets.ConnectionClosedError:
            pass
        self.close_code, self.close_reason = socket.close_code, socket.close_reason or ""
        self._fail_answers()

    def _hear(self, message: Row) -> None:
        self.received.append(message)
        if not isinstance(message.get("clientId"), str):
            self.faults.append(f"clientId is no string: {message}")
        if message["type"] in ("ACK", "ERROR"):
            answer = self._answers.pop(message.get("ref", ""), None)
            if answer and not answer.done():  # done: nobody waits for it any more
                answer.set_result(message)
        if message["type"] == "SYNC_RESPONSE":
            self._sync(message["data"])
        elif "revision" in message:
            self._change(message)

    def _sync(self, data: Row) -> None:
        self._syncs += 1
        self._resuming = False
        if data["mode"] == "changes":
            return
        if data["epoch"] == self.epoch and data["revision"] < self.revision and data["reason"] != "ahead":
            self.faults.append(f"moved back from {self.revision} to {data['revision']}")
        self.snapshots.append(data)
        self.epoch, self.revision = data["epoch"], data["revision"]
        self.tables = {row["id"]: row for row in data["tables"]}
        self.menu = {row["id"]: row for row in data["menuItems"]}
        self.categories = set(data["categories"])
        self.settings = data["settings"]
        self.orders = {row["id"]: row for row in reversed(data["orderHistory"])}

    def _change(self, message: Row) -> None:
        revision = message["revision"]
        if self.epoch is None or revision <= self.revision:
            return
        if revision != self.revision + 1:
            if not self._resuming:
                self.faults.append(f"a gap: {revision} after {self.revision}")
            return
        self.revision = revision
        self.applied.append((self.epoch, revision, message))
        self._apply(message["type"], message["data"])

    def _apply(self, type_: str, data: Row) -> None:
        if type_ == "UPDATE_SETTINGS":
            self.settings = data
            return
        action, row = data["action"], data["data"]
        if action == "clear":
            self.orders.clear()
        elif action == "add_category":
            self.categories.add(row["name"])
        elif action == "delete_category":
            self.categories.discard(row["name"])
        else:
            rows = {"UPDATE_TABLE": self.tables, "UPDATE_MENU": self.menu, "UPDATE_ORDER": self.orders}[type_]
            held = rows.get(row["id"])
            if held is not None and row["version"] <= held["version"]:
                self.faults.append(f"{row['id']} went from version {held['version']} to {row['version']}")
            if action in ("delete", "delete_item"):
                rows.pop(row["id"], None)
            else:
                rows.pop(row["id"], None)  # the newest last: of the orders only so many are checked
                rows[row["id"]] = row

    def _fail_answers(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(websockets.ConnectionClosedError(None, None))
                answer.exception()  # whoever waits for it is told; nobody must
        self._answers.clear()

    # Checking

    def checksum(self, orders: int) -> int:
        """Of what it shows, its newest `orders` orders (docs/protocol.md, section 6)."""
        lines = [f"table {row['version']} {row['id']}" for row in self.tables.values()]
        lines += [f"dish {row['version']} {row['id']}" for row in self.menu.values()]
        lines += [f"order {row['version']} {row['id']}" for row in list(self.orders.values())[-orders:]]
        lines += [f"category {name}" for name in self.categories]
        for name, value in self.settings.items():
            said = json.dumps(value) if isinstance(value, bool) else value
            lines.append(f"setting {name} {said}" if isinstance(said, str) else f"setting {name}")
        checks = sorted(zlib.crc32(line.encode()) for line in lines)
        return zlib.crc32(",".join(map(str, checks)).encode())

    async def checks(self, within: float = 5.0) -> bool | None:
        """Ask for the checksum: whether it is its own, or None where there is none, or of another revision."""
        before = len(self.received)
        await self.say("HEARTBEAT", {"ping": True, "checksum": True})
        told = (await self.hears("HEARTBEAT", within, after=before))["data"]
        if "checksum" not in told or told["revision"] != self.revision:
            return None
        return bool(told["checksum"] == self.checksum(told["orders"]))

    @property
    def state(self) -> Row:
        """What it shows."""
        return {
            "tables": self.tables,
            "menu": self.menu,
            "categories": sorted(self.categories),
            "settings": self.settings,
            "orders": self.orders,
        }


@asynccontextmanager
async def terminals(url: str, count: int) -> AsyncIterator[list[Terminal]]:
    """So many terminals, connected and synced; closed at the end."""
    made = [Terminal(url, f"terminal-{number}") for number in range(count)]
    try:
        await asyncio.gather(*(one.connect() for one in made))
        yield made
    finally:
        await asyncio.gather(*(one.close() for one in made))


def state_in_database(conninfo: str, slug: str = "default") -> tuple[int, Row]:
    """Revision and state of a restaurant as SQL reads it, in the form of Terminal.state."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "select s.revision, s.tables, s.menu_items, s.categories, s.settings, s.orders"
            " from pos.find_restaurant(%s) as r, pos.snapshot(r.restaurant_id, 1000000) as s",
            (slug,),
        ).fetchone()
    assert row is not None
    tables, menu, categories, settings, orders = (json.loads(text, parse_float=Decimal) for text in row[1:])
    return row[0], {
        "tables": {r["id"]: r for r in tables},
        "menu": {r["id"]: r for r in menu},
        "categories": sorted(categories),
        "settings": settings,
        "orders": {r["id"]: r for r in orders},
    }


def follows_the_log(conninfo: str, *found: Terminal, slug: str = "default") -> int:
    """What terminals applied is what the log holds, each revision once and in order; how many changes that were."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "select l.revision, l.type, l.action, l.data::text, l.client_id"
            " from pos.find_restaurant(%s) as r join pos.sync_log as l using (restaurant_id)",
            (slug,),
        ).fetchall()
    log = {row[0]: (row[1], row[2], json.loads(row[3], parse_float=Decimal), row[4]) for row in rows}
    for one in found:
        last = 0
        for _, revision, message in one.applied:
            assert revision > last, f"{one.client_id} applied {revision} after {last}"
            last = revision
            data = message["data"]
            action, row = ("update", data) if message["type"] == "UPDATE_SETTINGS" else (data["action"], data["data"])
            assert (message["type"], action, row, message["clientId"]) == log[revision], (one.client_id, revision)
    return sum(len(one.applied) for one in found)


def checksum_in_database(conninfo: str, orders: int, slug: str = "default") -> int:
    """The checksum that a relay would give of a restaurant, with so many of its newest orders."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "select c.lines from pos.find_restaurant(%s) as r, pos.checklist(r.restaurant_id, %s) as c", (slug, orders)
        ).fetchone()
    assert row is not None
    return checksum(row[0])


async def agree(conninfo: str, *found: Terminal, slug: str = "default", within: float = 10.0) -> None:
    """Wait until terminals hold the newest revision; then everything they show is what the database holds."""
    revision, state = state_in_database(conninfo, slug)
    checks = checksum_in_database(conninfo, 1000, slug)
    for one in found:
        await one.reaches(revision, within)
        assert one.faults == [], one.faults
        assert one.revision == revision
        assert one.state == state, f"{one.client_id} shows something else than the database"
        assert one.checksum(1000) == checks, f"{one.client_id} has another checksum than the database"
