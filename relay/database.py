"""The only module that names SQL functions: connections to PostgreSQL, and what each function takes and returns."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from .errors import Code, DatabaseUnavailable, Refusal, UnknownRestaurant
from .protocol import Mutation
from .settings import Settings

log = logging.getLogger("relay.database")

DOORBELL = "pos_doorbell"
PROOF = "pos_proof"

CONNECT_SECONDS = 3  # libpq's connect_timeout, per host; whole seconds, at least 2
POOL_SECONDS = 2.0  # to wait for a connection before the database counts as away
READ_SECONDS = 20.0  # a snapshot of 2,000 photographed dishes on a busy server included
CALL_SECONDS = 30.0  # the outer bound, for a network that swallows the answer
WRITERS = 2  # connections: one for batches, one for restaurants that are held up

# A dead peer without a FIN is noticed within about five seconds instead of hours (tcp(7)).
TCP: dict[str, Any] = {"keepalives_idle": 3, "keepalives_interval": 1, "keepalives_count": 3, "tcp_user_timeout": 5000}

# What a SQLSTATE that escaped a mutation means to its sender.
BY_SQLSTATE: Mapping[str, tuple[Code, str]] = {
    "23505": ("CONFLICT", "another row has this value already"),
    "23514": ("VALIDATION", "a value is out of range"),
    "23502": ("VALIDATION", "a required value is missing"),
    "RL404": ("VALIDATION", "there is no such restaurant"),
    "RL403": ("FORBIDDEN", "this is not allowed"),
    "54000": ("BUSY", "the database's notification queue is full; try again"),
}

T = TypeVar("T")


class LockedOut(Exception):
    """The batch gave way to other transactions (SQLSTATE 55P03, 57014, 40P01, 40001); nothing of it was applied."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mutation came to. `code` is OK, a code of PROTOCOL section 3, or LOCKED, APART, REPEATED (pos.apply)."""

    code: str
    message: str | None
    field: str | None
    revision: int | None
    version: int | None
    details: str | None

    @property
    def applied(self) -> bool:
        """Whether the mutation is committed."""
        return self.code in ("OK", "REPEATED")

    def details_by_key(self) -> dict[str, str]:
        """The further keys of the answer, each with its JSON text."""
        return {key: json.dumps(value, ensure_ascii=False) for key, value in self.details_parsed().items()}

    def details_parsed(self) -> dict[str, Any]:
        """The further keys of the answer."""
        return dict(json.loads(self.details)) if self.details else {}

    def refusal(self) -> Refusal:
        """What the sender of a mutation that is not applied is told."""
        if self.code.startswith("SQLSTATE "):
            return self._sql_refusal(self.code.removeprefix("SQLSTATE "))
        return Refusal(self.code, self.message or self.code, field=self.field, details=self._current())  # type: ignore[arg-type]

    def _current(self) -> dict[str, str]:
        # The current row is passed on as text: its digits are not ours to rewrite.
        if self.details and self.details.startswith('{"current": '):
            return {"current": self.details[len('{"current": ') : -1]}
        return self.details_by_key()

    def _sql_refusal(self, state: str) -> Refusal:
        if state in BY_SQLSTATE:
            code, message = BY_SQLSTATE[state]
        elif state.startswith("22"):
            code, message = "VALIDATION", "a value cannot be stored"
        else:
            log.error("a mutation failed with SQLSTATE %s: %s", state, self.message)
            return Refusal("INTERNAL", "the mutation failed; the relay's log says why")
        # A constraint is named table_column.
        return Refusal(code, message, field=(self.field or "").partition("_")[2] or None)


class Heads(NamedTuple):
    """The epoch, and per restaurant the newest revision and message number."""

    epoch: str
    by_restaurant: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A committed change, its row as JSON text."""

    revision: int
    type: str
    action: str
    data: str
    client_id: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What one restaurant's log holds after a revision: contiguous, perhaps not yet all up to `head`."""

    restaurant_id: int
    head: int
    messages: int
    rows: tuple[ChangeRow, ...]


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A MESSAGE on its way, its body as JSON text."""

    restaurant_id: int
    number: int
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


class Database:
    """The relay's PostgreSQL. Every method raises DatabaseUnavailable when it cannot be reached in time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reads = self._pool("read", settings.pool, READ_SECONDS, lock_ms=0)
        self._writes = self._pool("write", WRITERS, settings.statement_ms / 1000, lock_ms=settings.lock_ms)

    def _pool(self, job: str, size: int, statement_seconds: float, *, lock_ms: int) -> AsyncConnectionPool:
        async def configure(connection: AsyncConnection[TupleRow]) -> None:
            # Not as startup options, which poolers refuse. An ACK means committed, whatever the server's default.
            await connection.execute(
                """select set_config('synchronous_commit', 'on', false), set_config('lock_timeout', %s, false),
                          set_config('statement_timeout', %s, false), set_config('jit', 'off', false),
                          set_config('timezone', 'UTC', false)""",
                (f"{lock_ms}ms", f"{statement_seconds * 1000:.0f}ms"),
            )

        return AsyncConnectionPool(
            self._settings.conninfo,
            kwargs={
                "autocommit": True,
                "application_name": f"relay {job}",
                "connect_timeout": CONNECT_SECONDS,
                "target_session_attrs": "read-write",
                **TCP,
            },
            name=job,
            min_size=0,
            max_size=size,
            open=False,
            timeout=POOL_SECONDS,
            configure=configure,
            # Give up soon and start afresh with the next caller: the pool's own pauses double up to minutes.
            reconnect_timeout=1.0,
        )

    async def open(self) -> None:
        """Make the pools ready; nothing is connected yet."""
        # They warn at every attempt; the listener says once that the database is away, and once that it is back.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        await self._reads.open(wait=False)
        await self._writes.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._reads.close()
        await self._writes.close()

    @asynccontextmanager
    async def listening(self, *channels: LiteralString) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection of the listener's own, never a pool's, that already listens."""
        connection = await AsyncConnection.connect(
            self._settings.listen_conninfo,
            autocommit=True,
            application_name="relay listen",
            connect_timeout=CONNECT_SECONDS,
            target_session_attrs="read-write",
            **TCP,
        )
        try:
            for channel in channels:
                await connection.execute(f"listen {channel}")
            yield connection
        finally:
            # Hard: a polite close waits for a peer that may be gone.
            connection.pgconn.finish()

    async def find_restaurant(self, slug: str | None) -> tuple[int, str]:
        """The restaurant with this slug (None: the default one) and its slug. Raises UnknownRestaurant."""
        rows = await self._read("select restaurant_id, slug from pos.find_restaurant(%s)", (slug,))
        if not rows:
            raise UnknownRestaurant(slug or "default")
        restaurant_id, found = rows[0]
        return restaurant_id, found

    async def read_heads(self, restaurant_ids: Sequence[int]) -> Heads:
        """The epoch and the heads; a restaurant that is not there is left out."""
        rows = await self._read(
            "select epoch, restaurant_id, revision, messages from pos.read_heads(%s)", (list(restaurant_ids),)
        )
        return Heads(rows[0][0], {row[1]: (row[2], row[3]) for row in rows if row[1] is not None})

    async def read_changes(
        self, cursors: Mapping[int, int], *, rows: int, size: int
    ) -> tuple[str | None, dict[int, Changes]]:
        """Epoch and changes after each restaurant's cursor, at most `rows` and about `size` bytes per restaurant.

        The epoch is None when none of the restaurants is there.
        """
        read = await self._read(
            """select epoch, restaurant_id, head, messages, revision, type, action, data, client_id, milliseconds
               from pos.read_changes(%s, %s, %s, %s)""",
            (list(cursors), list(cursors.values()), rows, size),
        )
        grouped: dict[int, list[Any]] = {}
        for row in read:
            grouped.setdefault(row[1], []).append(row)
        changes = {
            restaurant_id: Changes(
                restaurant_id,
                head=found[0][2],
                messages=found[0][3],
                rows=tuple(ChangeRow(*row[4:]) for row in found if row[4] is not None),
            )
            for restaurant_id, found in grouped.items()
        }
        return (read[0][0] if read else None), changes

    async def read_messages(self, numbers: Mapping[int, int]) -> list[MessageRow]:
        """The messages of each restaurant after a number, at most a minute old."""
        rows = await self._read(
            """select restaurant_id, number, client_id, to_client_id, data, milliseconds
               from pos.read_messages(%s, %s)""",
            (list(numbers), list(numbers.values())),
        )
        return [MessageRow(*row) for row in rows]

    async def snapshot(self, restaurant_id: int, orders: int) -> State:
        """A restaurant's state at one revision, with its `orders` newest orders. Raises UnknownRestaurant."""
        rows = await self._read(
            """select epoch, revision, tables, menu_items, categories, settings, orders
               from pos.snapshot(%s, %s)""",
            (restaurant_id, orders),
        )
        if not rows:
            raise UnknownRestaurant(str(restaurant_id))
        return State(*rows[0])

    async def read_orders(self, restaurant_id: int, before: int, rows: int) -> list[tuple[int, str]]:
        """Revision and JSON text of the orders last changed before a revision, newest first."""
        return await self._read("select revision, data from pos.read_orders(%s, %s, %s)", (restaurant_id, before, rows))

    async def prove(self, instance_id: str) -> None:
        """Ring this instance's own bell."""
        await self._read("select pos.prove(%s)", (instance_id,))

    async def prune(self, keep_days: int, keep_log_days: int, rows: int) -> dict[str, int]:
        """Let go of at most `rows` rows each of what is old; how many went, by kind."""
        found = await self._read(
            "select changes, mutations, tombstones, messages, batches from pos.prune(%s, %s, %s)",
            (timedelta(days=keep_days), timedelta(days=keep_log_days), rows),
        )
        return dict(zip(("changes", "mutations", "tombstones", "messages", "batches"), found[0], strict=True))

    async def apply(self, batch_id: uuid.UUID, mutations: Sequence[Mutation], *, isolate: bool) -> list[Answer]:
        """Apply a batch in one transaction; one answer for each mutation, in their order.

        With `isolate` every mutation has a block of its own, so that one that fails leaves the others alone. Raises
        LockedOut, nothing applied; and DatabaseUnavailable, where it is not known whether the batch was committed:
        the same `batch_id` may be given again and finds out.
        """
        async with self._connection(self._writes) as connection:
            try:
                async with connection.cursor(row_factory=class_row(Answer)) as cursor:
                    await cursor.execute(
                        """select code, message, field, revision, version, details::text
                           from pos.apply(%s, %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[],
                                          %s::text[], %s::bigint[], %s)""",
                        (
                            batch_id,
                            [m.restaurant_id for m in mutations],
                            [m.client_id for m in mutations],
                            [m.id for m in mutations],
                            [m.type for m in mutations],
                            [m.action for m in mutations],
                            [m.body for m in mutations],
                            [m.if_version for m in mutations],
                            isolate,
                        ),
                    )
                    return await cursor.fetchall()
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.QueryCanceled,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
            ) as error:
                raise LockedOut from error

    async def _read(self, query: LiteralString, parameters: Sequence[object]) -> list[Any]:
        async def attempt() -> list[Any]:
            async with self._connection(self._reads) as connection:
                return await (await connection.execute(query, parameters)).fetchall()

        return await self._once_more(attempt)

    async def _once_more(self, attempt: Callable[[], Awaitable[T]]) -> T:
        # After a restart of PostgreSQL every pooled connection is dead, and the first use finds out.
        for _ in range(self._settings.pool):
            try:
                return await attempt()
            except DatabaseUnavailable as error:
                if not error.sent or isinstance(error.__cause__, TimeoutError):
                    raise
        return await attempt()

    @asynccontextmanager
    async def _connection(self, pool: AsyncConnectionPool) -> AsyncIterator[AsyncConnection[TupleRow]]:
        try:
            async with asyncio.timeout(CALL_SECONDS), pool.connection() as connection:
                yield connection
        except (
            PoolTimeout,
            TimeoutError,
            psycopg.InterfaceError,
            psycopg.errors.AdminShutdown,
            psycopg.errors.CrashShutdown,
            psycopg.errors.CannotConnectNow,
            psycopg.errors.IdleSessionTimeout,
            psycopg.errors.QueryCanceled,
            psycopg.errors.ReadOnlySqlTransaction,
        ) as error:
            raise DatabaseUnavailable(str(error), sent=not isinstance(error, PoolTimeout)) from error
        except psycopg.OperationalError as error:
            if error.sqlstate is not None:
                raise
            raise DatabaseUnavailable(str(error)) from error
