"""Lets in who can say who they are, and closes the sessions of those who may not stay.

A token that is revoked, replaced or changed is heard of like everything else: the restaurant's doorbell rings, the
count of such changes on its head row is another one, and the tokens of its sessions are looked up anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from . import protocol
from .auth import HOW_TO_SHOW, NOBODY, NOT_KNOWN, Identity, Shown, check_restaurant, digest
from .database import Database
from .enrolments import Enrolments
from .errors import DatabaseUnavailable, Refusal, Unauthorized, UnknownRestaurant, close_reason
from .hub import Hub, Room
from .logs import fields
from .protocol import Actor, Hello
from .session import Session
from .settings import Settings

if TYPE_CHECKING:
    from .jwts import Keys

log = logging.getLogger("relay.gate")

IDENTIFY_SECONDS = 5.0  # to say who one is
AWAY_SECONDS = 20.0  # to wait for a database that cannot be asked who that is
AWAY_DELAY = 0.25  # seconds between two questions of that kind
RECHECK_SECONDS = 30 * 60.0  # between two looks at everybody, whether or not a doorbell rang
LOOK_SECONDS = 1.0  # between two looks at what is due
POLICY, COME_BACK = 1008, 1013  # close codes (RFC 6455, section 7.4.1, and the IANA registry)

FIRST = "the first message must be CLIENT_CONNECTED with a clientId and a token"
GONE = "its socket is closed by now"
SILENT = "who this is was not said in time"
CROWDED = "too many have not said who they are; come back later"
AWAY = "the database is away; come back later"
CHANGED = "the role of this terminal has changed; connect again"
EXPIRED = "the token has expired; connect again with a new one"
NOT_SIGNED = "the key that has signed this token is trusted no longer"
MOVED = "the restaurant of this token has another name now"

Hear = Callable[[], Awaitable[str | bytes | None]]  # the next message, None at the end


class Admitted(NamedTuple):
    """Whose session it is, and its first message where the token stood in that."""

    identity: Identity
    first: str | bytes | None


class Gate:
    """The way in to one relay, where authentication is on."""

    def __init__(self, database: Database, hub: Hub, settings: Settings) -> None:
        assert settings.auth != "off", "there is no gate then"
        self._database = database
        self._hub = hub
        self._most = settings.unidentified
        self._enrolments = Enrolments(database)
        self._keys = _keys(settings) if settings.auth == "jwt" else None
        self._strangers: dict[Session, None] = {}  # the oldest first
        self._inside: dict[Session, Identity] = {}
        self._doubtful: set[int] = set()  # restaurants whose tokens are to be looked up
        self._rung = asyncio.Event()
        if self._keys is None:
            hub.on_staff.append(self._changed)

    # The way in

    async def identify(self, seen: Shown) -> Identity:
        """Whom the token of a request stands for. Raises Unauthorized, DatabaseUnavailable."""
        if seen.fault:
            raise Unauthorized(seen.fault)
        if not seen.token:
            raise Unauthorized(HOW_TO_SHOW)
        identity = self._keys.identify(seen.token) if self._keys else await self._enrolments.find(digest(seen.token))
        check_restaurant(identity, seen.slug)
        return identity

    async def admit(self, session: Session, seen: Shown, hear: Hear) -> Admitted | None:
        """Find out whose session this is before anything of it counts, and set what it may do.

        None for whoever is not let in: the session is closed then, and the other side has heard of it.
        """
        first = None
        try:
            with self._among_strangers(session):
                if seen.token is None and seen.fault is None:
                    first = await self._first_message(session, hear)
                    if first is None:
                        return None
                    seen = replace(seen, token=_token_in(first))
                identity = await self._identified(session, seen)
        except Unauthorized as error:
            if not session.wire.closed:
                self._send_away(session, POLICY, close_reason(error))
            while await hear() is not None:
                pass  # nothing that it says counts, but the close must reach it before the socket ends
            return None
        session.role = identity.role
        session.actor = Actor(identity.name, identity.role, seen.address)
        self._inside[session] = identity
        room = self._hub.rooms.get(identity.restaurant_id)
        if room is not None and room.staff > identity.counted:
            self._changed(room)  # perhaps about this token, and it rang before there was a session to close
        whose = fields(restaurant=identity.slug, terminal=identity.name, address=seen.address, role=identity.role)
        log.debug("let in", extra=whose)
        return Admitted(identity, first)

    def leave(self, session: Session) -> None:
        """A session is gone."""
        self._inside.pop(session, None)

    @contextmanager
    def _among_strangers(self, session: Session) -> Iterator[None]:
        """Where too many have not said who they are, the oldest of them goes.

        Whoever has a token shows it at once, and is not the oldest by then: a crowd of silent ones keeps nobody out.
        """
        while len(self._strangers) >= self._most:
            self._send_away(next(iter(self._strangers)), COME_BACK, CROWDED)
        self._strangers[session] = None
        try:
            yield
        finally:
            self._strangers.pop(session, None)

    def _send_away(self, session: Session, code: int, reason: str) -> None:
        self._strangers.pop(session, None)
        log.info("a terminal is not let in: %s", reason, extra=fields(address=session.actor.address))
        session.close(code, reason)

    async def _first_message(self, session: Session, hear: Hear) -> str | bytes | None:
        late = asyncio.get_running_loop().call_later(IDENTIFY_SECONDS, self._send_away, session, POLICY, SILENT)
        try:
            return await hear()
        finally:
            late.cancel()

    async def _identified(self, session: Session, seen: Shown) -> Identity:
        until = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                identity = await self.identify(seen)
            except DatabaseUnavailable:
                if time.monotonic() > until:
                    self._send_away(session, COME_BACK, AWAY)
                elif not session.wire.closed:
                    await asyncio.sleep(AWAY_DELAY)
                    continue
                raise Unauthorized(GONE) from None
            # One that has closed by itself may have said something before, and that counts.
            if session not in self._strangers:
                raise Unauthorized(GONE)
            return identity

    # Those inside

    async def run(self) -> None:
        """Close the sessions of those who may not stay, until cancelled."""
        everybody_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._rung.wait()
            self._rung.clear()
            self._close_expired()
            if time.monotonic() - everybody_at > RECHECK_SECONDS:
                everybody_at = time.monotonic()
                self._doubtful.update(_place(session, identity) for session, identity in self._inside.items())
            try:
                await self._look_again()
            except DatabaseUnavailable:
                continue  # nobody can be asked; they stay until somebody can

    def _changed(self, room: Room) -> None:
        self._doubtful.add(room.restaurant_id)
        self._rung.set()

    def _close_expired(self) -> None:
        now = time.time()
        for session, identity in list(self._inside.items()):
            if identity.expires is not None and identity.expires < now:
                self._shut_out(session, EXPIRED)

    async def _look_again(self) -> None:
        """Look up the tokens of all who are in doubt. Raises DatabaseUnavailable; they are in doubt still."""
        # No doorbell is heard for a room whose head was never read: none of its terminals has said anything yet.
        silent = {i for i, room in self._hub.rooms.items() if room.window is None} if self._keys is None else set()
        doubtful, self._doubtful = self._doubtful, set()
        asked = {s: i for s, i in self._inside.items() if _place(s, i) in doubtful | silent}
        if not asked:
            return
        try:
            reasons = await (self._unsigned(asked) if self._keys else self._unknown(asked))
        except DatabaseUnavailable:
            self._doubtful |= doubtful
            raise
        for session, reason in reasons.items():
            self._shut_out(session, reason)

    async def _unknown(self, asked: Mapping[Session, Identity]) -> dict[Session, str]:
        """Of those with an enrolled token, whoever may not stay, and why."""
        roles = await self._enrolments.standing({identity.restaurant_id for identity in asked.values()})
        found = {session: roles.get((identity.restaurant_id, identity.mark)) for session, identity in asked.items()}
        return {
            session: NOT_KNOWN if role is None else CHANGED
            for session, role in found.items()
            if role != asked[session].role
        }

    async def _unsigned(self, asked: Mapping[Session, Identity]) -> dict[Session, str]:
        """Of those with a signed token, whoever may not stay, and why."""
        assert self._keys is not None
        places: dict[str, int] = {}
        for slug in {identity.slug for identity in asked.values()}:
            with suppress(UnknownRestaurant):
                places[slug], _ = await self._database.find_restaurant(slug)
        reasons = {}
        for session, identity in asked.items():
            if not self._keys.knows(identity.mark):
                reasons[session] = NOT_SIGNED
            elif places.get(identity.slug) != session.restaurant_id:
                reasons[session] = MOVED
        return reasons

    def _shut_out(self, session: Session, reason: str) -> None:
        identity = self._inside.pop(session, None)
        if identity is None:
            return  # it left while this was looked up
        whose = fields(restaurant=identity.slug, terminal=identity.name, address=session.actor.address)
        log.info("a terminal is shut out: %s", reason, extra=whose)
        session.role = NOBODY  # what it has sent and is not read yet counts no more
        session.close(POLICY, reason)


def _keys(settings: Settings) -> Keys:
    from .jwts import Keys  # only here: what verifies a signature is a fifth of all that a relay imports

    return Keys(settings.jwt_key, settings.jwt_audience)


def _place(session: Session, identity: Identity) -> int:
    """The restaurant: an enrolled token names it; whoever has a signed one is there when the session is in its room."""
    return identity.restaurant_id or session.restaurant_id


def _token_in(message: str | bytes) -> str | None:
    """The token in a socket's first message. Raises Unauthorized where that cannot have one."""
    with suppress(Refusal):
        if isinstance(message, str) and isinstance(hello := protocol.parse(message), Hello):
            return hello.token
    raise Unauthorized(FIRST)
