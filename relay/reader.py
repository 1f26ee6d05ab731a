"""Reads what each restaurant's log holds after its room's head, and hands it to the hub.

The same read serves a live change, a burst, a lost notification and a restart of PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import metrics, protocol
from .changes import encoded
from .database import Database, MessageRow
from .errors import DatabaseUnavailable
from .frames import encode
from .hub import MESSAGE_SECONDS, Hub, Passed, Room
from .logrows import ChangeRow, Changes, Head
from .logs import fields
from .ways import Reading, Ways

if TYPE_CHECKING:
    from .tracing import Tracing

log = logging.getLogger("relay.reader")

READ_DELAY = 0.25  # seconds before a read that failed is tried again
READ_RESTAURANTS = 64  # in one read,
READ_ROWS, READ_BYTES = 1000, 1024 * 1024  # and of each at most this much: the rest follows in the next
# Whoever may connect may ring. A restaurant that is read in vain so often in a row is read this seldom until one finds
# something: a change of it that comes meanwhile is late by that much, and nobody else's.
VAIN_READS, VAIN_DELAY = 20, 0.1


class Reader:
    """Reads the restaurants that were rung for, all of them at once, one read at a time."""

    def __init__(self, database: Database, hub: Hub, ways: Ways, tracing: Tracing | None = None) -> None:
        self._database = database
        self._hub = hub
        self._ways = ways
        self._tracing = tracing
        self._dirty: dict[int, float] = {}  # restaurants to be read, and the time.time() at which they were rung for
        self._rung = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None  # rings for those whose doorbells wait
        self._under_way: Sequence[int] = ()  # restaurants that are being read
        self._swept: set[int] = set()  # restaurants that a sweep found behind, and no doorbell rang for since

    def ring(self, restaurant_id: int) -> None:
        """Look at a restaurant's log; one without a room here costs nothing."""
        if restaurant_id in self._hub.rooms:
            self._dirty.setdefault(restaurant_id, time.time())
            self._rung.set()

    def hear(self, restaurant_id: int) -> None:
        """The doorbell rang for a restaurant, if the number is one's."""
        self._swept.discard(restaurant_id)
        self.ring(restaurant_id)

    def sweep(self, restaurant_id: int) -> None:
        """A restaurant is behind its head; that a doorbell was lost is noted where none has rung."""
        if restaurant_id not in self._dirty and restaurant_id not in self._under_way:
            self._swept.add(restaurant_id)
        self.ring(restaurant_id)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            now = time.monotonic()
            known = [room for i in self._dirty if (room := self._hub.rooms.get(i))]
            heard = self._dirty
            dirty = [room.restaurant_id for room in known if room.read_after <= now]
            self._dirty = {i: heard[i] for room in known if room.read_after > now and (i := room.restaurant_id)}
            if self._dirty and (self._later is None or self._later.when() <= asyncio.get_running_loop().time()):
                self._later = asyncio.get_running_loop().call_later(VAIN_DELAY, self._rung.set)
            for start in range(0, len(dirty), READ_RESTAURANTS):
                part = dirty[start : start + READ_RESTAURANTS]
                self._under_way = part
                try:
                    await self._read_rooms({i: heard[i] for i in part})
                except DatabaseUnavailable:
                    self._dirty |= {i: heard[i] for i in part}
                    await asyncio.sleep(READ_DELAY)
                    self._rung.set()
                finally:
                    self._under_way = ()

    async def _read_rooms(self, heard: Mapping[int, float]) -> None:
        rooms = []
        for room in (room for i in heard if (room := self._hub.rooms.get(i))):
            if room.window is None:
                room.rung_early = True
            else:
                rooms.append(room)
        if not rooms:
            return
        cursors = {room.restaurant_id: room.head for room in rooms}
        windows = {room.restaurant_id: room.window for room in rooms}
        asked_at = time.time()
        epoch, read = await self._database.read_changes(cursors, rows=READ_ROWS, size=READ_BYTES, live=True)
        read_at = time.time()
        behind: dict[int, int] = {}
        for room in rooms:
            changes = read.get(room.restaurant_id)
            if changes is None or epoch is None:
                continue
            if room.window is not windows[room.restaurant_id]:
                # It began anew while this was read, which may be of the history before.
                self.ring(room.restaurant_id)
                continue
            if epoch != room.epoch:
                self._begin_anew(room, epoch, changes.head, "the epoch changed")
                continue
            self._note_vain(room, changes)
            # Another read may have moved the room while this one was on its way.
            fresh = [row for row in changes.rows if row.revision > room.head]
            if (
                room.head > changes.head.revision
                or (fresh and fresh[0].revision != room.head + 1)
                or (changes.head.revision > room.head and not fresh)
            ):
                self._begin_anew(room, epoch, changes.head, "the log has a hole")
                continue
            if fresh:
                log.debug(
                    "relaying", extra=fields(restaurant=room.slug, revision=fresh[-1].revision, changes=len(fresh))
                )
                self._hub.take(room, [encoded(row) for row in fresh])
                self._count(room, fresh, heard[room.restaurant_id], asked_at, read_at)
            if room.head < changes.head.revision:
                self.ring(room.restaurant_id)
            self._hub.note_staff(room, changes.head.staff)
            if room.messages > changes.head.messages:
                room.recount_messages(changes.head.messages)  # a snapshot has told of this history before
            elif room.messages < changes.head.messages:
                behind[room.restaurant_id] = room.messages
        if behind:
            self._pass_on(await self._database.read_messages(behind))
            # What could not be read is older than a minute, or went in a crash; nobody looks for it any longer.
            for room in rooms:
                if room.restaurant_id in behind:
                    room.skip_messages(read[room.restaurant_id].head.messages)

    def _note_vain(self, room: Room, changes: Changes) -> None:
        found = changes.rows or changes.head != (room.head, room.messages, room.staff)
        room.vain_reads = 0 if found else room.vain_reads + 1
        room.read_after = time.monotonic() + VAIN_DELAY if room.vain_reads >= VAIN_READS else 0.0

    def _count(self, room: Room, fresh: Sequence[ChangeRow], heard: float, asked_at: float, read_at: float) -> None:
        metrics.CHANGES.inc(len(fresh))
        if room.restaurant_id in self._swept:
            self._swept.discard(room.restaurant_id)
            metrics.SWEPT.inc(len(fresh))
        reading = Reading(heard, read_at, time.time(), len(room.sessions))
        self._ways.take(room.restaurant_id, room.slug, fresh, reading)
        if self._tracing is not None:
            self._tracing.delivered(room.restaurant_id, fresh[0].revision, fresh[-1].revision, asked_at, reading)

    def _begin_anew(self, room: Room, epoch: str, head: Head, why: str) -> None:
        # Never skip: whoever cannot be given every change is given the state.
        log.warning(
            "a restaurant begins anew: %s",
            why,
            extra=fields(restaurant=room.slug, held=room.head, head=head.revision),
        )
        self._hub.position(room, epoch, head.revision, head.messages)

    def _pass_on(self, rows: Sequence[MessageRow]) -> None:
        until = time.monotonic() + MESSAGE_SECONDS
        by_room: dict[int, list[Passed]] = {}
        for row in rows:
            frames = encode(protocol.message(row.type, row.data, row.milliseconds, row.client_id))
            by_room.setdefault(row.restaurant_id, []).append(
                Passed(row.number, row.client_id, row.to_client_id, row.profile, frames, until)
            )
        for restaurant_id, passed in by_room.items():
            if (room := self._hub.rooms.get(restaurant_id)) is not None:
                fresh = [message for message in passed if message.number > room.messages]
                if fresh:
                    room.pass_on(fresh)
                    self._hub.fan_out(room)
