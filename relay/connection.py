"""Carries one terminal's messages between its socket and the parts: session, writer, syncer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from . import cards, metrics, protocol
from .answers import Answer
from .asgi import AsgiWire
from .auth import Shown
from .errors import ComeBack, DatabaseUnavailable, Refusal, UnknownRestaurant, close_reason
from .gate import Admitted, Gate
from .hub import Room
from .logs import fields
from .parts import Parts
from .protocol import Actor, Hello, Message, SyncRequest
from .session import Deed, Goodbye, Session, Submit, Sync
from .slugs import DEFAULT_SLUG
from .syncer import now_ms
from .wire import SocketWire

log = logging.getLogger("relay.connection")

ENTER_SECONDS = 2.5  # to find the restaurant before the first message is read
RELIEF_SECONDS = 1.0
LEAVE_SECONDS = 1.0  # in a drain, for the answers that are still due
STALLED_SECONDS = 60.0  # without reading a byte of its answers, and a terminal is cut off
# Close codes (RFC 6455, section 7.4.1, and the IANA registry).
GOODBYE, POLICY, FAULT, RESTARTING, COME_BACK = 1000, 1008, 1011, 1012, 1013


class Connection:
    """One terminal's socket. A task works while it says something; in silence nothing is held but what is here."""

    __slots__ = (
        "__weakref__", "_entering", "_excess", "_held", "_known_as", "_over", "_parts", "_profiled", "_relieved",
        "_room", "_slug", "_task", "_turn", "_unanswered", "_wanted_profile", "_wire", "busy_until", "refused_until",
        "session",
    )  # fmt: skip

    def __init__(self, parts: Parts, wire: SocketWire | AsgiWire, profile: str | None) -> None:
        self.session = Session(wire)
        self._parts = parts
        self._wire = wire
        self._slug: str | None = None
        self._wanted_profile = profile
        self._profiled = False
        self._known_as: int | None = None  # to the admission
        self._excess: ComeBack | None = None  # why it is one too many
        self.busy_until = self.refused_until = 0.0  # see rates.Speaker
        self._room: Room | None = None
        self._entering: asyncio.Task[bool] | None = None  # until the restaurant is known
        self._turn: asyncio.Lock | None = None  # one message at a time, in their order, where two tasks hear them
        self._held: tuple[Message, ...] = ()  # said before the restaurant was known
        self._unanswered = 0
        self._relieved: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False
        wire.on_writable = self._flush

    def begin(self, seen: Shown) -> None:
        """Enter the restaurant, once it is known who this is, and hear the terminal until either side closes."""
        self.session.actor = Actor(address=seen.address)
        if self._parts.gate is None:
            self._go_in(seen.slug, self._parts.slugs.known(seen.slug))
        else:
            self._task = asyncio.create_task(self._introduce(self._parts.gate, seen), name="stranger")

    async def _introduce(self, gate: Gate, seen: Shown) -> None:
        admitted: list[Admitted | None] = []

        async def ask() -> None:
            admitted.append(await gate.admit(self.session, seen, self._next))

        await self._guarded(ask)
        if not admitted or admitted[0] is None:
            await self._end()
            return
        identity, first = admitted[0]
        self._go_in(identity.slug, self._parts.room_of(identity))
        await self._work(first)

    async def _next(self) -> str | bytes | None:
        """The next message, None at the end: for the gate, before anything of it counts."""
        said = asyncio.Event()
        self._wire.listen(said.set)
        while (text := self._wire.pull()) is None and not self._wire.ended:
            said.clear()
            await said.wait()
        return text

    def _go_in(self, slug: str | None, room: Room | None) -> None:
        self._slug = slug
        if room is not None and self._parts.admission.has_room(len(room.sessions)):
            self._parts.hub.enter(self.session, room)
            self._room = room
        else:
            self._turn = asyncio.Lock()
            self._entering = asyncio.create_task(self._guarded(self._enter), name="enter")
        self._wire.listen(self._heard)

    def _heard(self) -> None:
        if self._task is None and not self._over:
            self._task = asyncio.create_task(self._work(), name="connection")

    async def _work(self, first: str | bytes | None = None) -> None:
        goes_on = False
        try:
            if self._entering is not None and self._room is None:
                # One that the database must be asked for holds up no message for longer.
                left = self.session.since + ENTER_SECONDS - time.monotonic()
                await asyncio.wait({self._entering}, timeout=max(0.0, left))
            goes_on = await self._guarded(partial(self._pull, first)) and not self._wire.ended
        finally:
            if goes_on:
                self._task = None  # nothing was awaited since there was no message
            else:
                await self._end()

    async def _end(self) -> None:
        self._over = True
        self.session.close(GOODBYE)
        if self._entering is not None:
            # What nobody would repeat is done all the same, once the database is there.
            if all(isinstance(message, (Hello, SyncRequest)) for message in self._held):
                self._entering.cancel()
            await asyncio.wait({self._entering})
        if self.session.profile:
            self.session.profile.left()
        if self._parts.gate is not None:
            self._parts.gate.leave(self.session)
        if self._known_as is not None:
            self._parts.admission.forget(self._known_as)
        self._parts.hub.leave(self.session)
        self._parts.syncer.forget(self.session)
        self._wire.dismiss()
        self._parts.close(self)

    async def heard_out(self) -> None:
        """Wait for the end, once the wire has ended."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it; what it raises closes the connection, with the reason."""
        try:
            await work()
        except (UnknownRestaurant, ComeBack) as error:
            self.session.close(COME_BACK if isinstance(error, ComeBack) else POLICY, close_reason(error))
        except Exception:
            log.exception("a connection failed", extra=fields(client=self.session.client_id))
            self.session.close(FAULT, "the relay failed; its log says why")
        else:
            return True
        return False

    async def leave(self, delay: float, why: str = "restarting") -> None:
        """Answer what was asked, as far as that is soon done, and close; what is still on its way here is heard."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._all_answered()
        self._let_go()
        if self._over and self._entering is not None:
            self._entering.cancel()
        self.session.close(RESTARTING, f"{why}; retry after {delay:.1f} s")

    async def _enter(self) -> None:
        assert self._turn is not None
        while self._room is None:
            back = self._parts.back
            try:
                room = await self._parts.slugs.room(self._slug)
            except DatabaseUnavailable:
                await back.wait()
            else:
                async with self._turn:
                    # What has said something already would lose it.
                    if not self._held and not self._parts.admission.has_room(len(room.sessions)):
                        raise ComeBack(*self._parts.admission.turn_away(self._slug, time.monotonic()))
                    self._parts.hub.enter(self.session, room)
                    self._room = room
                    held, self._held = self._held, ()
                    for message in held:
                        await self._hear(message)
                    if self._excess is not None:
                        raise self._excess

    async def _pull(self, text: str | bytes | None) -> None:
        """Hear what there is to be heard; of a message that is pulled already, that first."""
        # To the very end: a peer that sends and leaves at once has messages here behind its own close.
        while text is not None or (text := self._wire.pull()) is not None:
            await self._take(text)
            text = None
            if self._wire.has_message:
                await asyncio.sleep(0)  # what was read at once may be thousands of messages, and others have their turn

    async def _take(self, text: str | bytes) -> None:
        while wait := self._parts.rates.take(self, self._room, text, time.monotonic()):
            # What gives no id would not be sent again, and neither is anything by the app, which knows no ERROR and
            # says with its first message that it is one: they are read more slowly instead.
            if self._profiled and self.session.profile is None and not protocol.would_be_lost(text):
                who, where = self.session, self._slug or DEFAULT_SLUG
                speaker = fields(restaurant=where, client=who.client_id, address=who.actor.address)
                refusal = self._parts.rates.refuse(self, text, wait, time.monotonic(), speaker)
                self._refuse(refusal, protocol.ref_of(text))
                return
            # At an end what was sent is little, and must not hold that up. (One too many could make it much.)
            if self._wire.closed and self._excess is None:
                break
            metrics.LIMITED.labels("held").inc()
            await asyncio.sleep(min(wait, RELIEF_SECONDS))
        if isinstance(text, bytes):
            self._refuse(Refusal("INVALID_MESSAGE", "messages are text frames, this one is binary"), None)
            return
        try:
            message = protocol.parse(text, self.session.profile.kinds if self.session.profile else None)
        except Refusal as refusal:
            self._refuse(refusal, refusal.ref)
            return
        if self._parts.settings.card_warning:
            cards.warn(message, self._slug)
        log.debug("heard", extra=fields(type=message.type, client=message.client_id, characters=len(text)))
        if self._turn is None:
            await self._hear(message)
        else:
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
            self._be_counted()
            self.session.profile = self._parts.profile_of(self.session, self._wanted_profile)
        if self.session.profile:
            deed = self.session.profile.deed(message, deed)
        if isinstance(deed, Goodbye):
            await self._all_answered()
            if not self.session.profile:  # the app knows no ERROR: for it this is done when the database is there
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

    def _be_counted(self) -> None:
        """Tell the admission whose connection this is. One too many is closed, and what it has sent is heard."""
        said = self._slug, self.session.actor.terminal, self.session.client_id
        try:
            self._known_as = self._parts.admission.introduce(*said, time.monotonic())
        except ComeBack as error:
            # The app sends behind its first message what it has kept, without ids, and forgets it.
            self._excess = error
            if self._room is not None:
                self.session.close(COME_BACK, close_reason(error))

    def _answer_heartbeat(self, *, wants_checksum: bool) -> None:
        if wants_checksum and self._room is not None:
            self._parts.checksums.answer(self.session, self._room)
        else:
            self.session.heartbeat(self._room.head if self._room else 0, now_ms())

    def _hold(self, message: Message, deed: Deed) -> None:
        """Keep for when the restaurant is known what the terminal would not say again; the rest it is told."""
        if not (isinstance(deed, Submit) and message.id):
            self._held += (message,)
        if deed is None or isinstance(deed, Sync) or message.id:
            raise Refusal("UNAVAILABLE", "the database is away; try again")

    def _let_go(self) -> None:
        """Say of what is still held that it is not done, where `_hold` did not say so."""
        held, self._held = self._held, ()
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
        self._relieve()
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
            details, id_ = answer.details_parsed(), deed.mutation.id
            self.session.reply(protocol.ack(id_, answer.revision, answer.version, details, now_ms=now_ms()))

    def _refuse(self, refusal: Refusal, ref: str | None) -> None:
        metrics.REFUSALS.labels(refusal.code).inc()
        log.debug("refused", extra=fields(code=refusal.code, field=refusal.field, client=self.session.client_id))
        self.session.reply(protocol.error(refusal, ref, now_ms=now_ms()))
        if self.session.profile and refusal.type:
            self.session.profile.refused(refusal.type)

    def _welcome(self, message: Message, room: Room) -> None:
        if not isinstance(message, Hello) or message.protocol != 1:
            return
        text = protocol.welcome(
            epoch=room.epoch,
            revision=room.head,
            restaurant=room.slug,
            role=None if self.session.profile else self.session.role,  # the app is served as it always was
            heartbeat_seconds=self._parts.settings.heartbeat_seconds,
            max_message_bytes=self._parts.settings.max_message_bytes,
            now_ms=now_ms(),
        )
        self.session.reply(text)

    async def _all_answered(self) -> None:
        while self._unanswered and not self._wire.closed:
            await self._relief()

    async def _relief(self) -> None:
        """Wait until an answer came or was read, or a moment: a socket that dies meanwhile rings no bell."""
        if self._relieved is None:
            self._relieved = asyncio.Event()
        self._relieved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELIEF_SECONDS):
                await self._relieved.wait()

    def _relieve(self) -> None:
        if self._relieved is not None:
            self._relieved.set()

    def _flush(self) -> None:
        self.session.flush()
        self._relieve()
