"""One terminal's state machine: what it is owed and what becomes of what it says. No I/O: it writes to a Wire."""

from __future__ import annotations

import enum
import secrets
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from . import protocol
from .answers import Answer
from .auth import may, why_not
from .errors import Refusal
from .frames import Frames, encode
from .protocol import NOBODY, Hello, Kind, Message, Mutation, Relayed, SyncRequest, Update
from .snapshots import Snapshot
from .window import Change
from .wire import Wire

OUTBOX_BYTES = 256 * 1024  # of answers waiting for a terminal that does not read; beyond it no more of its messages are

EMPTY: deque[bytes] = deque()  # the outbox of all who wait for nothing: one of its own would be 700 bytes


class State(enum.Enum):
    """Where a session stands. Lagging is not among them: a session whose wire is full is live with a cursor behind."""

    NEW = enum.auto()  # nothing is sent to it until its first message
    HELD = enum.auto()  # it waits for a sync; changes wait with it
    LIVE = enum.auto()  # it is sent what follows its cursor
    CLOSED = enum.auto()


@dataclass(frozen=True, slots=True)
class Sync:
    """The terminal is to be synced from this cursor; None where it has none."""

    epoch: str | None
    revision: int | None
    ref: str | None = None


class Submit(msgspec.Struct, frozen=True):
    """The terminal wants a mutation; `acknowledge` says whether it waits for an ACK."""

    mutation: Mutation
    acknowledge: bool


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The terminal leaves."""


Deed = Sync | Submit | Goodbye | None


class Profile(Protocol):
    """How a terminal is served that does not keep to the protocol as it stands."""

    @property
    def name(self) -> str:
        """As in messages.profile: whose messages it is passed."""

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The messages it may send."""

    def deed(self, message: Message, deed: Deed) -> Deed:
        """What is to be done about a message instead of what the session would do."""

    def heartbeat(self) -> str:
        """The answer to a HEARTBEAT."""

    def submitted(self, mutation: Mutation, answer: Future[Answer]) -> None:
        """A mutation of it is on its way."""

    def refused(self, type_: str) -> None:
        """A message of this type was refused before it became a mutation."""

    def frames_of(self, change: Change) -> Frames:
        """What it is sent of a change; nothing, where it is not to have it."""

    async def prepare(self) -> None:
        """Read what `snapshot` needs. Raises DatabaseUnavailable."""

    def snapshot(self, snapshot: Snapshot, sync: Sync) -> Frames:
        """What it is sent of a state; the changes after it follow."""

    def left(self) -> None:
        """Its socket is closed."""


class Session:
    """One terminal on one socket.

    It keeps a cursor, not a queue: `cursor` is the last revision written to the wire. Only answers, and the rest of a
    change that was begun, wait in the outbox.
    """

    __slots__ = (
        "_outbox", "_outbox_bytes", "actor", "client_id", "cursor", "epoch", "greeted", "messages", "name",
        "on_drained", "profile", "restaurant_id", "role", "seen", "since", "state", "wire",
    )  # fmt: skip

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.since = time.monotonic()
        self.state = State.NEW
        self.client_id = f"terminal-{secrets.token_hex(8)}"  # until it names itself
        self.name = ""  # as it calls itself
        self.greeted = False
        self.restaurant_id = 0  # 0: not known yet
        self.epoch = ""  # the history its cursor belongs to
        self.cursor = 0
        self.seen = 0  # the newest revision it knows of, by a change or an ACK: it is never moved back behind it
        self.messages = 0  # number of the last MESSAGE it was offered
        self.profile: Profile | None = None  # it keeps to the protocol
        self.role: str | None = None  # authentication is off: it may say everything
        self.actor = NOBODY
        self.on_drained: Callable[[Session], None] | None = None
        self._outbox = EMPTY
        self._outbox_bytes = 0
        wire.on_writable = self.flush

    # What it says

    def hear(self, message: Message) -> Deed:
        """What is to be done about a message; plain answers are written at once. Raises Refusal."""
        if message.client_id is not None and (isinstance(message, Hello) or not self.greeted):
            self.client_id = message.client_id
            self.greeted = self.greeted or isinstance(message, Hello)
        if isinstance(message, Hello) and message.name:
            self.name = message.name
        if self.role is not None and not may(self.role, message.type):
            raise Refusal("FORBIDDEN", why_not(self.role, message.type), field="type")
        match message:
            case SyncRequest():
                return Sync(message.epoch, message.revision, message.id)
            case Update():
                return self._submit(message, message.action, message.body)
            case Relayed():
                return self._submit(message, None, message.data_text)
        if message.type == "NEXT_ORDER_ID":
            return self._submit(message, None, "{}")
        if message.type == "CLIENT_DISCONNECTED":
            return Goodbye()
        return None

    def _submit(self, message: Message, action: str | None, body: str) -> Submit:
        if message.if_version is not None and action in (None, "clear"):
            raise Refusal("VALIDATION", "ifVersion goes with a message that changes one row", field="ifVersion")
        mutation = Mutation(
            restaurant_id=self.restaurant_id,
            client_id=message.client_id or self.client_id,
            id=message.id,
            type=message.type,
            action=action,
            body=body,
            if_version=message.if_version,
            role=self.role,
            actor=self.actor,
            traceparent=message.traceparent,
        )
        return Submit(mutation, acknowledge=message.id is not None or message.type == "NEXT_ORDER_ID")

    # What it is owed

    @property
    def ready(self) -> bool:
        """Whether changes may be written to it now."""
        return self.state is State.LIVE and not self._outbox and self.wire.writable

    @property
    def lagging(self) -> bool:
        """Whether what it is owed waits because it does not read fast enough."""
        return self.state is not State.CLOSED and (bool(self._outbox) or not self.wire.writable)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait here or on the wire for the terminal to read."""
        return self._outbox_bytes + self.wire.buffered

    @property
    def clogged(self) -> bool:
        """Whether so many answers wait that no more of its messages should be read."""
        return self._outbox_bytes > OUTBOX_BYTES and not self.wire.closed

    def reply(self, text: str) -> None:
        """Write an answer, or let it wait behind what was begun."""
        self.push(encode(text))

    def push(self, frames: Sequence[bytes]) -> None:
        """Write the frames of one message or several, or let them wait; what was begun is ended first."""
        for frame in frames:
            if self._outbox or not self.wire.writable:
                if self.wire.closed:
                    return
                if self._outbox is EMPTY:
                    self._outbox = deque()
                self._outbox.append(frame)
                self._outbox_bytes += len(frame)
            else:
                self.wire.write(frame)

    def advance(self, frames: Sequence[bytes], cursor: int) -> None:
        """Write changes up to revision `cursor`, which becomes the session's."""
        self.push(frames)
        self.cursor = cursor
        self.seen = max(self.seen, cursor)

    def flush(self) -> None:
        """The wire takes more: write what waits, then ask for what follows the cursor."""
        while self._outbox and self.wire.writable:
            frame = self._outbox.popleft()
            self._outbox_bytes -= len(frame)
            self.wire.write(frame)
        if not self._outbox:
            self._outbox = EMPTY
            if self.on_drained is not None:
                self.on_drained(self)

    def heartbeat(self, head: int, now_ms: int) -> None:
        """Answer a HEARTBEAT with the last revision written to this socket."""
        beat = self.profile.heartbeat() if self.profile else protocol.heartbeat(self.cursor, head, now_ms=now_ms)
        self.reply(beat)

    def close(self, code: int, reason: str = "") -> None:
        """End the session; what waits in the outbox is dropped, what the wire holds is delivered."""
        self.state = State.CLOSED
        self._outbox = EMPTY
        self._outbox_bytes = 0
        self.on_drained = None
        self.wire.close(code, reason)
