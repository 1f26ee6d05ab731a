"""The relay while its database is dead, deaf, full or short of something, and after."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import psycopg
import pytest

from tests.cluster import VERSION, TestCluster, running_cluster
from tests.faults.deeds import TABLE, execute, seat
from tests.load import load
from tests.proxy import proxied
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

ALARM = "does not read its notifications"


async def test_a_killed_postgresql_costs_no_acknowledged_change(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos")
    conninfo = private_cluster.conninfo("minipos")
    async with (
        local_relay(conninfo) as relay,
        terminals(relay.url, 2) as watching,
        load(conninfo, relay.url) as working,
    ):
        for _ in range(3):
            await asyncio.to_thread(private_cluster.kill)
            await asyncio.to_thread(private_cluster.restart)
            back = time.monotonic()
            await working.goes_on(1)
            served = time.monotonic() - back
            assert served < 2.0, "served again too late"
            print(f"served again {served:.2f} s after PostgreSQL was")
            await working.goes_on(10)
        refusals = {code for till in working.tills for code in till.refusals}
        assert refusals <= {"UNAVAILABLE"}
    assert all(one.faults == [] for one in watching)


async def test_after_a_long_outage_it_serves_within_two_seconds(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos")
    conninfo = private_cluster.conninfo("minipos")
    async with local_relay(conninfo) as relay, terminals(relay.url, 1) as (terminal,):
        await terminal.table("add", {"id": "1", "number": 1, **TABLE})
        await asyncio.to_thread(private_cluster.stop)
        stopped = time.monotonic()
        answer = await terminal.ask("UPDATE_TABLE", {"action": "update", "data": {"id": "1", "seats": 5}})
        assert answer["data"]["code"] == "UNAVAILABLE"
        assert time.monotonic() - stopped < 4.0
        # By now every pause between two attempts has grown to its ceiling.
        await until(lambda: time.monotonic() - stopped > 5.5, within=15.0)
        assert (await relay.get("/health"))[0] == 503
        await asyncio.to_thread(private_cluster.start)
        back = time.monotonic()
        await until(lambda: answers(terminal), within=10.0)
        assert time.monotonic() - back < 2.0
        await until(relay.ready, within=2.5, what="the relay to be ready again")
        await agree(conninfo, terminal)


async def answers(terminal: Terminal) -> bool:
    answer = await terminal.ask("UPDATE_TABLE", {"action": "update", "data": {"id": "1", "seats": 6}}, id="once")
    return bool(answer["type"] == "ACK")


async def test_a_relay_that_starts_before_its_database_comes_alive_by_itself(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos")
    conninfo = private_cluster.conninfo("minipos")
    private_cluster.stop()
    async with local_relay(conninfo, wait_ready=False) as relay:
        status, _, health = await relay.get("/health")
        assert (status, health["status"]) == (503, "down")
        assert (await relay.get("/health/ready"))[0] == 503
        assert (await relay.get("/health/live"))[0] == 200
        assert (await relay.get("/api/sync"))[0] == 503
        terminal = await Terminal(relay.url).connect(sync=False)
        await terminal.say("SYNC_REQUEST")
        error = await terminal.refused("UPDATE_SETTINGS", {"theme": "dark"})
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        await asyncio.to_thread(private_cluster.start)
        # Synced without asking again; the schema is installed on the way.
        await until(lambda: terminal.epoch, within=5.0, what="the SYNC_RESPONSE")
        await until(relay.ready, what="the relay to be ready")
        await terminal.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
        await agree(conninfo, terminal)
        await terminal.close()


async def test_a_database_that_is_deaf_altogether_is_down_and_comes_back(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=proxy.conninfo, sweep_seconds=0.3) as relay,
        terminals(relay.url, 1) as (terminal,),
    ):
        proxy.deaf = True
        await until(lambda: is_down(relay), within=5.0, what="a health that is down")
        seat(database, 1)
        proxy.deaf = False
        # What was swallowed is gone for good: each connection must find out for itself that it is dead.
        await terminal.reaches(1, within=16.0)
        await until(relay.ready, within=10.0)
        await agree(database, terminal)


async def is_down(relay: LocalRelay) -> bool:
    return (await relay.get("/health"))[0] == 503


async def test_reads_that_wait_for_a_lock_do_not_hold_up_live_changes(database: str) -> None:
    async with local_relay(database, pool=2) as relay, terminals(relay.url, 1) as (terminal,):
        with psycopg.connect(database) as connection:
            # As an ALTER TABLE does, in a transaction that was left open.
            connection.execute("lock table pos.order_history in access exclusive mode")
            asking = [asyncio.create_task(relay.get("/api/orders")) for _ in range(4)]
            async with load(database, relay.url, tills=1, sync=False) as working:
                await working.goes_on(20)
                count = working.acknowledged
                await until(lambda: terminal.tables["table-0"].get("count", 0) >= count, within=1.0)
            assert (await relay.health())["status"] == "healthy"
            connection.rollback()
        for one in asking:
            assert (await one)[0] == 200
        await agree(database, terminal)


async def test_a_database_that_is_short_of_memory_is_away_and_not_the_end(database: str) -> None:
    async with local_relay(database, sweep_seconds=0.3) as relay, terminals(relay.url, 1) as (terminal,):
        with psycopg.connect(database, autocommit=True) as connection:
            row = connection.execute("select pg_get_functiondef('pos.read_heads'::regproc)").fetchone()
            assert row
            connection.execute(
                "create or replace function pos.read_heads(p_restaurant_ids bigint[])"
                " returns table (epoch text, restaurant_id bigint, revision bigint, messages bigint, staff bigint)"
                " language plpgsql"
                " as $$ begin raise exception 'out of memory' using errcode = '53200'; end $$"
            )
            await until(lambda: is_down(relay), within=6.0, what="a health that is down")
            connection.execute(row[0])
        await until(relay.ready, within=3.0, what="the relay to be ready again")
        await terminal.table("add", {"id": "1", "number": 1, **TABLE})
        await agree(database, terminal)


async def test_a_listener_that_does_not_read_is_told_of_long_before_the_queue_is_full(
    private_cluster: TestCluster, caplog: pytest.LogCaptureFixture
) -> None:
    private_cluster.create_database("minipos")
    conninfo = private_cluster.conninfo("minipos")
    async with local_relay(conninfo, proof_seconds=0.5) as relay, terminals(relay.url, 1) as (terminal,):
        with psycopg.connect(private_cluster.conninfo("postgres")) as offender:
            offender.execute("listen elsewhere")
            offender.commit()
            offender.execute("select 1")
            assert ALARM not in caplog.text
            # 94 MB of 8 GB.
            execute(
                conninfo, "select count(pg_notify('x', repeat('x', 7900) || n)) from generate_series(1, 12000) as n"
            )
            await until(lambda: ALARM in caplog.text, what="the alarm")
            await terminal.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
            await agree(conninfo, terminal)


# Before PostgreSQL 17 the queue cannot be made so small that a test could fill it.
if VERSION != "15":

    async def test_a_full_notification_queue_is_told_of_and_refuses_nothing_for_good(
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with running_cluster(max_notify_queue_pages="64") as cluster:
            cluster.create_database("minipos")
            conninfo = cluster.conninfo("minipos")
            async with local_relay(conninfo, proof_seconds=1.0) as relay, terminals(relay.url, 1) as (terminal,):
                with psycopg.connect(cluster.conninfo("postgres")) as offender:
                    offender.execute("listen elsewhere")
                    offender.commit()
                    offender.execute("select 1")  # a listener in a transaction reads nothing, and nothing is let go
                    fill(conninfo)
                    error = await terminal.refused("UPDATE_SETTINGS", {"theme": "dark"})
                    assert error["retryable"], error
                    assert (await relay.health())["database"]["reached"]
                    await until(lambda: ALARM in caplog.text, what="the alarm")
                await until(lambda: is_dark(terminal), within=5.0)
                await agree(conninfo, terminal)


async def is_dark(terminal: Terminal) -> bool:
    return bool((await terminal.ask("UPDATE_SETTINGS", {"theme": "dark"}))["type"] == "ACK")


def fill(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection, suppress(psycopg.errors.ProgramLimitExceeded):
        while True:
            connection.execute("select pg_notify('noise', gen_random_uuid() || repeat('x', 7000))")
