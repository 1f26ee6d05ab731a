"""Carries one terminal's messages between its socket and the parts: session, writer, syncer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from . import metrics, protocol
from .asgi import AsgiWire, wire_of
from .checksums import Checksums
from .database import Answer, Database
from .errors import DatabaseUnavailable, Refusal, UnknownRestaurant
from .hub import Hub, Room
from .logs import fields
from .protocol import Hello, Message, SyncRequest
from .session import Deed, Goodbye, Profile, Session, Submit, Sync
from .settings import Settings
from .syncer import Syncer, now_ms
from .wire import SocketWire
from .writer import Writer

log = logging.getLogger("relay.connection")

DEFAULT_SLUG = "default"
ENTER_SECONDS = 2.5  # to find the restaurant before the first message is read

RELIEF_SECONDS = 1.0
SLUG_SECONDS = 2.0  # a restaurant may be given another slug, and its old one to another restaurant
LEAVE_SECONDS = 1.0  # in a drain, for the answers that are still due
STALLED_SECONDS = 60.0  # without reading a byte of its answers, and a terminal is cut off
REASON_BYTES = 123  # the most that a close frame holds beside its code (RFC 6455, section 5.5)
SLICE, SLICE_SECONDS = 50, 0.25  # terminals closed together in a drain, at least, and the pause between two slices
SLICES = 12  # at most
# Close codes (RFC 6455, section 7.4.1, and the IANA registry).
GOODBYE, POLICY, FAULT, RESTARTING = 1000, 1008, 1011, 1012


class Connections:
    """Serves WebSockets, and knows all that are open on this instance."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        writer: Writer,
        syncer: Syncer,
        checksums: Checksums,
        settings: Settings,
        profile_of: Callable[[Session, str | None], Profile | None] = lambda _session, _wanted: None,
    ) -> None:
        self.database = database
        self.hub = hub
        self.writer = writer
        self.syncer = syncer
        self.checksums = checksums
        self.settings = settings
        self.profile_of = profile_of  # of a session that has named itself; beside it what `?profile=` says
        self.draining = False
        self.open: set[Connection] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket, as an ASGI application."""
        await receive()
        if self.draining:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        connection = Connection(self, wire_of(scope, receive, send), slug_of(scope), asked_for(scope, "profile"))
        self.open.add(connection)
        try:
            await connection.run()
        finally:
            self.open.discard(connection)
            connection.ended.set_result(None)

    async def room(self, slug: str | None) -> Room:
        """The room of the restaurant with this slug (None: the default one).

        Raises UnknownRestaurant, DatabaseUnavailable.
        """
        if slug and "\0" in slug:  # PostgreSQL cannot even be asked for it
            raise UnknownRestaurant(slug)
        room = self.hub.room_of(slug or DEFAULT_SLUG)
        if room is not None:
            if time.monotonic() - room.named_at < SLUG_SECONDS:
                return room
            room.named_at = time.monotonic()  # whoever comes meanwhile need not ask too
        try:
            room = self.hub.open(*await self.database.find_restaurant(slug))
        except DatabaseUnavailable:
            if room is None:
                raise
        return room

    async def drain(self) -> None:
        """Close every terminal with 1012 and a retry delay, in slices, so that they do not all come back at once."""
        self.draining = True
        leaving = list(self.open)
        size = max(SLICE, -(-len(leaving) // SLICES))
        spread = 1.0 + len(leaving) / 500
        for start in range(0, len(leaving), size):
            delays = [random.uniform(0.2, spread) for _ in leaving]  # noqa: S311 - spreads load, keeps no secret
            part = leaving[start : start + size]
            await asyncio.gather(*(one.leave(delay) for one, delay in zip(part, delays, strict=False)))
            if start + size < len(leaving):
                await asyncio.sleep(SLICE_SECONDS)
        while self.open:
            await asyncio.wait([connection.ended for connection in self.open])

    def pay(self) -> None:
        """The database is there: bring in those that came while it was not."""
        self.syncer.pay()
        for connection in self.open:
            connection.database_is_back.set()


def slug_of(scope: Scope) -> str | None:
    """The restaurant that `?restaurant=` names; None, the default one, where it is missing or empty."""
    return asked_for(scope, "restaurant")


def asked_for(scope: Scope, name: str) -> str | None:
    """The first value of a query parameter; None where it is missing or empty."""
    values = parse_qs(scope["query_string"].decode("latin-1")).get(name)
    return values[0] if values else None


class Connection:
    """One terminal's socket."""

    def __init__(self, parts: Connections, wire: SocketWire | AsgiWire, slug: str | None, profile: str | None) -> None:
        self.session = Session(wire)
        self.ended = asyncio.get_running_loop().create_future()
        self.database_is_back = asyncio.Event()
        self._parts = parts
        self._wire = wire
        self._slug = slug
        self._wanted_profile = profile
        self._profiled = False
        self._room: Room | None = None
        self._turn = asyncio.Lock()  # one message at a time, in their order
        self._held: list[Message] = []  # said before the restaurant was known
        self._unanswered = 0
        self._relieved = asyncio.Event()
        wire.on_writable = self._flush

    async def run(self) -> None:
        """Serve until either side closes."""
        entering = asyncio.create_task(self._guarded(self._enter), name="enter")
        try:
            # A known restaurant is entered at once; one that the database must be asked for holds up no message.
            await asyncio.wait({entering}, timeout=ENTER_SECONDS)
            await self._guarded(self._read)
        finally:
            self.session.close(GOODBYE)
            if self.session.profile:
                self.session.profile.left()
            entering.cancel()
            await asyncio.wait({entering})
            self._parts.hub.leave(self.session)
            self._parts.syncer.forget(self.session)
            await self._wire.stop()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; what it raises closes the connection, with the reason."""
        try:
            await work()
        except UnknownRestaurant as error:
            self.session.close(POLICY, str(error).encode()[:REASON_BYTES].decode(errors="ignore"))
        except Exception:
            log.exception("a connection failed", extra=fields(client=self.session.client_id))
            self.session.close(FAULT, "the relay failed; its log says why")

    async def leave(self, delay: float) -> None:
        """Answer what was asked, as far as that is soon done, and close; what is still on its way here is heard."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._all_answered()
        self._let_go()
        self.session.close(RESTARTING, f"restarting; retry after {delay:.1f} s")

    async def _enter(self) -> None:
        while self._room is None:
            self.database_is_back.clear()
            try:
                room = await self._parts.room(self._slug)
            except DatabaseUnavailable:
                await self.database_is_back.wait()
            else:
                async with self._turn:
                    self._parts.hub.enter(self.session, room)
                    self._room = room
                    held, self._held = self._held, []
                    for message in held:
                        await self._hear(message)

    async def _read(self) -> None:
        while True:
            await asyncio.sleep(0)  # what was read at once may be thousands of messages, and others have their turn
            received = await self._wire.receive()
            # To the very end: a peer that sends and leaves at once has messages here behind its own close.
            if received["type"] == "websocket.disconnect":
                return
            text = received.get("text")
            if text is None:
                self._refuse(Refusal("INVALID_MESSAGE", "messages are text frames, this one is binary"), None)
                continue
            try:
                message = protocol.parse(text, self.session.profile.kinds if self.session.profile else None)
            except Refusal as refusal:
                self._refuse(refusal, refusal.ref)
                continue
            log.debug("heard", extra=fields(type=message.type, client=message.client_id, characters=len(text)))
            async with self._turn:
                await self._hear(message)
            await self._keep_pace()

    async def _hear(self, message: Message) -> None:
        try:
            await self._do(message)
        except Refusal as refusal:
            refusal.type = message.type
            self._refuse(refusal, message.id)
        except DatabaseUnavailable:
            self._refuse(Refusal("UNAVAILABLE", "the database is away; you are synced when it is back"), message.id)

    async def _keep_pace(self) -> None:
        """Read no more from a terminal that sends faster than it is answered, or reads: nothing of it is lost."""
        left, since = -1, time.monotonic()
        while self._overdrawn and not self._wire.closed:
            await self._relief()
            if self.session.waiting_bytes != left:
                left, since = self.session.waiting_bytes, time.monotonic()
            elif self.session.clogged and time.monotonic() - since > STALLED_SECONDS:
                self._wire.abort()

    @property
    def _overdrawn(self) -> bool:
        waiting = self._unanswered + len(self._held)
        return self.session.clogged or waiting >= self._parts.settings.pending_per_terminal

    async def _do(self, message: Message) -> None:
        deed = self.session.hear(message)
        if not self._profiled:
            # Its first message says who it is, for as long as the socket is open.
            self._profiled = True
            self.session.profile = self._parts.profile_of(self.session, self._wanted_profile)
        if self.session.profile:
            deed = self.session.profile.deed(message, deed)
        if isinstance(deed, Goodbye):
            await self._all_answered()
            self._let_go()
            self.session.close(GOODBYE)
        elif message.type == "HEARTBEAT":
            with suppress(DatabaseUnavailable):  # it is answered all the same
                await self._join()
            if message.data.get("response") is not True:
                self._answer_heartbeat(wants_checksum=message.data.get("checksum") is True)
        elif self._room is None:
            self._hold(message, deed)
        elif isinstance(deed, Sync):
            # A SYNC_REQUEST is answered after the mutations that were sent before it.
            await self._all_answered()
            if not self._wire.closed:
                await self._parts.syncer.answer(self.session, deed)
        elif isinstance(deed, Submit):
            with suppress(DatabaseUnavailable):  # the writer says so, or waits for it with what nobody would repeat
                await self._join()
            while deed.mutation.id is None and self._parts.writer.full:
                await self._relief()
            self._submit(deed)
        else:
            await self._join()
            self._welcome(message, self._room)

    def _answer_heartbeat(self, *, wants_checksum: bool) -> None:
        if wants_checksum and self._room is not None:
            self._parts.checksums.answer(self.session, self._room)
        else:
            self.session.heartbeat(self._room.head if self._room else 0, now_ms())

    def _hold(self, message: Message, deed: Deed) -> None:
        """Keep for when the restaurant is known what the terminal would not say again; the rest it is told."""
        if not (isinstance(deed, Submit) and message.id):
            self._held.append(message)
        if deed is None or isinstance(deed, Sync) or message.id:
            raise Refusal("UNAVAILABLE", "the database is away; try again")

    def _let_go(self) -> None:
        """Say of what is still held that it is not done, where `_hold` did not say so."""
        held, self._held = self._held, []
        for message in held:
            if not isinstance(message, (Hello, SyncRequest)):
                self._refuse(Refusal("UNAVAILABLE", "the database is away; connect again and repeat"), message.id)

    async def _join(self) -> None:
        """Send it changes from the head, from its first message on."""
        if self._room is not None:
            await self._parts.syncer.join(self.session)

    def _submit(self, deed: Submit) -> None:
        answer = self._parts.writer.submit(deed.mutation)
        self._unanswered += 1
        answer.add_done_callback(partial(self._settle, deed))
        if self.session.profile:
            self.session.profile.submitted(deed.mutation, answer)

    def _settle(self, deed: Submit, future: asyncio.Future[Answer]) -> None:
        self._unanswered -= 1
        self._relieved.set()
        error = future.exception()
        if isinstance(error, Refusal):
            metrics.MUTATIONS.labels(deed.mutation.type, error.code).inc()
            self._refuse(error, deed.mutation.id)
            return
        answer = future.result()
        metrics.MUTATIONS.labels(deed.mutation.type, answer.code).inc()
        if answer.revision is None:
            # Applied before its connection broke, and without an id its answer is not known.
            if deed.acknowledge:
                self._refuse(Refusal("BUSY", "the answer was lost; ask again"), deed.mutation.id)
            return
        self.session.seen = max(self.session.seen, answer.revision)
        if self._room is not None:
            self._room.acknowledged = max(self._room.acknowledged, answer.revision)
        if deed.acknowledge:
            details = answer.details_parsed()
            self.session.reply(
                protocol.ack(deed.mutation.id, answer.revision, answer.version, details, now_ms=now_ms())
            )

    def _refuse(self, refusal: Refusal, ref: str | None) -> None:
        metrics.REFUSALS.labels(refusal.code).inc()
        log.debug("refused", extra=fields(code=refusal.code, field=refusal.field, client=self.session.client_id))
        self.session.reply(protocol.error(refusal, ref, now_ms=now_ms()))
        if self.session.profile and refusal.type:
            self.session.profile.refused(refusal.type)

    def _welcome(self, message: Message, room: Room) -> None:
        if not isinstance(message, Hello) or message.protocol != 1:
            return
        settings = self._parts.settings
        text = protocol.welcome(
            epoch=room.epoch,
            revision=room.head,
            restaurant=room.slug,
            heartbeat_seconds=settings.heartbeat_seconds,
            max_message_bytes=settings.max_message_bytes,
            now_ms=now_ms(),
        )
        self.session.reply(text)

    async def _all_answered(self) -> None:
        while self._unanswered and not self._wire.closed:
            await self._relief()

    async def _relief(self) -> None:
        """Wait until an answer came or was read, or a moment: a socket that dies meanwhile rings no bell."""
        self._relieved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELIEF_SECONDS):
                await self._relieved.wait()

    def _flush(self) -> None:
        self.session.flush()
        self._relieved.set()
