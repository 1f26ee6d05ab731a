"""The only module that names SQL functions: what each takes and returns."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from .answers import Answer
from .doorbells import Doorbells
from .errors import BatchFailed, DatabaseUnavailable, LockedOut, NotAllowed, OnlyStandby, UnknownRestaurant
from .exchange import Asked, array
from .logrows import Head, LogRead, read_of
from .logs import fields
from .pools import BeforeRefused, Committed, Pool, listening
from .protocol import Mutation
from .settings import Settings
from .unreadable import Unreadable, is_lasting, refuses_all

log = logging.getLogger("relay.database")

DOORBELL = "pos_doorbell"
PROOF = "pos_proof"
ROLL_CALL = "pos_roll_call"

READ_SECONDS = 20.0  # a snapshot of 2,000 photographed dishes on a busy server included
LIVE_SECONDS = 10.0  # the reader's reads, 64 MiB of changes at most
QUICK_SECONDS = 3.0  # what reads a few rows
COMMIT_SECONDS = 5.0  # beyond what the statement may take
CLOSE_SECONDS = 0.5  # for attempts to connect that are under way
STALE_SECONDS = 1.0  # a connection that fails sooner was dead before it was used
WRITERS = 2  # connections: one for batches, one for restaurants that are held up
LIVE = 3  # connections to read what changes, to sweep and to prove: no snapshot keeps them waiting

APPLY: LiteralString = """
    select code, message, field, revision, version, details::text
    from pos.apply(%s, %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s,
                   %s::text[])"""
APPLY_TRACED: LiteralString = APPLY.removesuffix(")") + ", %s::text[])"

CHANGES: LiteralString = """
    select epoch, restaurant_id, head, messages, staff,
           revision, type, action, row_id, data, client_id, milliseconds
    from pos.read_changes(%s, %s, %s, %s)"""

PRUNED = ("mutations", "tombstones", "messages", "batches", "claims", "replacements", "counters")

# What says that a statement gave way to another transaction.
GIVEN_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


class Heads(NamedTuple):
    """The epoch, and each restaurant's head."""

    epoch: str
    by_restaurant: dict[int, Head]


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message on its way, its body as JSON text; `profile` says for which kind of terminal, None for all."""

    restaurant_id: int
    number: int
    type: str
    profile: str | None
    client_id: str
    to_client_id: str | None
    data: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class State:
    """A restaurant's state at one revision, each part as JSON text."""

    epoch: str
    revision: int
    tables: str
    menu_items: str
    categories: str
    settings: str
    orders: str
    complete: bool = False  # whether the database holds all of the restaurant's lists
    cleared_revision: int = 0  # of the last UPDATE_ORDER clear


@dataclass(frozen=True, slots=True)
class Checklist:
    """What a terminal must show at one revision, a line for each row (pos.checklist)."""

    epoch: str
    revision: int
    lines: list[str]


class Applied(NamedTuple):
    """What became of a batch that is committed."""

    answers: list[Answer]  # one for each mutation, in their order
    noted: bool  # whether the note was made
    at: float  # time.time() when it was committed
    read: LogRead | None = None  # right behind the commit, where that was asked for and did not fail


class Database:
    """The relay's PostgreSQL. Every method raises DatabaseUnavailable when it cannot be reached in time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reads = Pool(settings.conninfo, "read", settings.pool, READ_SECONDS)
        self._live = Pool(settings.conninfo, "live", LIVE, LIVE_SECONDS)
        self._writes = Pool(
            settings.conninfo, "write", WRITERS, settings.statement_ms / 1000, lock_seconds=settings.lock_ms / 1000
        )
        self._pools = {"read": self._reads, "live": self._live, "write": self._writes}
        self.unreadable = Unreadable()
        self.doorbells = Doorbells()
        self._note_fails = False  # and that was said

    async def open(self) -> None:
        """Make the pools ready; nothing is connected yet."""
        for one in self._pools.values():
            await one.open()

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(one.close(CLOSE_SECONDS) for one in self._pools.values()))

    def pool_stats(self) -> dict[str, dict[str, int]]:
        """What each pool says of itself, as in Pool.stats, by name."""
        return {name: one.stats() for name, one in self._pools.items()}

    def listening(self) -> AbstractAsyncContextManager[AsyncConnection[TupleRow]]:
        """A connection of the listener's own, never a pool's, that already listens to all our channels."""
        own = self._settings.listen_conninfo != self._settings.conninfo
        variable = "LISTEN_DATABASE_URL" if own else "DATABASE_URL"
        return listening(self._settings.listen_conninfo, variable, DOORBELL, PROOF, ROLL_CALL)

    async def find_restaurant(self, slug: str | None) -> tuple[int, str]:
        """The restaurant with this slug (None: the default one) and its slug. Raises UnknownRestaurant."""
        rows = await self.read("select restaurant_id, slug from pos.find_restaurant(%s)", (slug,), QUICK_SECONDS)
        if not rows:
            raise UnknownRestaurant(slug or "default")
        restaurant_id, found = rows[0]
        return restaurant_id, found

    async def read_heads(self, restaurant_ids: Sequence[int], *, live: bool = False) -> Heads:
        """The epoch and the heads; a restaurant that is not there is left out. `live`: see LIVE."""
        rows = await self.read(
            "select epoch, restaurant_id, revision, messages, staff from pos.read_heads(%s)",
            (list(restaurant_ids),),
            QUICK_SECONDS,
            live=live,
        )
        return Heads(rows[0][0], {row[1]: Head(*row[2:]) for row in rows if row[1] is not None})

    async def read_changes(self, cursors: Mapping[int, int], *, rows: int, size: int, live: bool = False) -> LogRead:
        """What follows each restaurant's cursor: of each at most `rows` and about `size` bytes. `live`: see LIVE."""
        return read_of(await self.read(*changes_asked(cursors, rows, size), LIVE_SECONDS, live=live))

    async def read_messages(self, numbers: Mapping[int, int]) -> list[MessageRow]:
        """The messages of each restaurant after a number, at most a minute old."""
        rows = await self.read(
            """select restaurant_id, number, type, profile, client_id, to_client_id, data, milliseconds
               from pos.read_messages(%s, %s)""",
            (list(numbers), list(numbers.values())),
            LIVE_SECONDS,
            live=True,
        )
        return [MessageRow(*row) for row in rows]

    async def snapshot(self, restaurant_id: int, orders: int) -> State:
        """A restaurant's state at one revision, with its `orders` newest orders. Raises UnknownRestaurant."""
        rows = await self.read(
            """select epoch, revision, tables, menu_items, categories, settings, orders, complete, cleared_revision
               from pos.snapshot(%s, %s)""",
            (restaurant_id, orders),
        )
        if not rows:
            raise UnknownRestaurant(str(restaurant_id))
        if rows[0][0] is None:
            raise OnlyStandby("DATABASE_URL")  # a pooler has led there
        return State(*rows[0])

    async def checklist(self, restaurant_id: int, orders: int) -> Checklist:
        """What a restaurant's terminals must show, of its orders the newest. Raises UnknownRestaurant."""
        rows = await self.read(
            "select epoch, revision, lines from pos.checklist(%s, %s)", (restaurant_id, orders), QUICK_SECONDS
        )
        if not rows:
            raise UnknownRestaurant(str(restaurant_id))
        return Checklist(*rows[0])

    async def read_orders(self, restaurant_id: int, before: int, rows: int) -> list[tuple[int, str]]:
        """Revision and JSON text of the orders last changed before a revision, newest first."""
        return await self.read("select revision, data from pos.read_orders(%s, %s, %s)", (restaurant_id, before, rows))

    async def queue_usage(self) -> float:
        """How full the notification queue is, 0 to 1.

        A queue that was full stays full until somebody asks (PostgreSQL's async.c moves its tail only then).
        """
        rows = await self.read("select pg_notification_queue_usage()", (), QUICK_SECONDS, live=True)
        return float(rows[0][0])

    async def prove(self, instance_id: str) -> None:
        """Ring this instance's own bell."""
        await self.read("select pos.prove(%s)", (instance_id,), QUICK_SECONDS, live=True)

    async def prune(self, keep_days: int, rows: int) -> dict[str, int]:
        """Let go of at most `rows` rows each of what is old; how many went, by kind."""
        found = await self.read(
            "select mutations, tombstones, messages, batches, claims, replacements, counters from pos.prune(%s, %s)",
            (timedelta(days=keep_days), rows),
        )
        return dict(zip(PRUNED, found[0], strict=True))

    async def apply(
        self,
        batch_id: uuid.UUID,
        mutations: Sequence[Mutation],
        *,
        isolate: bool,
        note: Asked | None = None,
        traceparents: Sequence[str | None] | None = None,
        then: Asked | None = None,
    ) -> Applied:
        """Apply a batch in one transaction.

        `note` is a statement of the same transaction, made first, that no mutation fails by. `traceparents` are kept
        with the changes, one for each mutation. With `isolate` every mutation has a block of its own, so that one that
        fails leaves the others alone. `then` is a read of changes (`changes_asked`) for when it is committed. Raises
        LockedOut and BatchFailed, nothing applied (a single mutation is answered instead of the latter); and
        DatabaseUnavailable, where it is not known whether the batch was committed if it was `sent`: the same `batch_id`
        may be given again and finds out.
        """
        asked: Asked = (
            APPLY if traceparents is None else APPLY_TRACED,
            (
                batch_id,
                array(m.restaurant_id for m in mutations),
                array(m.client_id for m in mutations),
                array(m.id for m in mutations),
                array(m.type for m in mutations),
                array(m.action for m in mutations),
                array(m.body for m in mutations),
                array(m.if_version for m in mutations),
                isolate,
                array(m.role for m in mutations),
                *([] if traceparents is None else [array(traceparents)]),
            ),
        )
        async with self._writes.connection() as connection:
            try:
                with self.doorbells.ring(connection.info.backend_pid, {m.restaurant_id for m in mutations}):
                    done, noted = await self._noting(connection, asked, note, then)
                read = read_of(done.behind) if done.behind is not None else None
                return Applied([Answer(*row) for row in done.rows], noted, done.at, read)
            except psycopg.Error as error:
                if connection.closed:
                    raise  # perhaps after the commit
                if isinstance(error, GIVEN_WAY):
                    raise LockedOut from error
                if refuses_all(error):
                    raise DatabaseUnavailable(str(error), sent=False) from error
                if len(mutations) > 1:
                    raise BatchFailed from error
                message, constraint = error.diag.message_primary, error.diag.constraint_name
                answer = Answer(f"SQLSTATE {error.sqlstate}", message, constraint, None, None, None)
                return Applied([answer], noted=False, at=time.time())

    async def close_batch(self, batch_id: uuid.UUID) -> bool:
        """Whether nothing of a batch was applied; then nothing ever will be under this id.

        Raises DatabaseUnavailable, also as long as an attempt at it is under way.
        """
        async with self._writes.connection() as connection:
            query: LiteralString = "select pos.close_batch(%s)"
            try:
                [(closed,)] = await self._writes.fetch(connection, query, (batch_id,), QUICK_SECONDS)
            except psycopg.Error as error:
                raise DatabaseUnavailable(str(error)) from error  # whatever it is: nothing is certain then
            return bool(closed)

    async def _noting(
        self, connection: AsyncConnection[TupleRow], asked: Asked, note: Asked | None, then: Asked | None
    ) -> tuple[Committed, bool]:
        """What is asked, in one transaction with the note if it can be made; and whether it was."""
        seconds = self._settings.statement_ms / 1000 + COMMIT_SECONDS
        try:
            done = await self._writes.commit(connection, asked, seconds, before=note, behind=then)
        except BeforeRefused as error:
            self._say_not_noted(error.__cause__)
            return await self._writes.commit(connection, asked, seconds, behind=then), False
        if note is not None:
            self._note_fails = False
        return done, note is not None

    def _say_not_noted(self, cause: BaseException | None) -> None:
        # One that gives way is made with a later batch; one that fails otherwise does so with every batch.
        if isinstance(cause, GIVEN_WAY):
            log.debug("who changes things is noted later: it gave way", extra=fields(error=cause))
        elif not self._note_fails:
            log.error("it could not be noted who changes things", exc_info=cause)
            self._note_fails = True

    async def read(
        self, query: LiteralString, parameters: Sequence[object], seconds: float = READ_SECONDS, *, live: bool = False
    ) -> list[Any]:
        """The rows of a query within `seconds`; `live`: see LIVE. What is refused for good is unavailable too."""
        try:
            rows = await self._read(query, parameters, seconds, self._live if live else self._reads)
        except DatabaseUnavailable as error:
            self.unreadable.note((query, parameters), error.__cause__)
            raise
        except NotAllowed as error:
            self.unreadable.note((query, parameters), error.__cause__)
            raise DatabaseUnavailable(str(error)) from error.__cause__
        except psycopg.Error as error:
            if not is_lasting(error):
                raise
            self.unreadable.note((query, parameters), error)
            raise DatabaseUnavailable(error.diag.message_primary or str(error)) from error
        self.unreadable.answered((query, parameters))
        return rows

    @staticmethod
    async def _read(query: LiteralString, parameters: Sequence[object], seconds: float, chosen: Pool) -> list[Any]:
        started = time.monotonic()
        for _ in range(chosen.size):
            try:
                return await _fetch(chosen, seconds, query, parameters)
            except DatabaseUnavailable as error:
                # After a restart of PostgreSQL every pooled connection is dead, and only its use finds out.
                if not error.sent or is_lasting(error.__cause__) or time.monotonic() - started > STALE_SECONDS:
                    raise
        return await _fetch(chosen, seconds, query, parameters)


async def _fetch(chosen: Pool, seconds: float, query: LiteralString, parameters: Sequence[object]) -> list[Any]:
    async with chosen.connection() as connection:
        try:
            return await chosen.fetch(connection, query, parameters, seconds)
        except psycopg.errors.InsufficientPrivilege as error:
            raise NotAllowed(connection.info.user, error.diag.message_primary or str(error)) from error


def changes_asked(cursors: Mapping[int, int], rows: int, size: int) -> Asked:
    """A read of what follows each restaurant's cursor: of each at most `rows` and about `size` bytes."""
    return CHANGES, (array(cursors), array(cursors.values()), rows, size)
