"""Checksums: by which a terminal finds out whether what it shows is what the database holds."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from .database import Checklist, Database
from .errors import DatabaseUnavailable, UnknownRestaurant
from .hub import Room
from .session import Session, State
from .settings import Settings

CHECK_SECONDS = 2.0  # for the read and until what was read has gone out; a heartbeat waits no longer


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
class _Held:
    """A room's newest checksum."""

    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: Checked | None = None


class Checksums:
    """One checksum per restaurant and revision, read once however many ask. `ring` is the listener's."""

    def __init__(self, database: Database, settings: Settings, ring: Callable[[int], None]) -> None:
        self._database = database
        self._settings = settings
        self._ring = ring
        self._held: WeakKeyDictionary[Room, _Held] = WeakKeyDictionary()

    async def find(self, session: Session, room: Room) -> Checked | None:
        """The checksum of a state that the session has been sent; None while there is none to compare with.

        That is so while the database is away, while the session waits to be synced, and while it lags.
        """
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                found = await self._read(room)
                while room.head < found.revision and room.epoch == found.epoch:
                    self._ring(room.restaurant_id)
                    await room.moved.wait()
        except (TimeoutError, DatabaseUnavailable, UnknownRestaurant):
            return None
        sent = session.state is State.LIVE and session.epoch == found.epoch and session.cursor >= found.revision
        return found if sent else None

    async def _read(self, room: Room) -> Checked:
        held = self._held.setdefault(room, _Held())
        async with held.reading:
            # One of a revision that the room has yet to reach serves too: whoever asks waits for that.
            if held.newest is None or held.newest.epoch != room.epoch or held.newest.revision < room.head:
                read = await self._database.checklist(room.restaurant_id, self._settings.snapshot_orders)
                held.newest = Checked.of(read)
            return held.newest
