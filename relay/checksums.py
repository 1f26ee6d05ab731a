"""Checksums: by which a terminal finds out whether what it shows is what the database holds."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

from . import protocol
from .database import Checklist, Database
from .errors import DatabaseUnavailable, UnknownRestaurant
from .hub import Room
from .session import Session, State
from .settings import Settings

log = logging.getLogger("relay.checksums")

CHECK_SECONDS = 2.0  # for the read, and until what was read has gone out
PAUSE_SECONDS = 0.5  # from one read of a restaurant to the next, however often it changes and whoever asks
AT_ONCE = 1  # restaurants that are read, so that nobody who enters or syncs waits for a connection


def checksum(lines: Iterable[str]) -> int:
    """The CRC-32 of the sorted CRC-32s of the lines: the same in whatever order they come."""
    # Sorted, not summed: a CRC is linear, and two rows that have swapped their versions would often make one sum.
    return zlib.crc32(",".join(map(str, sorted(zlib.crc32(line.encode()) for line in lines))).encode())


@dataclass(frozen=True, slots=True)
class Checked:
    """The checksum of a restaurant's state at one revision."""

    epoch: str
    revision: int
    checksum: int

    @classmethod
    def of(cls, checklist: Checklist) -> Checked:
        """Both from one statement, so they belong together."""
        return cls(checklist.epoch, checklist.revision, checksum(checklist.lines))


@dataclass(slots=True)
class _Desk:
    """A room's newest checksum, and who waits for one."""

    newest: Checked | None = None
    read_at: float = 0.0  # when the newest read began
    asking: set[Session] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Checksums:
    """Answers heartbeats that ask for a checksum: one read per restaurant and revision, however many ask.

    They wait apart from the terminal's other messages, which go on. `ring` is the reader's.
    """

    def __init__(self, database: Database, settings: Settings, ring: Callable[[int], None]) -> None:
        self._database = database
        self._orders = settings.snapshot_orders
        self._ring = ring
        self._desks: WeakKeyDictionary[Room, _Desk] = WeakKeyDictionary()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def answer(self, session: Session, room: Room) -> None:
        """Answer a heartbeat, now or when the checksum has been read.

        The checksum is of a state that the session has been sent. There is none while the database is away, while the
        session waits to be synced, while it lags, and while one is asked for already.
        """
        desk = self._desks.setdefault(room, _Desk())
        if desk.newest is not None and _is_newest(desk.newest, room):
            self._say(session, room, desk.newest)
        elif session.state is not State.LIVE or session in desk.asking:
            self._say(session, room, None)
        else:
            desk.asking.add(session)
            if desk.task is None:
                desk.task = asyncio.create_task(self._serve(room, desk), name="checksum")
                desk.task.add_done_callback(partial(_ended, desk))

    async def _serve(self, room: Room, desk: _Desk) -> None:
        """Answer all who ask, in rounds: whoever asks while one is on its way has the next."""
        while desk.asking:
            await asyncio.sleep(desk.read_at + PAUSE_SECONDS - time.monotonic())
            asked, desk.asking = desk.asking, set()
            found = None
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    found = await self._find(room, desk)
            except (TimeoutError, DatabaseUnavailable, UnknownRestaurant):
                pass
            finally:
                if found is None:
                    # Whoever came meanwhile would only wait as long again.
                    asked |= desk.asking
                    desk.asking.clear()
                for session in asked:
                    self._say(session, room, found)

    async def _find(self, room: Room, desk: _Desk) -> Checked:
        found = desk.newest
        # One of a revision that the room has yet to reach serves too: whoever asks waits for that.
        if found is None or found.epoch != room.epoch or found.revision < room.head:
            async with self._turns:
                desk.read_at = time.monotonic()
                read = await self._database.checklist(room.restaurant_id, self._orders)
            found = desk.newest = Checked.of(read)
        while room.head < found.revision and room.epoch == found.epoch:
            self._ring(room.restaurant_id)
            await room.moved.wait()
        return found

    def _say(self, session: Session, room: Room, found: Checked | None) -> None:
        if session.state is State.CLOSED:
            return
        now_ms = time.time_ns() // 1_000_000
        sent = session.state is State.LIVE and found is not None and session.epoch == found.epoch
        if found is None or not sent or session.cursor < found.revision or session.profile is not None:
            session.heartbeat(room.head, now_ms)
            return
        check = {"checksum": found.checksum, "orders": self._orders}
        session.reply(protocol.heartbeat(found.revision, room.head, now_ms=now_ms, **check))


def _is_newest(checked: Checked, room: Room) -> bool:
    return checked.epoch == room.epoch and checked.revision == room.head


def _ended(desk: _Desk, task: asyncio.Task[None]) -> None:
    desk.task = None
    if not task.cancelled() and task.exception() is not None:
        log.error("a checksum failed", exc_info=task.exception())
