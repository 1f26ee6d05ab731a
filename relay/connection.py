"""Carries one terminal's messages between its socket and the parts: session, writer, syncer."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from functools import partial
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from . import protocol
from .database import Answer, Database
from .errors import DatabaseUnavailable, Refusal, UnknownRestaurant
from .hub import Hub, Room
from .logs import fields
from .protocol import Hello, Message
from .session import Goodbye, Session, Submit, Sync
from .settings import Settings
from .syncer import Syncer, now_ms
from .wire import AsgiWire, SocketWire, wire_of
from .writer import Writer

log = logging.getLogger("relay.connection")

DEFAULT_SLUG = "default"
ENTER_SECONDS = 2.5  # to find the restaurant before the first message is read

RELIEF_SECONDS = 1.0
SLICE, SLICE_SECONDS = 50, 0.25  # terminals closed together in a drain, at least, and the pause between two slices
SLICES = 12  # at most
GOODBYE, POLICY, RESTARTING = 1000, 1008, 1012  # close codes (RFC 6455, section 7.4.1, and the IANA registry)


class Connections:
    """Serves WebSockets, and knows all that are open on this instance."""

    def __init__(self, database: Database, hub: Hub, writer: Writer, syncer: Syncer, settings: Settings) -> None:
        self.database = database
        self.hub = hub
        self.writer = writer
        self.syncer = syncer
        self.settings = settings
        self.draining = False
        self.open: set[Connection] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket, as an ASGI application."""
        await receive()
        if self.draining:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        connection = Connection(self, wire_of(scope, receive, send), _slug(scope))
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
        room = self.hub.room_of(slug or DEFAULT_SLUG)
        return room or self.hub.open(*await self.database.find_restaurant(slug))

    async def drain(self) -> None:
        """Close every terminal with 1012 and a retry delay, in slices, so that they do not all come back at once."""
        self.draining = True
        leaving = list(self.open)
        size = max(SLICE, -(-len(leaving) // SLICES))
        spread = 1.0 + len(leaving) / 500
        for start in range(0, len(leaving), size):
            for connection in leaving[start : start + size]:
                delay = random.uniform(0.2, spread)  # noqa: S311 - spreads load, keeps no secret
                connection.session.close(RESTARTING, f"restarting; retry after {delay:.1f} s")
            if start + size < len(leaving):
                await asyncio.sleep(SLICE_SECONDS)
        while self.open:
            await asyncio.wait([connection.ended for connection in self.open])

    def pay(self) -> None:
        """The database is there: bring in those that came while it was not."""
        self.syncer.pay()
        for connection in self.open:
            connection.database_is_back.set()


def _slug(scope: Scope) -> str | None:
    values = parse_qs(scope["query_string"].decode("latin-1")).get("restaurant")
    return values[0] if values else None


class Connection:
    """One terminal's socket."""

    def __init__(self, parts: Connections, wire: SocketWire | AsgiWire, slug: str | None) -> None:
        self.session = Session(wire)
        self.ended = asyncio.get_running_loop().create_future()
        self.database_is_back = asyncio.Event()
        self._parts = parts
        self._wire = wire
        self._slug = slug
        self._room: Room | None = None
        self._wanted: Sync | None = None  # asked for before the restaurant was known
        self._unanswered = 0
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Serve until either side closes."""
        entering = asyncio.create_task(self._enter(), name="enter")
        try:
            # A known restaurant is entered at once; one that the database must be asked for holds up no message.
            await asyncio.wait({entering}, timeout=ENTER_SECONDS)
            await self._read()
        finally:
            entering.cancel()
            self._parts.hub.leave(self.session)
            self._parts.syncer.forget(self.session)
            self.session.close(GOODBYE)
            await self._wire.stop()

    async def _enter(self) -> None:
        while self._room is None:
            self.database_is_back.clear()
            try:
                room = await self._parts.room(self._slug)
            except UnknownRestaurant as error:
                self.session.close(POLICY, str(error)[:120])
                return
            except DatabaseUnavailable:
                await self.database_is_back.wait()
            else:
                self._parts.hub.enter(self.session, room)
                self._room = room
        with suppress(DatabaseUnavailable):
            if self._wanted is not None:
                await self._parts.syncer.answer(self.session, self._wanted)

    async def _read(self) -> None:
        while not self._wire.closed:
            received = await self._wire.receive()
            if received["type"] == "websocket.disconnect":
                return
            text = received.get("text")
            if text is None:
                self._refuse(Refusal("INVALID_MESSAGE", "messages are text frames, this one is binary"), None)
                continue
            try:
                message = protocol.parse(text)
            except Refusal as refusal:
                self._refuse(refusal, refusal.ref)
                continue
            log.debug("heard", extra=fields(type=message.type, client=message.client_id, characters=len(text)))
            try:
                await self._do(message)
            except Refusal as refusal:
                self._refuse(refusal, message.id)
            except DatabaseUnavailable:
                self._refuse(Refusal("UNAVAILABLE", "the database is away; you are synced when it is back"), message.id)
            # A terminal that sends faster than it is answered, or reads, is not read from: nothing of it is lost.
            while self._overdrawn and not self._wire.closed:
                await self._relief()

    @property
    def _overdrawn(self) -> bool:
        return self.session.clogged or self._unanswered >= self._parts.settings.pending_per_terminal

    async def _do(self, message: Message) -> None:
        if message.type == "HEARTBEAT":
            if message.data.get("response") is not True:
                self.session.heartbeat(self._room.head if self._room else 0, now_ms())
            return
        deed = self.session.hear(message)
        if isinstance(deed, Goodbye):
            await self._all_answered()
            self.session.close(GOODBYE)
            return
        if self._room is None:
            self._wanted = deed if isinstance(deed, Sync) else self._wanted
            raise Refusal("UNAVAILABLE", "the database is away; try again")
        if isinstance(deed, Sync):
            # A SYNC_REQUEST is answered after the mutations that were sent before it.
            await self._all_answered()
            await self._parts.syncer.answer(self.session, deed)
            return
        try:
            await self._parts.syncer.join(self.session)
        except DatabaseUnavailable:
            if not isinstance(deed, Submit):
                raise
        if isinstance(deed, Submit):
            self._submit(deed)
        elif isinstance(message, Hello) and message.protocol == 1:
            self._welcome()

    def _submit(self, deed: Submit) -> None:
        answer = self._parts.writer.submit(deed.mutation)
        self._unanswered += 1
        answer.add_done_callback(partial(self._settle, deed))

    def _settle(self, deed: Submit, future: asyncio.Future[Answer]) -> None:
        self._unanswered -= 1
        self._answered.set()
        error = future.exception()
        if isinstance(error, Refusal):
            self._refuse(error, deed.mutation.id)
            return
        answer = future.result()
        if answer.revision is None:
            # Applied before its connection broke, and without an id its answer is not known.
            if deed.acknowledge:
                self._refuse(Refusal("BUSY", "the answer was lost; ask again"), deed.mutation.id)
            return
        self.session.seen = max(self.session.seen, answer.revision)
        if deed.acknowledge:
            details = answer.details_parsed()
            self.session.reply(
                protocol.ack(deed.mutation.id, answer.revision, answer.version, details, now_ms=now_ms())
            )

    def _refuse(self, refusal: Refusal, ref: str | None) -> None:
        log.debug("refused", extra=fields(code=refusal.code, field=refusal.field, client=self.session.client_id))
        self.session.reply(protocol.error(refusal, ref, now_ms=now_ms()))

    def _welcome(self) -> None:
        assert self._room is not None
        settings = self._parts.settings
        text = protocol.welcome(
            epoch=self._room.epoch,
            revision=self._room.head,
            restaurant=self._room.slug,
            heartbeat_seconds=settings.heartbeat_seconds,
            max_message_bytes=settings.max_message_bytes,
            now_ms=now_ms(),
        )
        self.session.reply(text)

    async def _all_answered(self) -> None:
        while self._unanswered and not self._wire.closed:
            await self._relief()

    async def _relief(self) -> None:
        """Wait for an answer, or a moment: a socket that dies meanwhile rings no bell."""
        self._answered.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELIEF_SECONDS):
                await self._answered.wait()
