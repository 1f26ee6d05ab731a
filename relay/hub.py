"""The rooms: each restaurant's window of recent changes and the sessions they go to."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from .session import Session, State

CHUNK_BYTES = 64 * 1024  # about what one write carries; the wire's own limit
CHUNKS_KEPT = 64  # joined writes kept for sessions with the same cursor
IDLE_SECONDS = 60.0  # a room without sessions is kept up to date this long, for those who come back
MESSAGES_KEPT = 1000
MESSAGE_SECONDS = 60.0

Frames = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change as the frames that all receive."""

    revision: int
    frames: Frames

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return sum(map(len, self.frames))


@dataclass(frozen=True, slots=True)
class Passed:
    """A MESSAGE on its way to the other terminals."""

    number: int
    client_id: str
    to: str | None
    frames: Frames
    until: float


class Window:
    """Recent changes of one restaurant, `base` + 1 to `head` without a hole, as frames.

    It has a ceiling in changes and in bytes; what falls out at the old end is read from the log again if need be.
    """

    def __init__(self, head: int, max_changes: int, max_bytes: int) -> None:
        self.base = self.head = head
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._max_changes, self._max_bytes = max_changes, max_bytes
        self._chunks: dict[int, tuple[Frames, int]] = {}

    def append(self, changes: Sequence[Change]) -> None:
        """Add the changes that follow `head`."""
        self._chunks.clear()
        for change in changes:
            # A hole here would be a silent gap at every terminal.
            assert change.revision == self.head + 1, f"revision {change.revision} does not follow {self.head}"
            self._changes.append(change)
            self._bytes += change.size
            self.head = change.revision
        while len(self._changes) > self._max_changes or (self._bytes > self._max_bytes and len(self._changes) > 1):
            self._bytes -= self._changes.popleft().size
            self.base += 1

    def prepend(self, changes: Sequence[Change]) -> bool:
        """Add the changes that end at `base`, if all of them fit; whether they did."""
        size = sum(change.size for change in changes)
        if len(self._changes) + len(changes) > self._max_changes or self._bytes + size > self._max_bytes:
            return False
        for change in reversed(changes):
            assert change.revision == self.base, f"revision {change.revision} does not end at {self.base}"
            self._changes.appendleft(change)
            self.base -= 1
        self._bytes += size
        return True

    def chunk(self, cursor: int) -> tuple[Frames, int]:
        """What follows `cursor` (base to head), about CHUNK_BYTES of it, and the revision it leads to.

        Built once for all sessions with the same cursor. Small changes are joined into one write; a large one keeps
        its frames apart, so that a slow wire takes it one by one.
        """
        found = self._chunks.get(cursor)
        if found is None:
            if len(self._chunks) >= CHUNKS_KEPT:
                self._chunks.clear()
            found = self._chunks[cursor] = self._join(cursor)
        return found

    def _join(self, cursor: int) -> tuple[Frames, int]:
        small: list[bytes] = []
        size = 0
        for change in self._after(cursor):
            if len(change.frames) > 1:
                if not small:
                    return change.frames, change.revision
                break
            if small and size + change.size > CHUNK_BYTES:
                break
            small.append(change.frames[0])
            size += change.size
            cursor = change.revision
        return (b"".join(small),) if small else (), cursor

    def _after(self, cursor: int) -> Iterator[Change]:
        behind = self.head - cursor
        if behind * 2 > len(self._changes):
            return islice(self._changes, cursor - self.base, None)
        return reversed(list(islice(reversed(self._changes), behind)))


class Room:
    """One restaurant on this instance: its sessions, and the window once its head is known."""

    def __init__(self, restaurant_id: int, slug: str) -> None:
        self.restaurant_id = restaurant_id
        self.slug = slug
        self.epoch = ""
        self.window: Window | None = None
        self.messages = 0  # number of the newest MESSAGE passed on
        self.sessions: set[Session] = set()
        self.idle_since = time.monotonic()
        self.reading = asyncio.Lock()  # held by whoever reads the database for all of the room
        self.oldest_wanted: int | None = None  # the oldest cursor that waits for the window to reach back to it
        self._passed: deque[Passed] = deque(maxlen=MESSAGES_KEPT)

    @property
    def head(self) -> int:
        """The newest revision known here; 0 before the first read."""
        return self.window.head if self.window else 0

    def feed(self, session: Session) -> bool:
        """Write to a session what follows its cursor while it takes more; False when that fell out of the window."""
        window = self.window
        while window is not None and session.ready and session.cursor < window.head:
            if session.cursor < window.base:
                return False
            session.advance(*window.chunk(session.cursor))
        if session.messages < self.messages and session.ready:
            self._pass(session)
        return True

    def pass_on(self, passed: Sequence[Passed]) -> None:
        """Take messages; `feed` passes them on."""
        self._passed.extend(passed)
        self.messages = passed[-1].number

    def _pass(self, session: Session) -> None:
        now = time.monotonic()
        for message in self._passed:
            fresh = message.number > session.messages and message.until > now
            if fresh and message.client_id != session.client_id and message.to in (None, session.client_id):
                session.push(message.frames)
        session.messages = self.messages


class Hub:
    """All rooms of this instance. `resync` is called with a session that cannot be served from its window."""

    def __init__(self, window_changes: int, window_bytes: int) -> None:
        self.rooms: dict[int, Room] = {}
        self._by_slug: dict[str, Room] = {}
        self.resync: Callable[[Session], None] = lambda _session: None
        self._limits = window_changes, window_bytes

    def room_of(self, slug: str) -> Room | None:
        """The room of the restaurant with this slug, where one is open."""
        return self._by_slug.get(slug)

    def open(self, restaurant_id: int, slug: str) -> Room:
        """The restaurant's room, opened if need be; without sessions it is let go after IDLE_SECONDS."""
        room = self.rooms.get(restaurant_id)
        if room is None:
            room = self.rooms[restaurant_id] = self._by_slug[slug] = Room(restaurant_id, slug)
        return room

    def enter(self, session: Session, room: Room) -> None:
        """Put a session into its restaurant's room."""
        session.restaurant_id, session.messages = room.restaurant_id, room.messages
        session.on_drained = self._drained
        room.sessions.add(session)

    def leave(self, session: Session) -> None:
        """Take a session out of its room."""
        room = self.rooms.get(session.restaurant_id)
        if room is not None:
            room.sessions.discard(session)
            room.idle_since = time.monotonic()

    def forget_idle(self) -> None:
        """Let go of rooms that nobody came back to."""
        for room in [room for room in self.rooms.values() if not room.sessions]:
            if time.monotonic() - room.idle_since > IDLE_SECONDS:
                del self.rooms[room.restaurant_id], self._by_slug[room.slug]

    def position(self, room: Room, epoch: str, head: int, messages: int) -> None:
        """Begin a room's window at a head, for the first time or after its history changed.

        Live sessions of the time before are resynced.
        """
        room.epoch = epoch
        room.window = Window(head, *self._limits)
        room.messages = messages
        for session in room.sessions:
            session.messages = messages
            if session.state is State.LIVE:
                self.resync(session)

    def go_live(self, session: Session, cursor: int) -> None:
        """Send a session what follows `cursor` from now on. Between reading `cursor` and here nothing is awaited."""
        room = self.rooms[session.restaurant_id]
        if session.epoch != room.epoch:
            session.epoch, session.seen = room.epoch, 0
        session.state = State.LIVE
        session.cursor = cursor
        session.seen = max(session.seen, cursor)
        self._feed(room, session)

    def take(self, room: Room, changes: Sequence[Change]) -> None:
        """Add changes to a room's window and send them to its sessions."""
        assert room.window is not None
        room.window.append(changes)
        self.fan_out(room)

    def fan_out(self, room: Room) -> None:
        """Send every session of a room what it lacks."""
        for session in list(room.sessions):
            self._feed(room, session)

    def _drained(self, session: Session) -> None:
        self._feed(self.rooms[session.restaurant_id], session)

    def _feed(self, room: Room, session: Session) -> None:
        if not room.feed(session):
            self.resync(session)

    @property
    def sessions(self) -> Iterator[Session]:
        """Every session on this instance that knows its restaurant."""
        return (session for room in self.rooms.values() for session in room.sessions)
