"""Answers SYNC_REQUESTs: the changes after a terminal's cursor, or a snapshot with a reason.

However many ask at the same time, a restaurant is read once: the head, what is missing in the window, the snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from . import metrics, protocol
from .changes import encoded
from .database import Database
from .errors import DatabaseUnavailable, UnknownRestaurant
from .hub import Hub, Room
from .logrows import Head
from .logs import fields
from .reader import READ_BYTES, READ_ROWS
from .session import Session, Sync
from .session import State as SessionState
from .settings import Settings
from .snapshots import Snapshot, Snapshots
from .standby import Reads
from .window import Change, Window

log = logging.getLogger("relay.syncer")

GATHER_SECONDS = 0.1  # from one snapshot of a restaurant to the next, which all share who ask meanwhile
TURN_SECONDS = 10.0  # to wait among the restaurants that want to be read
MARGIN = READ_ROWS // 2  # changes read beyond the oldest that is missed, for the terminal that comes next
POLICY, FAULT = 1008, 1011  # close codes (RFC 6455, section 7.4.1)


def now_ms() -> int:
    """Milliseconds since 1970, as in a message's `timestamp`."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Resync(Sync):
    """A Sync that the terminal did not ask for."""


class Syncer:
    """Brings sessions to the state of their restaurant and lets them go live. `ring` is the reader's."""

    def __init__(
        self, database: Database, reads: Reads, hub: Hub, settings: Settings, ring: Callable[[int], None]
    ) -> None:
        self._database = database
        self._reads = reads
        self._hub = hub
        self._settings = settings
        self._ring = ring
        self._snapshots = Snapshots(settings.snapshot_cache_bytes)
        self._syncs: dict[Session, Sync] = {}  # under way; the newest, where one came before another was answered
        self._owed: dict[Session, Sync | None] = {}  # when the database is back; None: only to go live
        self._tasks: set[asyncio.Task[None]] = set()
        # A thousand restaurants that come back wait here, and not in the pool before whoever enters.
        self._turns = asyncio.Semaphore(max(1, settings.pool - 2))
        hub.resync = self._resync
        # The mark `complete` is of a state, and has no revision.
        hub.on_staff.append(lambda room: self._snapshots.drop(room.restaurant_id))

    async def join(self, session: Session) -> None:
        """Let a new session go live at the head.

        Raises DatabaseUnavailable; it then goes live when the database is back.
        """
        room = self._hub.rooms[session.restaurant_id]
        try:
            await self._position(room)
        except DatabaseUnavailable:
            self._owed.setdefault(session, None)
            raise
        if session.state is SessionState.NEW:
            self._hub.go_live(room, session, room.head)

    async def answer(self, session: Session, sync: Sync) -> None:
        """Send a session what it lacks, and let it go live.

        Raises DatabaseUnavailable; the session is then held, and synced when the database is back.
        """
        if session.state is SessionState.CLOSED:
            return
        session.state = SessionState.HELD
        self._syncs[session] = sync
        try:
            await self._answer(session, self._hub.rooms[session.restaurant_id], sync)
        except DatabaseUnavailable:
            if self._waits(session, sync):
                self._owed[session] = sync
            raise
        finally:
            if self._syncs.get(session) is sync:
                del self._syncs[session]

    async def snapshot(self, room: Room, least: int = 0, since: float = 0.0) -> Snapshot:
        """The restaurant's state at revision `least` or later, with all that anybody knew of before `since`."""
        await self._position(room)
        found = self._snapshots.get(room.restaurant_id)
        if found is not None and self._serves(found, room, least, since):
            return found
        async with self._reading(room):
            found = self._snapshots.get(room.restaurant_id)
            if found is None or not self._serves(found, room, least, since):
                await asyncio.sleep(found.read_at + GATHER_SECONDS - time.monotonic() if found else 0)
                found = await self._read(room)
            return found

    async def newest(self, room: Room) -> Snapshot:
        """The restaurant's state with all that is committed by now. Raises UnknownRestaurant, DatabaseUnavailable."""
        await self._position(room)
        head = await self._look(room)
        return await self.snapshot(room, head.revision)

    def pay(self) -> None:
        """The database is there: sync those who could not be before."""
        owed, self._owed = self._owed, {}
        for session, sync in owed.items():
            self._start(session, sync)

    def forget(self, session: Session) -> None:
        """A session is gone."""
        self._owed.pop(session, None)

    # One session

    def _waits(self, session: Session, sync: Sync) -> bool:
        # A second answer, later, would move the terminal back to where the first one began.
        return session.state is SessionState.HELD and self._syncs.get(session) is sync

    async def _answer(self, session: Session, room: Room, sync: Sync) -> None:
        await self._position(room)
        reason = "first-sync"
        if session.profile is not None:
            await self._look(room)  # it names no history, and may come from one that this relay has not heard of
            await session.profile.prepare()
        elif sync.epoch is not None and sync.revision is not None:
            reason = await self._reach(room, sync.epoch, sync.revision)
        if not self._waits(session, sync):
            return
        if not reason:
            assert sync.revision is not None
            # From here to live nothing is awaited: the last row sent and the first live one meet.
            if not isinstance(sync, Resync):
                head = max(room.head, sync.revision)
                session.reply(protocol.sync_changes(room.epoch, sync.revision, head, ref=sync.ref, now_ms=now_ms()))
            self._hub.go_live(room, session, sync.revision)
            metrics.SYNCS.labels("changes").inc()
            return
        if reason == "ahead":
            session.seen = 0  # what it knows of is not in this history
        # Whoever names no cursor may have seen on another socket what was committed before this one was opened.
        since = session.since if reason == "first-sync" else 0.0
        snapshot = await self.snapshot(room, session.seen, since)
        if snapshot.revision < session.seen:
            snapshot = await self.snapshot(room, session.seen)  # an ACK came while it was read
        if self._waits(session, sync):
            if sync.epoch not in (None, snapshot.epoch):
                reason = "epoch-changed"
            session.push(
                session.profile.snapshot(snapshot, sync) if session.profile else snapshot.frames(reason, sync.ref)
            )
            self._hub.go_live(room, session, snapshot.revision)
            metrics.SYNCS.labels(reason).inc()

    async def _reach(self, room: Room, epoch: str, revision: int) -> str:
        """Make the window reach back to a cursor; the reason for a snapshot where it cannot."""
        if epoch != room.epoch and epoch not in self._hub.over:
            # Another relay may have heard first of a history that has begun. From what this one remembers of the one
            # before, whoever comes from there would be moved back.
            await self._look(room)
        if epoch == room.epoch and revision > room.head:
            head = await self._look(room)
            if epoch == room.epoch:
                if revision > head.revision:
                    return "ahead"
                # The room is only a moment behind; what the terminal has already is not sent again.
                self._ring(room.restaurant_id)
        if epoch != room.epoch:
            return "epoch-changed"
        return "" if await self._backfill(room, revision) else "too-old"

    async def _look(self, room: Room) -> Head:
        """The room's head as the database has it now, looked up for all who ask together.

        A room of another history begins anew. Raises UnknownRestaurant.
        """
        while True:
            window, asked = room.window, time.monotonic()
            async with self._reading(room):
                if room.looked[0] < asked:
                    began = time.monotonic()
                    async with self._turn():
                        heads = await self._database.read_heads([room.restaurant_id])
                    room.looked = began, heads.epoch, heads.by_restaurant.get(room.restaurant_id)
                _, epoch, head = room.looked
            if head is None:
                raise UnknownRestaurant(room.slug)
            if epoch == room.epoch:
                self._hub.note_staff(room, max(head.staff, room.staff))
                return head
            # Where the room began anew meanwhile, this may be of the time before.
            if room.window is window:
                self._hub.position(room, epoch, head.revision, head.messages)
                self._ring(room.restaurant_id)
                return head

    async def _backfill(self, room: Room, revision: int) -> bool:
        """Read what the window lacks after a revision, for all who wait together; whether the window has it now."""
        window = room.window
        assert window is not None
        hit = revision >= window.base
        metrics.WINDOW.labels("hit" if hit else "miss").inc()
        if hit:
            return True
        if room.head - revision > self._settings.window_changes:
            return False
        room.wanted.append(revision)
        async with self._reading(room):
            wanted, room.wanted = room.wanted, []
            while room.window is window and window.out_of_reach < revision < window.base:
                oldest = min(one for one in (revision, *wanted) if one > window.out_of_reach)
                await self._fill(room, window, oldest)
                if oldest < window.base:
                    window.out_of_reach = max(oldest, window.out_of_reach)
            return room.window is window and revision >= window.base

    async def _fill(self, room: Room, window: Window, cursor: int) -> None:
        """Read the changes from a cursor, and some before it, to where the window begins, and put in what fits."""
        found: list[Change] = []
        start = max(0, cursor - MARGIN)
        while start < window.base:
            if sum(change.size for change in found if change.revision > cursor) > window.spare:
                window.out_of_reach = start
                return
            async with self._turn():
                epoch, read = await self._database.read_changes(
                    {room.restaurant_id: start}, rows=READ_ROWS, size=READ_BYTES
                )
            rows = read[room.restaurant_id].rows if room.restaurant_id in read else ()
            if epoch != room.epoch or not rows:
                window.out_of_reach = window.base - 1
                return
            for row in rows:
                if row.revision != start + 1:
                    # The log is pruned up to here, or has a hole: what is older leads nowhere.
                    found.clear()
                    window.out_of_reach = row.revision - 2
                found.append(encoded(row))
                start = row.revision
            if start < cursor:
                found.clear()
                start = cursor
        # The window may have moved on meanwhile, and what it held at its old end be gone.
        window.prepend([change for change in found if change.revision <= window.base])

    def _resync(self, session: Session) -> None:
        """A live session cannot be served from its window: it is behind it, or its history is over."""
        session.state = SessionState.HELD
        room = self._hub.rooms[session.restaurant_id]
        log.info(
            "resyncing a terminal", extra=fields(restaurant=room.slug, client=session.client_id, cursor=session.cursor)
        )
        self._start(session, Resync(session.epoch, session.cursor))

    def _start(self, session: Session, sync: Sync | None) -> None:
        task = asyncio.create_task(self._pay(session, sync), name="resync")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _pay(self, session: Session, sync: Sync | None) -> None:
        try:
            if sync is None:
                await self.join(session)
            # Meanwhile the terminal may have asked itself.
            elif session.state is SessionState.HELD and session not in self._syncs:
                await self.answer(session, sync)
        except DatabaseUnavailable:
            # At every sweep, and each of them; why, is said elsewhere.
            log.debug("a terminal waits for the database to be synced", extra=fields(client=session.client_id))
        except Exception as error:
            # Held for ever it would look connected, and show what is not so any more.
            session.close(POLICY if isinstance(error, UnknownRestaurant) else FAULT)
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a resync failed", exc_info=task.exception())

    # One restaurant

    @asynccontextmanager
    async def _reading(self, room: Room) -> AsyncIterator[None]:
        """The room's turn to be read. Whoever waited while a read failed fails too: time limits would add up."""
        asked = time.monotonic()
        async with room.reading:
            if room.failed_at > asked:
                raise DatabaseUnavailable("it could not be read a moment ago")
            try:
                yield
            except DatabaseUnavailable:
                room.failed_at = time.monotonic()
                raise

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The restaurant's turn at the database."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable("too many restaurants want to be read") from error
        try:
            yield
        finally:
            self._turns.release()

    async def _position(self, room: Room) -> None:
        if room.window is None:
            async with self._reading(room):
                if room.window is None:
                    room.rung_early = False
                    async with self._turn():
                        heads = await self._database.read_heads([room.restaurant_id])
                    head = heads.by_restaurant.get(room.restaurant_id, Head())
                    self._hub.position(room, heads.epoch, head.revision, head.messages)
                    self._hub.note_staff(room, head.staff)
                    if room.rung_early:
                        self._ring(room.restaurant_id)

    async def _read(self, room: Room) -> Snapshot:
        before: tuple[Window | None, int] | None = None
        while before != (room.window, room.staff):
            # Where the room began anew meanwhile, or the mark changed, what was read may be of the time before.
            before, began = (room.window, room.staff), time.monotonic()
            async with self._turn():
                state = await self._reads.snapshot(room.restaurant_id, self._settings.snapshot_orders)
        if state.epoch != room.epoch:
            self._hub.position(room, state.epoch, state.revision, room.messages)
            self._ring(room.restaurant_id)
        found = Snapshot(state, began)
        metrics.SNAPSHOT_READS.inc()
        log.debug("snapshot read", extra=fields(restaurant=room.slug, revision=found.revision, bytes=found.size))
        self._snapshots.keep(room.restaurant_id, found)
        return found

    def _serves(self, snapshot: Snapshot, room: Room, least: int, since: float) -> bool:
        # What follows it must be in the window, and nobody is moved back.
        assert room.window is not None
        return (
            snapshot.epoch == room.epoch
            and snapshot.revision >= max(least, room.window.base)
            and (snapshot.read_at >= since or snapshot.revision >= max(room.head, room.acknowledged))
        )
