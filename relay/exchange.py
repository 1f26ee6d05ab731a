"""One round trip to PostgreSQL: statements that go together and are one transaction, and what it answers.

Others may go with them, that are a transaction of their own right behind it.

psycopg's pipeline does it too, but a quarter dearer in CPU on both sides, for it wants a BEGIN and a COMMIT: without
them an error that comes with the end of the transaction, such as a full notification queue, is an IndexError to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.rows import TupleRow

# A statement and the values of its `%s`.
Asked = tuple[LiteralString, Sequence[object]]

# For what is behind a commit, from when that is known. Its statements are to have shorter bounds at the server: who is
# hung up on is one connection less.
BEHIND_SECONDS = 0.5

OK = frozenset((pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY))


class Statement:
    """A statement with the values of its `%s`, ready to be sent. Raises psycopg.Error for a value it cannot send."""

    def __init__(
        self, connection: AsyncConnection[TupleRow], query: LiteralString, parameters: Sequence[object]
    ) -> None:
        self._transformer = Transformer(connection)
        self._query = numbered(query)
        self._values = self._transformer.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        self.refused = False  # whether it was this one that the server refused

    def send(self, pgconn: pq.abc.PGconn) -> None:
        """Hand it to libpq."""
        made = self._transformer
        # Never by a prepared statement: what was prepared on a pooler's connection is not there on its next.
        pgconn.send_query_params(self._query, self._values, param_types=made.types, param_formats=made.formats)

    def rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """The rows of its result."""
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)


@lru_cache
def numbered(query: LiteralString) -> bytes:
    """A statement with `$1`, `$2`, … in the place of each `%s`, as PostgreSQL wants it. ValueError for another `%`."""
    first, *others = query.split("%s")
    if any("%" in text for text in (first, *others)):
        raise ValueError(f"a % that is no %s: {query}")
    return (first + "".join(f"${place}{text}" for place, text in enumerate(others, start=1))).encode()


def array(values: Iterable[str | int | None]) -> str:
    """An array as PostgreSQL reads it (manual, section 8.15.6). psycopg's own took a fifth of a busy relay's time."""
    quoted = ("NULL" if v is None else '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    return "{" + ",".join(quoted) + "}"


class Results(NamedTuple):
    """Each statement's result, and those of what went behind them: None where they failed, and nobody knows how."""

    committed: list[pq.abc.PGresult]
    at: float  # time.time() when the server said that they are committed
    behind: list[pq.abc.PGresult] | None = None


async def exchange(
    pgconn: pq.abc.PGconn, statements: Sequence[Statement], seconds: float, behind: Sequence[Statement] = ()
) -> Results:
    """The results, when all statements are committed and what is `behind` them is over.

    Raises psycopg.Error: of severity ERROR where the server has rolled back and goes on, another where it is not known
    what became of them. Then, after `seconds`, and when cancelled, the connection is closed: nobody can tell what would
    come from it next. (psycopg would ask the server to cancel, and wait for that.) What is behind raises nothing, and
    is waited for at most BEHIND_SECONDS.
    """
    pgconn.enter_pipeline_mode()
    answer = _Answer(pgconn, 2 if behind else 1)
    try:
        for statement in statements:
            statement.send(pgconn)
        pgconn.pipeline_sync()
        if behind:
            for statement in behind:
                statement.send(pgconn)
            pgconn.pipeline_sync()
        async with asyncio.timeout(seconds) as limit:
            await answer.all(limit)
        pgconn.exit_pipeline_mode()
    except BaseException as error:
        pgconn.finish()
        if not isinstance(error, Exception) or not answer.transactions:
            if isinstance(error, TimeoutError):
                raise psycopg.OperationalError(f"no answer from the server within {seconds:g} s") from None
            raise
        # What came first is over, and how, is known.
    results, *later = answer.transactions
    for place, result in enumerate(results):
        if result.status not in OK:
            if place < len(statements):  # or the end of the transaction
                statements[place].refused = True
            raise psycopg.errors.error_from_result(result)
    done = next((found for found in later if all(one.status in OK for one in found)), None)
    return Results(results, answer.first_at, done)


class _Answer:
    """What comes from the server until it says that so many transactions are over."""

    def __init__(self, pgconn: pq.abc.PGconn, transactions: int) -> None:
        self._pgconn = pgconn
        self._socket = pgconn.socket
        self.transactions: list[list[pq.abc.PGresult]] = []  # the results of each that is over
        self.first_at = 0.0  # time.time() when the first was
        self._left = transactions
        self._results: list[pq.abc.PGresult] = []
        self._loop = asyncio.get_running_loop()
        self._complete: asyncio.Future[None] = self._loop.create_future()
        self._reads = self._writes = False
        self._limit: asyncio.Timeout

    async def all(self, limit: asyncio.Timeout) -> None:
        """Return when everything has been sent and answered. Raises psycopg.Error when it will not be.

        When a transaction is over and another is behind it, the limit is moved.
        """
        self._limit = limit
        self._look()
        try:
            self._try(self._write)
            await self._complete
        finally:
            self._look_away()

    def _try(self, do: Callable[[], None]) -> None:
        if self._complete.done():
            return
        try:
            do()
        except Exception as error:
            self._look_away()
            self._complete.set_exception(error)

    def _look(self) -> None:
        """Watch the socket for what comes. Anew for each piece: uvloop tells of one that was reset only once.

        What is read then may be the server's last word (a WARNING, 57P02), and its end would not be noticed.
        """
        if self._reads:
            self._loop.remove_reader(self._socket)
        self._loop.add_reader(self._socket, self._try, self._read)
        self._reads = True

    def _look_away(self) -> None:
        """Watch the socket no longer.

        Before anybody else runs: libpq closes it as soon as the server has, and its number is the next one's.
        """
        if self._reads:
            self._loop.remove_reader(self._socket)
        if self._writes:
            self._loop.remove_writer(self._socket)
        self._reads = self._writes = False

    def _write(self) -> None:
        # What does not fit into the socket's buffer goes when there is room.
        waits = self._pgconn.flush() == 1
        if waits and not self._writes:
            self._loop.add_writer(self._socket, self._try, self._write)
        elif self._writes and not waits:
            self._loop.remove_writer(self._socket)
        self._writes = waits

    def _read(self) -> None:
        self._pgconn.consume_input()
        if self._writes:
            self._write()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                # A pooler's connection may listen for somebody else; what nobody takes would gather in libpq.
                while self._pgconn.notifies():
                    pass
                self.first_at = self.first_at or time.time()
                self.transactions.append(self._results)
                self._results = []
                self._left -= 1
                if self._left:
                    if not self._limit.expired():
                        self._limit.reschedule(self._loop.time() + BEHIND_SECONDS)
                    continue
                self._complete.set_result(None)
                return
            self._results.append(result)
            if result.status == pq.ExecStatus.FATAL_ERROR:
                error = psycopg.errors.error_from_result(result)
                if not is_refusal(error):
                    # The last word of a backend that is ended (57P01), perhaps after the commit; no end will come.
                    raise error
        self._look()


def is_refusal(error: Exception) -> bool:
    """Whether the server says that it rolled back and goes on: an ERROR, and not the FATAL last word of a backend."""
    if not isinstance(error, psycopg.Error):
        return False
    return (error.diag.severity_nonlocalized or error.diag.severity) == "ERROR"
