"""Answers SYNC_REQUESTs: the changes after a terminal's cursor, or a snapshot with a reason.

However many ask at the same time, a restaurant is read once: the head, what is missing in the window, the snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from . import protocol
from .database import Database, State
from .errors import DatabaseUnavailable
from .frames import encode
from .hub import Change, Frames, Hub, Room, Window
from .listener import READ_BYTES, READ_ROWS, encoded
from .logs import fields
from .session import Session, Sync
from .session import State as SessionState
from .settings import Settings

log = logging.getLogger("relay.syncer")

FRESH_SECONDS = 1.0  # a snapshot this old still serves a first sync, followed by the changes since


def now_ms() -> int:
    """Milliseconds since 1970, as in a message's `timestamp`."""
    return time.time_ns() // 1_000_000


class Snapshot:
    """A state as the frames of a SYNC_RESPONSE, encoded once for each reason."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.epoch, self.revision = state.epoch, state.revision
        self.read_at = time.monotonic()
        self._frames: dict[str, Frames] = {}

    @property
    def size(self) -> int:
        """Characters held, about."""
        state = self.state
        texts = (state.tables, state.menu_items, state.categories, state.settings, state.orders)
        return sum(map(len, texts)) * (1 + len(self._frames))

    def frames(self, reason: str, ref: str | None) -> Frames:
        """The SYNC_RESPONSE that carries it."""
        if ref is not None:
            return self._encode(reason, ref)
        if reason not in self._frames:
            self._frames[reason] = self._encode(reason, None)
        return self._frames[reason]

    def text(self) -> str:
        """Its data as GET /api/sync returns it."""
        return f'{{{self._members()},"mode":"snapshot","epoch":"{self.epoch}","revision":{self.revision}}}'

    def _members(self) -> str:
        state = self.state
        return protocol.state(
            tables=state.tables,
            menu_items=state.menu_items,
            categories=state.categories,
            settings=state.settings,
            order_history=state.orders,
        )

    def _encode(self, reason: str, ref: str | None) -> Frames:
        text = protocol.snapshot(self._members(), reason, self.epoch, self.revision, ref=ref, now_ms=now_ms())
        return encode(text)


class Syncer:
    """Brings sessions to the state of their restaurant and lets them go live. `ring` is the listener's."""

    def __init__(self, database: Database, hub: Hub, settings: Settings, ring: Callable[[int], None]) -> None:
        self._database = database
        self._hub = hub
        self._settings = settings
        self._ring = ring
        self._snapshots: OrderedDict[int, Snapshot] = OrderedDict()
        self._owed: dict[Session, Sync | None] = {}  # None: only to go live
        self._tasks: set[asyncio.Task[None]] = set()
        hub.resync = self._resync

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
            self._hub.go_live(session, room.head)

    async def answer(self, session: Session, sync: Sync) -> None:
        """Send a session what it lacks, and let it go live.

        Raises DatabaseUnavailable; the session is then held, and synced when the database is back.
        """
        session.state = SessionState.HELD
        try:
            await self._answer(session, self._hub.rooms[session.restaurant_id], sync)
        except DatabaseUnavailable:
            self._owed[session] = sync
            raise

    async def snapshot(self, room: Room, least: int = 0) -> Snapshot:
        """The restaurant's state at `least` or later, at most FRESH_SECONDS old or at the head."""
        await self._position(room)
        async with room.reading:
            found = self._snapshots.get(room.restaurant_id)
            if found is None or not self._serves(found, room, least):
                state = await self._database.snapshot(room.restaurant_id, self._settings.snapshot_orders)
                if state.epoch != room.epoch:
                    self._hub.position(room, state.epoch, state.revision, room.messages)
                    self._ring(room.restaurant_id)
                found = self._snapshots[room.restaurant_id] = Snapshot(state)
                log.debug(
                    "snapshot read", extra=fields(restaurant=room.slug, revision=found.revision, bytes=found.size)
                )
            self._snapshots.move_to_end(room.restaurant_id)
            self._forget()
            return found

    def pay(self) -> None:
        """The database is there: sync those who could not be before."""
        owed, self._owed = self._owed, {}
        for session, sync in owed.items():
            self._start(session, sync)

    def forget(self, session: Session) -> None:
        """A session is gone."""
        self._owed.pop(session, None)

    # One session

    async def _answer(self, session: Session, room: Room, sync: Sync) -> None:
        await self._position(room)
        reason, least = "first-sync", session.seen if session.epoch == room.epoch else 0
        if sync.epoch is not None and sync.revision is not None:
            reason = await self._reach(room, sync.epoch, sync.revision)
            if not reason:
                # From here to live nothing is awaited: the last row sent and the first live one meet.
                head = max(room.head, sync.revision)
                session.reply(protocol.sync_changes(room.epoch, sync.revision, head, ref=sync.ref, now_ms=now_ms()))
                self._hub.go_live(session, sync.revision)
                return
            least = max(least, sync.revision) if reason == "too-old" else least
        snapshot = await self.snapshot(room, least)
        if session.state is not SessionState.CLOSED:
            session.push(snapshot.frames(reason, sync.ref))
            self._hub.go_live(session, snapshot.revision)

    async def _reach(self, room: Room, epoch: str, revision: int) -> str:
        """Make the window reach back to a cursor; the reason for a snapshot where it cannot."""
        if epoch == room.epoch and revision > room.head:
            heads = await self._database.read_heads([room.restaurant_id])
            if heads.epoch == epoch and revision > heads.by_restaurant.get(room.restaurant_id, (0, 0))[0]:
                return "ahead"
            # The room is only a moment behind; what the terminal has already is not sent again.
            self._ring(room.restaurant_id)
        if epoch != room.epoch:
            return "epoch-changed"
        return "" if await self._backfill(room, revision) else "too-old"

    async def _backfill(self, room: Room, revision: int) -> bool:
        """Read what the window lacks after a revision, for all who wait together; whether the window has it now."""
        window = room.window
        assert window is not None
        if revision >= window.base:
            return True
        if room.head - revision > self._settings.window_changes:
            return False
        room.oldest_wanted = min(revision, room.oldest_wanted or revision)
        async with room.reading:
            oldest, room.oldest_wanted = room.oldest_wanted, None
            if oldest is not None and oldest < window.base:
                missing = await self._missing(room, window, oldest)
                # The window may have moved on meanwhile, and what it held at its old end be gone.
                window.prepend([change for change in missing if change.revision <= window.base])
            return room.window is window and revision >= window.base

    async def _missing(self, room: Room, window: Window, cursor: int) -> list[Change]:
        """The changes from a cursor to where the window begins; none where the log does not hold all of them."""
        found: list[Change] = []
        size = 0
        while cursor < window.base and size <= self._settings.window_bytes:
            epoch, read = await self._database.read_changes(
                {room.restaurant_id: cursor}, rows=READ_ROWS, size=READ_BYTES
            )
            changes = read.get(room.restaurant_id)
            if epoch != room.epoch or changes is None or not changes.rows or changes.rows[0].revision != cursor + 1:
                return []
            found += [encoded(row) for row in changes.rows]
            cursor, size = found[-1].revision, sum(change.size for change in found)
        return found if cursor >= window.base else []

    def _resync(self, session: Session) -> None:
        """A live session cannot be served from its window: it is behind it, or its history is over."""
        session.state = SessionState.HELD
        room = self._hub.rooms[session.restaurant_id]
        log.info(
            "resyncing a terminal", extra=fields(restaurant=room.slug, client=session.client_id, cursor=session.cursor)
        )
        self._start(session, Sync(session.epoch, session.cursor))

    def _start(self, session: Session, sync: Sync | None) -> None:
        task = asyncio.create_task(self._pay(session, sync), name="resync")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _pay(self, session: Session, sync: Sync | None) -> None:
        if session.state is not SessionState.CLOSED:
            try:
                await (self.answer(session, sync) if sync else self.join(session))
            except DatabaseUnavailable:
                log.info("a terminal waits for the database to be synced", extra=fields(client=session.client_id))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a resync failed", exc_info=task.exception())

    # One restaurant

    async def _position(self, room: Room) -> None:
        if room.window is None:
            async with room.reading:
                if room.window is None:
                    heads = await self._database.read_heads([room.restaurant_id])
                    head, messages = heads.by_restaurant.get(room.restaurant_id, (0, 0))
                    self._hub.position(room, heads.epoch, head, messages)
                    # A doorbell that rang meanwhile found no window to compare with.
                    self._ring(room.restaurant_id)

    def _serves(self, snapshot: Snapshot, room: Room, least: int) -> bool:
        # What follows it must be in the window, and nobody is moved back.
        assert room.window is not None
        return (
            snapshot.epoch == room.epoch
            and snapshot.revision >= max(least, room.window.base)
            and (snapshot.revision >= room.head or time.monotonic() - snapshot.read_at < FRESH_SECONDS)
        )

    def _forget(self) -> None:
        while (
            len(self._snapshots) > 1
            and sum(s.size for s in self._snapshots.values()) > self._settings.snapshot_cache_bytes
        ):
            self._snapshots.popitem(last=False)
