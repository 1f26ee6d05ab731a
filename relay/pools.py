"""Connections to PostgreSQL, each use of them with a bound: the pools, and one to listen on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from .errors import DatabaseUnavailable, OnlyStandby
from .exchange import Asked, Statement, exchange, is_refusal

CONNECT_SECONDS = 3  # libpq's connect_timeout, per host; whole seconds, at least 2
BEHIND_SECONDS = 0.2  # for what goes behind a commit, which keeps those who wait for that
POOL_SECONDS = 2.0  # to wait for a connection before the database counts as away

T = TypeVar("T")

# A dead peer without a FIN is noticed within about five seconds instead of hours (tcp(7)).
TCP: dict[str, Any] = {"keepalives_idle": 3, "keepalives_interval": 1, "keepalives_count": 3, "tcp_user_timeout": 5000}

# What says that the database serves nobody: gone, short of something, read-only, broken, or (still) without a schema.
AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
)


# What bounds a statement goes with it, in its own transaction: behind a pooler a session is anybody's, and what is set
# there is set for others. (Startup options they refuse.)
BOUNDS: LiteralString = """select set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),
                                  set_config('jit', 'off', true), set_config('timezone', 'UTC', true)"""


class Committed(NamedTuple):
    """The rows of a statement, and of what was asked behind it: None where nothing was, or that failed."""

    rows: list[tuple[Any, ...]]
    at: float  # time.time() when the server said that it is committed
    behind: list[tuple[Any, ...]] | None = None


class BeforeRefused(Exception):
    """What was asked before a statement was refused, and so nothing is done; the cause says why."""


class Pool:
    """At most `size` connections for one job, not opened yet; a lock is waited for without limit at 0.

    `attributes`: which servers will do (libpq's target_session_attrs).
    """

    def __init__(
        self,
        conninfo: str,
        job: str,
        size: int,
        statement_seconds: float,
        *,
        lock_seconds: float = 0.0,
        attributes: str = "read-write",
    ) -> None:
        self.size = size
        self._lock_seconds, self._statement_seconds = lock_seconds, statement_seconds
        self._pool = AsyncConnectionPool(
            conninfo,
            kwargs={
                "autocommit": True,
                "application_name": f"relay {job}",
                "connect_timeout": CONNECT_SECONDS,
                "target_session_attrs": attributes,
                # One that was prepared on a pooler's connection is not there on its next.
                "prepare_threshold": None,
                **TCP,
            },
            name=job,
            min_size=0,
            max_size=size,
            open=False,
            timeout=POOL_SECONDS,
            # Give up soon and start afresh with the next caller: the pool's own pauses double up to minutes.
            reconnect_timeout=1.0,
        )

    async def open(self) -> None:
        """Make it ready; nothing is connected yet."""
        await self._pool.open(wait=False)

    def stats(self) -> dict[str, int]:
        """psycopg_pool's figures: `pool_size`, `pool_available`, `requests_waiting` and more."""
        return self._pool.get_stats()

    async def close(self, seconds: float) -> None:
        """Close every connection, and wait so long for attempts to connect that are under way."""
        await self._pool.close(seconds)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """One of its connections. Raises DatabaseUnavailable when there is none, or when it breaks."""
        try:
            # Not by the pool's own `connection`: it commits at the end, which `exchange` has done.
            connection = await self._pool.getconn()
            try:
                yield connection
            finally:
                await self._pool.putconn(connection)
        except PoolTimeout as error:
            raise DatabaseUnavailable(str(error), sent=False) from error
        except AWAY as error:
            raise DatabaseUnavailable(str(error)) from error

    async def fetch(
        self, connection: AsyncConnection[TupleRow], query: LiteralString, parameters: Sequence[object], seconds: float
    ) -> list[tuple[Any, ...]]:
        """The rows of a statement, run in a transaction of its own, and committed. Raises as `commit` does."""
        return (await self.commit(connection, (query, parameters), seconds)).rows

    async def commit(
        self,
        connection: AsyncConnection[TupleRow],
        asked: Asked,
        seconds: float,
        *,
        before: Asked | None = None,
        behind: Asked | None = None,
    ) -> Committed:
        """Run a statement and what is asked `before` it in one transaction, and what is `behind` it right afterwards.

        Raises what psycopg raises where the server refused it, or it was never sent, and BeforeRefused: nothing is
        committed then. DatabaseUnavailable where that cannot be known.
        """
        # Whom we hang up on works on: the server must end it by itself, and no later.
        statement_seconds = min(self._statement_seconds, seconds)
        bounds, short = _bounds(self._lock_seconds, statement_seconds), _bounds(BEHIND_SECONDS, BEHIND_SECONDS)
        first = [Statement(connection, *one) for one in (bounds, *((before,) if before else ()), asked)]
        later = [Statement(connection, *one) for one in ((short, behind) if behind else ())]
        try:
            results = await exchange(connection.pgconn, first, seconds, later)
            return Committed(
                first[-1].rows(results.committed[-1]),
                results.at,
                later[-1].rows(results.behind[-1]) if results.behind else None,
            )
        except Exception as error:
            if is_refusal(error):
                if before and first[1].refused:
                    raise BeforeRefused from error
                raise
            connection.pgconn.finish()
            raise DatabaseUnavailable(str(error)) from error


def _bounds(lock_seconds: float, statement_seconds: float) -> Asked:
    return BOUNDS, (f"{lock_seconds * 1000:.0f}ms", f"{statement_seconds * 1000:.0f}ms")


@asynccontextmanager
async def listening(conninfo: str, variable: str, *channels: LiteralString) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A connection in no pool that already listens. Raises what psycopg raises, and OnlyStandby (of `variable`)."""
    try:
        connection = await _connect(conninfo, "read-write")
    except psycopg.OperationalError as error:
        if await is_standby(conninfo):
            raise OnlyStandby(variable) from error
        raise
    try:
        for channel in channels:
            await answer(connection, connection.execute(f"listen {channel}"), CONNECT_SECONDS)
        yield connection
    finally:
        # Hard: a polite close waits for a peer that may be gone.
        connection.pgconn.finish()


async def is_pooled(connection: AsyncConnection[TupleRow]) -> bool:
    """Whether a pooler stands between: then the process that was named at the login is not the one that answers."""
    asking = connection.execute("select pg_backend_pid()")
    row = await (await answer(connection, asking, CONNECT_SECONDS)).fetchone()
    return row is not None and row[0] != connection.info.backend_pid


async def is_standby(conninfo: str) -> bool:
    """Whether a server that no primary could be found at does answer, and replays another's changes."""
    try:
        connection = await _connect(conninfo, "any")
    except psycopg.Error:
        return False
    try:
        row = await (
            await answer(connection, connection.execute("select pg_is_in_recovery()"), CONNECT_SECONDS)
        ).fetchone()
    except psycopg.Error:
        return False
    finally:
        connection.pgconn.finish()
    return row is not None and bool(row[0])


async def _connect(conninfo: str, attributes: str) -> AsyncConnection[TupleRow]:
    return await AsyncConnection.connect(
        conninfo,
        autocommit=True,
        application_name="relay listen",
        connect_timeout=CONNECT_SECONDS,
        target_session_attrs=attributes,
        **TCP,
    )


async def answer(connection: AsyncConnection[TupleRow], asking: Coroutine[Any, Any, T], seconds: float) -> T:
    """What the server answers within so many seconds. After them, and when cancelled, hang up on it.

    psycopg then raises OperationalError. Left to itself it would ask the server to cancel, and wait for that: ten
    seconds more, if nothing comes back from there.
    """
    task = asyncio.create_task(asking, name="statement")
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
            await asyncio.wait({task})
            task.exception()  # retrieved, for when nobody is left to hear of it
    return task.result()
