"""The relay behind a pooler in transaction mode, where two statements may go to two connections."""

from __future__ import annotations

import asyncio
import time

import psycopg

from tests.faults.deeds import OTHERS_SECONDS, TABLE, add_restaurant, execute, lock_table, make_tables, seat
from tests.load import load
from tests.pooler import pooled
from tests.relays import local_relay, relay_process
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

SAID = "set LISTEN_DATABASE_URL to a direct connection"


async def test_a_pooler_that_does_not_keep_a_listen_is_recognised_at_start(database: str) -> None:
    with pooled(database) as through:
        async with relay_process(through, wait_ready=False, RELAY_PROOF_SECONDS="0.5") as relay:
            await until(lambda: SAID in relay.log, within=15.0, what="the sentence")
            # It tries again and again; the changes come all the same, later, and nobody is sent here.
            async with terminals(relay.url, 2) as (one, other):
                for number in range(6):
                    await asyncio.to_thread(seat, database, number)
                    await one.table("add", {"id": f"t{number}", "number": 100 + number, **TABLE})
                    for terminal in (one, other):
                        await terminal.reaches(2 * number + 2, within=5.0)
                    assert not await relay.ready()
                await agree(database, one, other)
            health = await relay.health()
            assert (health["status"], health["listener"]["hearing"]) == ("degraded", False)
            [line] = [line for line in relay.log.splitlines() if SAID in line]
            assert "pooler" in line
            assert "Traceback" not in relay.log


async def test_a_pooler_that_keeps_a_listen_will_do(database: str) -> None:
    with pooled(database, mode="session", size=20) as through:
        async with local_relay(through, sweep_seconds=60.0) as relay, terminals(relay.url, 1) as (terminal,):
            for number in range(5):
                await asyncio.to_thread(seat, database, number)
                await terminal.reaches(number + 1)
            await agree(database, terminal)


async def test_with_a_direct_connection_to_listen_everything_works_through_the_pooler(database: str) -> None:
    with pooled(database, size=2) as through:
        async with (
            local_relay(through, listen_conninfo=database, sweep_seconds=60.0) as first,
            local_relay(through, listen_conninfo=database, sweep_seconds=60.0) as other,
            terminals(first.url, 2) as watching,
            load(database, first.url, other.url, tills=8) as working,
        ):
            await working.goes_on(20)
            for path in ("/api/sync", "/api/changes?since=0", "/api/orders", "/api/menu"):
                assert (await first.get(path))[0] == 200
            async with Terminal(other.url) as late:
                await late.ask("MESSAGE", {"bell": 1})
                await watching[0].hears("MESSAGE")
            await first.relay.database.prune(90, 1000)
            await working.stop()
            await agree(database, *watching)
            assert {code for till in working.tills for code in till.refusals} == set()


async def test_a_database_without_the_schema_is_installed_through_the_pooler(empty_database: str) -> None:
    with pooled(empty_database) as through:
        async with (
            local_relay(through, listen_conninfo=empty_database) as relay,
            terminals(relay.url, 1) as (terminal,),
        ):
            await terminal.table("add", {"id": "t1", "number": 1, **TABLE})
            await agree(empty_database, terminal)


async def test_a_locked_row_is_given_up_in_time_through_the_pooler(database: str) -> None:
    add_restaurant(database, "other")
    with pooled(database) as through:
        async with (
            local_relay(through, listen_conninfo=database, busy_seconds=1.0) as relay,
            terminals(relay.url, 1) as (here,),
            terminals(f"{relay.url}?restaurant=other", 1) as (there,),
        ):
            await make_tables(here, "t1")
            await make_tables(there, "t1")
            with psycopg.connect(database) as person:
                lock_table(person, "t1")
                started = time.monotonic()
                held = asyncio.create_task(here.refused("UPDATE_TABLE", {"id": "t1", "seats": 6}))
                await there.table("add", {"id": "t2", "number": 2, **TABLE})
                assert time.monotonic() - started < OTHERS_SECONDS
                error = await held
                assert (error["code"], error["retryable"]) == ("BUSY", True)
                person.rollback()
            await here.table("update", {"id": "t1", "seats": 6})
            await agree(database, here)
            await agree(database, there, slug="other")


async def test_a_batch_that_takes_too_long_is_ended_by_the_database_through_the_pooler(database: str) -> None:
    with pooled(database) as through:
        async with (
            local_relay(through, listen_conninfo=database, busy_seconds=1.0, statement_ms=300) as relay,
            terminals(relay.url, 1) as (terminal,),
        ):
            execute(
                database,
                "create function slowly() returns trigger language plpgsql as"
                " $$ begin perform pg_sleep(60); return new; end $$;"
                " create trigger z before insert on pos.order_history for each row execute function slowly()",
            )
            started = time.monotonic()
            sale = {"id": "o1", "tableNumber": 1, "customerName": "", "orderDate": "", "status": "pending", "total": 1}
            error = await terminal.refused("UPDATE_ORDER", {"action": "add", "data": {**sale, "items": []}})
            assert (error["code"], error["retryable"]) == ("BUSY", True)
            assert time.monotonic() - started < 10.0
            # None is left running: the server itself ended them.
            await until(lambda: not batches(database), within=3.0, what="the end of the batches")
            await terminal.table("add", {"id": "t1", "number": 1, **TABLE})


def batches(conninfo: str) -> int:
    """How many batches the database works at."""
    running = "state = 'active' and query ~ 'pos[.]apply' and pid <> pg_backend_pid() and datname = current_database()"
    return int(execute(conninfo, f"select count(*) from pg_stat_activity where {running}"))


async def test_what_bounds_the_relay_is_not_left_to_others_at_the_pooler(database: str) -> None:
    with (
        pooled(database, size=1) as through,
        psycopg.connect(through, autocommit=True, prepare_threshold=None) as somebody,
    ):

        def settings() -> list[object]:
            names = ("lock_timeout", "statement_timeout", "jit", "timezone")
            return [somebody.execute(f"show {name}".encode()).fetchone() for name in names]

        before = settings()
        async with (
            local_relay(through, listen_conninfo=database) as relay,
            load(database, relay.url, tills=2) as working,
        ):
            await working.goes_on(5)
            assert await asyncio.to_thread(settings) == before
