"""One round trip is one transaction, and its end is known or said to be unknown."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import uvloop
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from relay.exchange import Results, Statement, exchange, is_refusal, numbered
from tests.cluster import TestCluster
from tests.proxy import proxied
from tests.waiting import until, wait_until

PATIENCE = 60.0  # seconds, on a busy machine
Asked = tuple[LiteralString, Sequence[object]]
NOTE: LiteralString = "insert into notes (note) values (%s)"


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    async with await AsyncConnection.connect(conninfo, autocommit=True, connect_timeout=30) as connection:
        await connection.execute("create table if not exists notes (note text)")
        yield connection


async def ask(connection: AsyncConnection[TupleRow], *asked: Asked, seconds: float = PATIENCE) -> list[list[Any]]:
    statements = [Statement(connection, *one) for one in asked]
    results = await exchange(connection.pgconn, statements, seconds)
    return [one.rows(result) for one, result in zip(statements, results.committed, strict=True)]


async def asleep(conninfo: str) -> None:
    """Wait until somebody's pg_sleep is under way."""
    query: LiteralString = "select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    with psycopg.connect(conninfo, autocommit=True) as other:
        await until(lambda: other.execute(query).rowcount == 1, within=PATIENCE)


def notes(conninfo: str) -> list[str]:
    with psycopg.connect(conninfo) as other:
        return [note for (note,) in other.execute("select note from notes order by note")]


async def test_all_statements_are_one_transaction(database: str) -> None:
    async with connected(database) as connection:
        asked: list[Asked] = [
            (NOTE, ["a"]),
            ("select set_config('a.b', %s, true)", ["x"]),
            ("select current_setting('a.b'), 2", []),
        ]
        assert await ask(connection, *asked) == [[], [("x",)], [("x", 2)]]
        assert notes(database) == ["a"]
        assert (await ask(connection, ("select coalesce(current_setting('a.b', true), '')", []))) == [[("",)]]


async def test_what_is_refused_leaves_nothing_and_the_connection_goes_on(database: str) -> None:
    async with connected(database) as connection:
        for place in range(3):
            asked: list[Asked] = [(NOTE, ["a"]), (NOTE, ["b"])]
            asked.insert(place, ("select 1 / %s", [0]))
            with pytest.raises(psycopg.errors.DivisionByZero) as refused:
                await ask(connection, *asked)
            assert is_refusal(refused.value)
        assert notes(database) == []
        assert await ask(connection, ("select %s::int", [7])) == [[(7,)]]


async def test_an_error_at_the_end_of_the_transaction_is_a_refusal(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("alter table notes add constraint once unique (note) deferrable initially deferred")
        with pytest.raises(psycopg.errors.UniqueViolation) as refused:
            await ask(connection, (NOTE, ["a"]), (NOTE, ["a"]))
        assert is_refusal(refused.value)
        assert notes(database) == []
        await ask(connection, (NOTE, ["a"]))
        assert notes(database) == ["a"]


async def both(connection: AsyncConnection[TupleRow], first: Asked, behind: Asked) -> Results:
    made = [Statement(connection, *one) for one in (first, behind)]
    return await exchange(connection.pgconn, made[:1], PATIENCE, made[1:])


async def test_what_is_behind_sees_what_was_committed_before_it(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("alter table notes add stamped text")
        await connection.execute(
            "create function stamp() returns trigger language plpgsql as"
            " 'begin update notes set stamped = ''at the end'' where note = new.note; return null; end'"
        )
        await connection.execute(
            "create constraint trigger late after insert on notes deferrable initially deferred"
            " for each row execute function stamp()"
        )
        before = time.time()
        results = await both(connection, (NOTE, ["a"]), ("select stamped from notes", []))
        assert results.behind is not None
        assert results.behind[0].get_value(0, 0) == b"at the end"
        assert before <= results.at <= time.time()
        assert await ask(connection, ("select 1", [])) == [[(1,)]]


async def test_what_fails_behind_leaves_what_was_committed_alone(database: str) -> None:
    async with connected(database) as connection:
        results = await both(connection, (NOTE, ["a"]), ("select 1 / %s", [0]))
        assert results.behind is None
        assert results.committed[0].command_tuples == 1
        assert notes(database) == ["a"]
        assert await ask(connection, ("select 1", [])) == [[(1,)]]


async def test_what_is_refused_is_refused_whatever_is_behind(database: str) -> None:
    async with connected(database) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await both(connection, ("select 1 / %s", [0]), (NOTE, ["b"]))
        assert notes(database) == ["b"]
        assert await ask(connection, ("select 1", [])) == [[(1,)]]


async def test_a_commit_is_known_long_before_the_end_of_what_is_behind_it(database: str) -> None:
    async with connected(database) as connection:
        results = await both(connection, (NOTE, ["a"]), ("select pg_sleep(%s)", [PATIENCE / 2]))
        assert (results.committed[0].command_tuples, results.behind) == (1, None)
        assert connection.closed
    assert notes(database) == ["a"]


async def test_a_commit_is_known_though_the_connection_ends_behind_it(database: str) -> None:
    async with connected(database) as connection:
        results = await both(connection, (NOTE, ["b"]), ("select pg_terminate_backend(pg_backend_pid())", []))
        assert (results.committed[0].command_tuples, results.behind) == (1, None)
        assert connection.closed
    assert notes(database) == ["b"]


async def test_what_fills_every_buffer_on_the_way_goes_both_ways(database: str) -> None:
    async with proxied(database) as proxy, connected(proxy.conninfo) as connection:
        text = "0123456789ü" * 800_000
        asked: list[Asked] = [("select %s::text", [text]) for _ in range(3)]
        assert await ask(connection, *asked) == [[(text,)]] * 3


async def test_a_value_that_cannot_be_sent_is_refused_before_anything_is(database: str) -> None:
    async with connected(database) as connection:
        with pytest.raises(psycopg.DataError):
            await ask(connection, (NOTE, ["a"]), (NOTE, ["a nul \0 in it"]))
        assert notes(database) == []
        assert await ask(connection, ("select 1", [])) == [[(1,)]]


async def test_a_connection_whose_answer_is_not_waited_for_is_closed(database: str) -> None:
    async with connected(database) as connection:
        with pytest.raises(psycopg.OperationalError, match=r"no answer from the server within 0\.05 s"):
            await ask(connection, ("select pg_sleep(%s)", [PATIENCE]), seconds=0.05)
        assert connection.closed


async def test_a_connection_is_closed_when_its_asker_is_cancelled(database: str) -> None:
    async with connected(database) as connection:
        task = asyncio.create_task(ask(connection, ("select pg_sleep(%s)", [PATIENCE])))
        await asleep(database)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.closed


@pytest.mark.parametrize("ended", ["backend", "link"])
async def test_an_end_that_comes_without_an_answer_is_no_refusal(database: str, ended: str) -> None:
    async with proxied(database) as proxy, connected(proxy.conninfo) as connection:
        task = asyncio.create_task(ask(connection, (NOTE, ["a"]), ("select pg_sleep(%s)", [PATIENCE])))
        with psycopg.connect(database, autocommit=True) as other:
            end: LiteralString = """select pg_terminate_backend(pid) from pg_stat_activity
                                    where wait_event = 'PgSleep' and datname = current_database()"""
            await asleep(database)
            if ended == "backend":
                other.execute(end)
            else:
                proxy.reset()
        with pytest.raises(psycopg.OperationalError) as lost:
            await task
        assert not is_refusal(lost.value)
        assert connection.closed


async def test_whoever_gets_the_number_of_a_socket_that_is_closed_is_heard(database: str) -> None:
    async with proxied(database) as proxy, connected(proxy.conninfo) as connection:
        number, loop = connection.pgconn.socket, asyncio.get_running_loop()
        pair: list[socket.socket] = []
        heard: list[bytes] = []

        def open_another() -> None:
            with suppress(psycopg.OperationalError):
                assert connection.pgconn.socket == number
                loop.call_soon(open_another)  # at every turn: nobody is sooner when libpq has closed its own
                return
            pair.extend(socket.socketpair())
            mine = next(one for one in pair if one.fileno() == number)
            loop.add_reader(mine, lambda: heard.append(mine.recv(1)))

        task = asyncio.create_task(ask(connection, ("select pg_sleep(%s)", [PATIENCE])))
        await asleep(database)
        open_another()
        proxy.reset()
        with pytest.raises(psycopg.OperationalError):
            await task
        next(one for one in pair if one.fileno() != number).send(b"x")
        await until(lambda: heard)
        loop.remove_reader(number)
        for one in pair:
            one.close()


async def test_what_a_connection_hears_does_not_gather(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("listen somebody")
        await ask(connection, ("select pg_notify('somebody', n::text) from generate_series(1, 9) as n", []))
        await ask(connection, ("select 1", []))
        assert connection.pgconn.notifies() is None


async def test_the_last_word_of_a_backend_counts_although_the_link_stays(database: str) -> None:
    async with proxied(database) as proxy, connected(proxy.conninfo) as connection:
        proxy.end_after(b"needle")
        with pytest.raises(psycopg.errors.AdminShutdown) as lost:
            await ask(connection, (NOTE, ["needle"]), seconds=20.0)
        assert not is_refusal(lost.value)
        assert connection.closed
        assert notes(database) == ["needle"]


async def test_a_dead_connection_says_so(database: str) -> None:
    async with proxied(database) as proxy, connected(proxy.conninfo) as connection:
        proxy.reset()
        with pytest.raises(psycopg.OperationalError):
            await ask(connection, ("select 1", []))
        assert connection.closed


def test_an_end_behind_a_last_word_is_noticed_at_once(private_cluster: TestCluster) -> None:
    """Where a backend is killed PostgreSQL ends all: a WARNING, and on TCP a reset. uvloop tells of both but once."""

    async def lose() -> None:
        async with connected(private_cluster.tcp("postgres")) as connection:
            backend = Path(f"/proc/{connection.info.backend_pid}")
            async with connected(private_cluster.conninfo("postgres")) as victim:
                os.kill(victim.info.backend_pid, signal.SIGKILL)
                await until(lambda: not backend.exists(), within=PATIENCE)
            with pytest.raises(psycopg.OperationalError, match="closed the connection"):
                await ask(connection, ("select 1", []), seconds=10.0)
            assert connection.closed

    uvloop.run(lose())
    # Asked to stop in the middle of its recovery, PostgreSQL 18 may wait for its own workers without end.
    wait_until(private_cluster.is_running, what="PostgreSQL to be back")


def test_values_are_numbered() -> None:
    assert numbered("select f(%s, %s), %s::text") == b"select f($1, $2), $3::text"
    for query in ("select 5 % 2", "select '%t'"):
        with pytest.raises(ValueError, match="a % that is no %s"):
            numbered(query)
