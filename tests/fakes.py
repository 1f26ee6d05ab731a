"""A database made by hand for the syncer: it counts the reads, holds them up, and loses its history when told to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from relay.changes import encoded
from relay.database import Database, Heads, State
from relay.doorbells import Doorbells
from relay.hub import Hub, Room
from relay.logrows import ChangeRow, Changes, Head, LogRead
from relay.session import Session, Sync
from relay.settings import Settings
from relay.standby import Reads
from relay.syncer import Syncer
from tests.wires import HandMadeWire

T = TypeVar("T")
FIRST = Sync(None, None)  # who has nothing yet


class FakeDatabase:
    """Restaurant 1 with a log; a read returns what was there when it began, once `gate` is open."""

    def __init__(self, head: int, size: int = 20) -> None:
        self.doorbells = Doorbells()
        self.epoch = "e1"
        self.size = size
        self.log: dict[int, ChangeRow] = {}
        self.head = 0
        self.append(head)
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0
        self.error: Exception | None = None

    def append(self, head: int) -> None:
        for revision in range(self.head + 1, head + 1):
            data = '{"id":"t"}'.ljust(self.size)
            self.log[revision] = ChangeRow(revision, "UPDATE_TABLE", "update", "t", data, "a", 0)
        self.head = head

    def prune(self, to: int) -> None:
        self.log = {revision: row for revision, row in self.log.items() if revision > to}

    async def read_heads(self, restaurant_ids: Sequence[int]) -> Heads:
        return await self._read("heads", Heads(self.epoch, dict.fromkeys(restaurant_ids, Head(self.head))))

    async def read_changes(self, cursors: Mapping[int, int], *, rows: int, size: int) -> LogRead:
        found = {}
        for restaurant_id, cursor in cursors.items():
            after = [row for revision, row in sorted(self.log.items()) if revision > cursor][:rows]
            within = tuple(row for n, row in enumerate(after) if n * self.size < size)
            found[restaurant_id] = Changes(restaurant_id, Head(self.head), within)
        return await self._read("changes", LogRead(self.epoch, found))

    async def snapshot(self, restaurant_id: int, orders: int) -> State:  # noqa: ARG002
        return await self._read("snapshots", State(self.epoch, self.head, "[]", "[]", "[]", "{}", "[]"))

    async def _read(self, what: str, found: T) -> T:
        self.reads[what] += 1
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            loop = asyncio.get_running_loop()
            answered = loop.create_future()  # no read is answered at once
            loop.call_soon(answered.set_result, None)
            await answered
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error
        return found


class Syncing:
    """A syncer on a fake database, and its sessions on wires made by hand."""

    def __init__(self, head: int = 0, size: int = 20, **settings: Any) -> None:
        self.database = FakeDatabase(head, size)
        self.settings = Settings(conninfo="", listen_conninfo="", database_named=True, **settings)
        self.hub = Hub(self.settings.window_changes, self.settings.window_bytes)
        self.rung: list[int] = []
        database = cast(Database, self.database)
        self.syncer = Syncer(database, Reads(database, self.settings), self.hub, self.settings, self.rung.append)
        self.room = self.hub.open(1, "one")

    def enter(self, room: Room | None = None) -> tuple[Session, HandMadeWire]:
        wire = HandMadeWire()
        session = Session(wire)
        self.hub.enter(session, room or self.room)
        return session, wire

    def take(self) -> None:
        """What the listener does: bring the room up to the database's head."""
        assert self.room.window is not None
        new = [row for revision, row in sorted(self.database.log.items()) if revision > self.room.head]
        self.hub.take(self.room, [encoded(row) for row in new])


def begin(parts: Syncing, deed: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start what then waits for the database."""
    parts.database.gate.clear()
    return asyncio.create_task(deed)


async def finish(parts: Syncing, *tasks: asyncio.Task[None]) -> None:
    """Let the database answer, and wait for what was begun."""
    parts.database.gate.set()
    await asyncio.gather(*tasks)


async def positioned(head: int, **settings: Any) -> Syncing:
    """A syncer whose room stands at a head already, with a session in it that only talks."""
    parts = Syncing(head, **settings)
    await parts.syncer.join(parts.enter()[0])
    return parts


def heard(wire: HandMadeWire) -> list[Any]:
    """What a terminal was sent, in short: `snapshot first-sync 5`, `changes 3-5`, or the revision of a change."""
    short: list[Any] = []
    for message in wire.messages:
        data = message["data"]
        if message["type"] == "SYNC_RESPONSE":
            cursor = f"{data['from']}-" if data["mode"] == "changes" else f"{data['reason']} "
            short.append(f"{data['mode']} {cursor}{data['revision']}")
        else:
            short.append(message["revision"])
    return short
