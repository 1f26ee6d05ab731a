"""Reads what each restaurant's log holds after its room's head, and hands it to the hub.

The same read serves a live change, a burst, a lost notification and a restart of PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import metrics, protocol
from .changes import encoded
from .database import Database, MessageRow, changes_asked
from .errors import DatabaseUnavailable
from .exchange import Asked
from .frames import encode
from .hub import MESSAGE_SECONDS, Hub, Passed, Room
from .logrows import ChangeRow, Changes, Head, LogRead
from .logs import fields
from .protocol import Mutation
from .ways import CHANGING, Reading, Ways
from .window import Window

if TYPE_CHECKING:
    from .tracing import Tracing

log = logging.getLogger("relay.reader")

READ_DELAY = 0.25  # seconds before a read that failed is tried again
READ_RESTAURANTS = 64  # in one read,
BEHIND_BATCH = 4  # mutations in a batch, at most, behind which its changes are read at once
READ_ROWS, READ_BYTES = 1000, 1024 * 1024  # and of each at most this much: the rest follows in the next
# Whoever may connect may ring. A restaurant that is read in vain so often in a row is read this seldom until one finds
# something: a change of it that comes meanwhile is late by that much, and nobody else's.
VAIN_READS, VAIN_DELAY = 20, 0.1


class Place(NamedTuple):
    """Where a room stood when it was asked what follows."""

    room: Room
    window: Window
    head: Head


class Behind(NamedTuple):
    """A read that goes right behind a commit to these restaurants, or none."""

    restaurants: set[int]
    places: list[Place]
    asked: Asked | None


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

    def hear(self, restaurant_id: int, backend_pid: int) -> None:
        """A backend rang the doorbell for a restaurant, if the number is one's."""
        self._swept.discard(restaurant_id)
        # Of a batch of our own the writer tells as soon as it is committed.
        if not self._database.doorbells.is_own(backend_pid, restaurant_id):
            self.ring(restaurant_id)

    def sweep(self, restaurant_id: int) -> None:
        """A restaurant is behind its head; that a doorbell was lost is noted where none has rung."""
        is_known = restaurant_id in self._dirty or restaurant_id in self._under_way
        if not is_known and not self._database.doorbells.will_ring(restaurant_id):
            self._swept.add(restaurant_id)
        self.ring(restaurant_id)

    def ring_all(self, mutations: Iterable[Mutation]) -> None:
        """Look at the logs of all restaurants that these mutations are of."""
        for restaurant_id in {one.restaurant_id for one in mutations}:
            self.ring(restaurant_id)

    def behind(self, mutations: Sequence[Mutation], *, at_rest: bool) -> Behind:
        """What to read right behind the commit of a batch: hand it to `take` with what was read, or else `ring_all`.

        At rest it saves a read of its own, which would begin only when the relay hears of the commit. Of a larger batch
        the next one would wait for it, and for what is read already it comes too late.
        """
        restaurants = {one.restaurant_id for one in mutations}
        if (
            at_rest
            and len(mutations) <= BEHIND_BATCH
            and not any(one in self._dirty or one in self._under_way for one in restaurants)
            and all(one.type in CHANGING for one in mutations)
            and (places := self._places(restaurants))
        ):
            return Behind(restaurants, places, changes_asked(_cursors(places), READ_ROWS, READ_BYTES))
        return Behind(restaurants, [], None)

    def take(self, behind: Behind, read: LogRead, committed_at: float) -> None:
        """Take what was read right behind a commit; times are of time.time()."""
        heard = {place.room.restaurant_id: committed_at for place in behind.places}
        for restaurant_id in self._take(behind.places, read, heard, committed_at):
            self.ring(restaurant_id)
        # A room may have been opened, or found its head, while this was on its way.
        for restaurant_id in behind.restaurants.difference(heard):
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
        places = self._places(heard)
        if not places:
            return
        asked_at = time.time()
        read = await self._database.read_changes(_cursors(places), rows=READ_ROWS, size=READ_BYTES, live=True)
        behind = self._take(places, read, heard, asked_at)
        if behind:
            self._pass_on(await self._database.read_messages(behind))
            # What could not be read is older than a minute, or went in a crash; nobody looks for it any longer.
            for place in places:
                if (restaurant_id := place.room.restaurant_id) in behind:
                    place.room.skip_messages(read.by_restaurant[restaurant_id].head.messages)

    def _places(self, restaurant_ids: Iterable[int]) -> list[Place]:
        """Where the rooms of these restaurants stand; one whose head is not known yet is read when it is."""
        places = []
        for room in (room for i in restaurant_ids if (room := self._hub.rooms.get(i))):
            if room.window is None:
                room.rung_early = True
            else:
                places.append(Place(room, room.window, Head(room.head, room.messages, room.staff)))
        return places

    def _take(
        self, places: Sequence[Place], read: LogRead, heard: Mapping[int, float], asked_at: float
    ) -> dict[int, int]:
        """Hand the hub what was read; restaurants whose messages are to be read too, each with the last it has.

        What was read is compared with where the room stood when it was asked for: meanwhile another read, of a later
        moment, may have moved it.
        """
        read_at = time.time()
        behind: dict[int, int] = {}
        for room, window, before in places:
            changes = read.by_restaurant.get(room.restaurant_id)
            if changes is None or read.epoch is None:
                continue
            if room.window is not window or self._hub.rooms.get(room.restaurant_id) is not room:
                # It began anew while this was read, which may be of the history before; or another was opened since.
                self.ring(room.restaurant_id)
                continue
            if read.epoch != room.epoch:
                self._begin_anew(room, read.epoch, changes.head, "the epoch changed")
                continue
            self._note_vain(room, changes, before)
            head, rows = changes.head, changes.rows
            if (
                before.revision > head.revision
                or (rows and rows[0].revision != before.revision + 1)
                or (head.revision > before.revision and not rows)
            ):
                self._begin_anew(room, read.epoch, head, "the log has a hole")
                continue
            if fresh := [row for row in rows if row.revision > room.head]:
                log.debug(
                    "relaying", extra=fields(restaurant=room.slug, revision=fresh[-1].revision, changes=len(fresh))
                )
                self._hub.take(room, [encoded(row) for row in fresh])
                self._count(room, fresh, heard[room.restaurant_id], asked_at, read_at)
            if room.head < head.revision:
                self.ring(room.restaurant_id)
            if head.staff != before.staff:
                self._hub.note_staff(room, head.staff)
            if before.messages > head.messages:
                room.recount_messages(head.messages)  # a snapshot has told of this history before
            elif room.messages < head.messages:
                behind[room.restaurant_id] = room.messages
        return behind

    @staticmethod
    def _note_vain(room: Room, changes: Changes, before: Head) -> None:
        found = changes.rows or changes.head != before
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


def _cursors(places: Iterable[Place]) -> dict[int, int]:
    return {place.room.restaurant_id: place.head.revision for place in places}
