"""The rooms: each restaurant's window of recent changes, and the sessions they go to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from .frames import Frames
from .logrows import Head
from .logs import fields
from .session import Session, State
from .window import Change, Window

log = logging.getLogger("relay.hub")

FAULT = 1011  # close code (RFC 6455, section 7.4.1)
IDLE_SECONDS = 60.0  # a room without sessions is kept up to date this long, for those who come back
MESSAGES_KEPT = 1000
MESSAGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Passed:
    """A MESSAGE on its way to the other terminals, or to those of one profile."""

    number: int
    client_id: str
    to: str | None
    profile: str | None
    frames: Frames
    until: float


class Room:
    """One restaurant on this instance: its sessions, and the window once its head is known."""

    def __init__(self, restaurant_id: int, slug: str) -> None:
        self.restaurant_id = restaurant_id
        self.slug = slug
        self.named_at = 0.0  # when the database was last asked whose slug this is
        self.epoch = ""
        self.window: Window | None = None
        self.busy_until = 0.0  # with what its terminals said (see rates)
        self.acknowledged = 0  # the newest revision that a terminal was told of here, perhaps before the change came
        self.messages = 0  # number of the newest MESSAGE passed on
        self.staff = -1  # count of the staff's changes; -1 before the first read
        self.sessions: set[Session] = set()
        self.idle_since = time.monotonic()
        self.reading = asyncio.Lock()  # held by whoever reads the database for all of the room
        self.failed_at = 0.0  # when such a reading failed last
        self.looked: tuple[float, str, Head | None] = (0.0, "", None)  # when, and what was found with which epoch
        self.wanted: list[int] = []  # cursors that wait for the window to reach back to them
        self.behind: set[Session] = set()  # who is sent more in the next round
        self.moved = asyncio.Event()  # set for a moment when the head moves: whoever waits for it looks again
        self.vain_reads = 0  # in a row, that a doorbell asked for and that found nothing
        self.read_after = 0.0  # until when its doorbells wait, for they were rung in vain
        self.rung_early = False  # a doorbell rang while there was no window yet to compare with
        self._passed: deque[Passed] = deque(maxlen=MESSAGES_KEPT)

    @property
    def head(self) -> int:
        """The newest revision known here; 0 before the first read."""
        return self.window.head if self.window else 0

    def wake(self) -> None:
        """Wake who waits for the head to move."""
        self.moved.set()
        self.moved.clear()

    def feed(self, session: Session) -> bool:
        """Write to a session the next chunk of what it lacks, if it takes any; False when the window has it not."""
        window = self.window
        if window is None or not session.ready:
            return True
        if session.epoch != self.epoch or session.cursor < window.base:
            return False
        if session.cursor < window.head:
            profile = session.profile
            session.advance(
                *(window.chosen(session.cursor, profile.frames_of) if profile else window.chunk(session.cursor))
            )
        if session.cursor >= window.head and session.messages < self.messages:
            self._pass(session)
        return True

    def pass_on(self, passed: Sequence[Passed]) -> None:
        """Take messages; `feed` passes them on."""
        while self._passed and self._passed[0].until < time.monotonic():
            self._passed.popleft()
        self._passed.extend(passed)
        self.messages = passed[-1].number

    def skip_messages(self, number: int) -> None:
        """Messages up to this number that have not come will not come."""
        self.messages = max(self.messages, number)

    def recount_messages(self, number: int) -> None:
        """Another history has counted this many: those of the one before have been passed on, or will not be."""
        self.messages = number
        self._passed.clear()
        for session in self.sessions:
            session.messages = number

    def _pass(self, session: Session) -> None:
        now = time.monotonic()
        for message in reversed(list(takewhile(lambda m: m.number > session.messages, reversed(self._passed)))):
            if not session.ready:
                return  # the rest when it reads again
            session.messages = message.number
            if (
                message.until > now
                and message.client_id != session.client_id
                and message.to in (None, session.client_id)
                and message.profile in (None, session.profile.name if session.profile else None)
            ):
                session.push(message.frames)
        session.messages = self.messages


class Hub:
    """All rooms of this instance.

    `resync` is called with a session that cannot be served from its window, `on_changes` with what a room has taken,
    each of `on_staff` with a room whose count of changes without a revision is another one.
    """

    def __init__(self, window_changes: int, window_bytes: int) -> None:
        self.rooms: dict[int, Room] = {}
        self._by_slug: dict[str, Room] = {}
        self.resync: Callable[[Session], None] = lambda _session: None
        self.on_changes: Callable[[Room, Sequence[Change]], None] = lambda _room, _changes: None
        self.on_staff: list[Callable[[Room], None]] = []
        self.over = {""}  # epochs whose end was heard of here; the empty one is nobody's
        self._limits = window_changes, window_bytes

    def room_of(self, slug: str) -> Room | None:
        """The room of the restaurant with this slug, where one is open."""
        return self._by_slug.get(slug)

    def open(self, restaurant_id: int, slug: str) -> Room:
        """The restaurant's room, opened if need be; without sessions it is let go after IDLE_SECONDS."""
        room = self.rooms.get(restaurant_id)
        if room is None:
            room = self.rooms[restaurant_id] = Room(restaurant_id, slug)
        self.forget_name(room)
        room.slug, room.named_at = slug, time.monotonic()
        self._by_slug[slug] = room
        return room

    def forget_name(self, room: Room) -> None:
        """The restaurant has another slug, or none: `room_of` finds the room no more."""
        if self._by_slug.get(room.slug) is room:
            del self._by_slug[room.slug]

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
                del self.rooms[room.restaurant_id]
                self.forget_name(room)

    def position(self, room: Room, epoch: str, head: int, messages: int) -> None:
        """Begin a room's window at a head, for the first time or after its history changed.

        Live sessions of the time before are resynced.
        """
        first = room.window is None
        if not first:
            room.acknowledged = 0
            self.over.add(room.epoch)
        self.over.discard(epoch)
        room.epoch = epoch
        room.window = Window(head, *self._limits)
        room.recount_messages(messages)
        room.wake()
        for session in room.sessions:
            if not first:
                session.seen = 0
            if session.state is State.LIVE:
                if session.ready:
                    self.resync(session)
                else:
                    session.epoch = ""  # it is resynced when it reads again: until then snapshots would only pile up

    def note_staff(self, room: Room, count: int) -> None:
        """A room's count of changes without a revision, as it was read."""
        if room.staff != count:
            room.staff = count
            for heed in self.on_staff:
                heed(room)

    def go_live(self, room: Room, session: Session, cursor: int) -> None:
        """Send a session what follows `cursor` from now on. Between reading `cursor` and here nothing is awaited."""
        session.state = State.LIVE
        session.epoch, session.cursor = room.epoch, cursor
        session.seen = max(session.seen, cursor)
        self._feed(room, session)

    def take(self, room: Room, changes: Sequence[Change]) -> None:
        """Add changes to a room's window and send them to its sessions."""
        assert room.window is not None
        room.window.append(changes)
        self.fan_out(room)
        self.on_changes(room, changes)
        room.wake()

    def fan_out(self, room: Room) -> None:
        """Send every session of a room what it lacks."""
        if (window := room.window) is None:
            return
        # Nearly all stand at the same cursor, wait for nothing and are sent the same bytes: for them as little is done
        # here as can be, since it is done for every terminal and change. It comes to what `_feed` does.
        epoch, messages, head = room.epoch, room.messages, window.head
        cursor, data = head, b""
        for session in list(room.sessions):
            if session.cursor != cursor and window.base <= session.cursor < head:
                cursor = session.cursor
                frames, end = window.chunk(cursor)
                data = frames[0] if len(frames) == 1 and end == head else b""
            if (
                data
                and session.cursor == cursor
                and session.ready
                and session.profile is None
                and session.epoch == epoch
                and session.messages == messages
            ):
                session.wire.write(data)
                session.cursor = head
                if session.seen < head:
                    session.seen = head
            else:
                self._feed(room, session)

    def _drained(self, session: Session) -> None:
        self._feed(self.rooms[session.restaurant_id], session)

    def _feed(self, room: Room, session: Session) -> None:
        try:
            fed = room.feed(session)
        except Exception:
            # What one terminal cannot be given is no reason to give the others nothing.
            log.exception("a terminal could not be sent a change", extra=fields(client=session.client_id))
            session.close(FAULT, "the relay failed; its log says why")
            return
        if not fed:
            self.resync(session)
        elif session.cursor < room.head and session.ready:
            # One chunk a round: a burst to a thousand terminals must not hold up another restaurant's.
            if not room.behind:
                asyncio.get_running_loop().call_soon(self._round, room)
            room.behind.add(session)

    def _round(self, room: Room) -> None:
        behind, room.behind = room.behind, set()
        for session in behind:
            self._feed(room, session)

    @property
    def sessions(self) -> Iterator[Session]:
        """Every session on this instance that knows its restaurant."""
        return (session for room in self.rooms.values() for session in room.sessions)
