"""The process: how it starts, how it leaves, and what is left of it when it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import time
from functools import partial

import psycopg
import pytest
import websockets
from psycopg.conninfo import make_conninfo

from tests.cluster import TestCluster
from tests.faults.deeds import OTHERS_SECONDS, TABLE, execute, lock_table, make_tables
from tests.load import load
from tests.proxy import proxied
from tests.relays import RelayProcess, local_relay, relay_process
from tests.terminals import agree, terminals
from tests.waiting import until

STOP_SECONDS = 4.0  # two are promised, the rest is a busy machine
AT_WORK = "select count(*) from pg_stat_activity where application_name = 'relay write' and state = 'active'"
SECRET = "s3cr3t/pass"
SAID = ("Mrs Robinson", "a-secret-dish")


def says(relay: RelayProcess, words: str) -> bool:
    return words in relay.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(database: str, number: signal.Signals) -> None:
    async with relay_process(database) as relay, terminals(relay.url, 5) as (first, *others):
        await first.table("add", {"id": "t1", "number": 1, **TABLE})
        with psycopg.connect(database) as person:
            person.execute("select from pos.tables for update")
            asked = [asyncio.create_task(first.table("update", {"id": "t1", "count": count})) for count in range(20)]
            await until(lambda: is_pending(relay, 20))
            os.killpg(relay.pid, number)  # as Ctrl-C in a shell
            await until(lambda: relay.refuses, what="the end of listening")
            relay.send(signal.SIGTERM)  # a second time, by who is impatient
        released = time.monotonic()
        # What was begun is ended, and acknowledged.
        await asyncio.gather(*asked)
        assert await relay.ended(within=STOP_SECONDS) == 0
        assert time.monotonic() - released < STOP_SECONDS
        for one in (first, *others):
            await until(partial(getattr, one, "close_code"))
            assert one.close_code == 1012
            assert re.search(r"retry after \d+(\.\d)? s", one.close_reason), one.close_reason
    assert execute(database, "select extra ->> 'count' from pos.tables") == "19"


async def test_what_is_held_up_when_it_leaves_is_still_done(database: str) -> None:
    async with relay_process(database) as relay, terminals(relay.url, 1) as (terminal,):
        await make_tables(terminal, "t1")
        with psycopg.connect(database) as person:
            lock_table(person, "t1")
            for count in range(5):
                await terminal.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "count": count}})
            await until(lambda: is_pending(relay, 5))
            relay.send(signal.SIGTERM)
            await until(lambda: terminal.close_code)
        assert await relay.ended(within=STOP_SECONDS) == 0
    assert execute(database, "select extra ->> 'count' from pos.tables") == "4"


async def test_a_deaf_database_does_not_keep_it_from_leaving(database: str) -> None:
    async with (
        proxied(database) as proxy,
        relay_process(proxy.conninfo, RELAY_SWEEP_SECONDS="0.3") as relay,
        terminals(relay.url, 2),
    ):
        proxy.deaf = True
        await until(lambda: is_down(relay), within=6.0, what="a health that is down")
        relay.send(signal.SIGTERM)
        assert await relay.ended(within=STOP_SECONDS) == 0


async def is_down(relay: RelayProcess) -> bool:
    return (await relay.get("/health"))[0] == 503


async def is_pending(relay: RelayProcess, mutations: int) -> bool:
    return bool((await relay.health())["pending"] == mutations)


async def test_a_killed_relay_loses_nothing_it_acknowledged(database: str) -> None:
    async with relay_process(database) as relay, load(database, relay.url, tills=6) as working:
        for _ in range(2):
            await working.goes_on(10)
            await relay.kill()
            await relay.start(wait_ready=False)
        await working.goes_on(5)


async def test_a_killed_relay_has_acknowledged_nothing_that_was_not_committed(database: str) -> None:
    async with relay_process(database) as relay, terminals(relay.url, 1) as (terminal,):
        await make_tables(terminal, "t1")
        with psycopg.connect(database) as person:
            lock_table(person, "t1")
            asked = asyncio.create_task(terminal.table("update", {"id": "t1", "seats": 8}, id="m1"))
            await until(lambda: is_pending(relay, 1))
            await relay.kill()
            with pytest.raises(websockets.ConnectionClosed):
                await asked
            # What it had asked PostgreSQL for gives up the lock by itself.
            await until(lambda: not execute(database, AT_WORK), what="the end of its statement")
        assert execute(database, "select seats from pos.tables") == 4
        await relay.start()
        await terminal.connect()
        await terminal.table("update", {"id": "t1", "seats": 8}, id="m1")
        await agree(database, terminal)


async def test_a_frozen_relay_hinders_nobody_and_catches_up(database: str) -> None:
    async with (
        relay_process(database) as frozen,
        local_relay(database) as other,
        terminals(frozen.url, 2) as (waiting, watching),
        load(database, other.url, tills=2) as working,
    ):
        await waiting.table("add", {"id": "t1", "number": 1001, **TABLE})
        await working.goes_on(20)
        for till in working.tills:
            till.slowest = 0.0
        frozen.send(signal.SIGSTOP)
        since = time.monotonic()
        asked = asyncio.create_task(waiting.table("update", {"id": "t1", "seats": 8}))
        await until(lambda: time.monotonic() - since > 3.0)
        assert max(till.slowest for till in working.tills) < OTHERS_SECONDS
        frozen.send(signal.SIGCONT)
        await asked
        await working.goes_on(5)
        await working.stop()
        await agree(database, waiting, watching)


async def test_a_part_that_dies_ends_the_relay_with_an_error(database: str) -> None:
    async with relay_process(database) as relay, terminals(relay.url, 1) as (terminal,):
        # What no retry mends.
        execute(
            database,
            "create or replace function pos.read_heads(p_restaurant_ids bigint[])"
            " returns table (epoch text, restaurant_id bigint, revision bigint, messages bigint, staff bigint)"
            " language plpgsql"
            " as $$ begin raise exception 'not for you' using errcode = '22012'; end $$",
        )
        assert await relay.ended(within=5.0) == 1
        assert "not for you" in relay.log
        await until(lambda: terminal.close_code)
        assert terminal.close_code == 1012


@pytest.mark.parametrize(("version", "sentence"), [(0, "run `relay schema apply`"), (99, "use a newer relay")])
async def test_another_schema_version_is_refused(database: str, version: int, sentence: str) -> None:
    execute(database, f"update pos.installation set version = {version}")
    async with relay_process(database, wait_ready=False) as relay:
        assert await relay.ended(within=20.0) == 1
        assert f"schema has version {version}" in relay.log
        assert sentence in relay.log
        assert "MiniPOS relay" not in relay.log, "it says where it serves, as if it did"
        assert "Traceback" not in relay.log


async def test_a_port_in_use_is_said_in_one_sentence(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with relay_process(database, wait_ready=False, PORT=str(port)) as relay:
            assert await relay.ended(within=20.0) == 1
            assert "address already in use" in relay.log
            assert str(port) in relay.log
            assert "Traceback" not in relay.log


async def test_a_database_that_cannot_be_reached_is_waited_for(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos")
    private_cluster.stop()
    conninfo = private_cluster.conninfo("minipos")
    async with relay_process(conninfo, wait_ready=False) as relay, relay_process(conninfo, wait_ready=False) as leaving:
        for one in (relay, leaving):
            await until(partial(says, one, "waiting for it"), within=10.0)
            await until(partial(says, one, "MiniPOS relay"))
        # It can be ended meanwhile.
        leaving.send(signal.SIGTERM)
        assert await leaving.ended(within=STOP_SECONDS) == 0
        await asyncio.to_thread(private_cluster.start)
        await until(relay.ready, within=5.0, what="the relay to be ready")
        assert relay.log.count("waiting for it") == 1


async def test_the_log_is_json_without_payloads_and_passwords(database: str) -> None:
    conninfo = make_conninfo(database, password=SECRET)
    async with relay_process(conninfo, LOG_LEVEL="debug", LOG_FORMAT="json") as relay:
        async with terminals(relay.url, 2) as (terminal, _):
            await terminal.dish(
                "add_item", {"id": "d", "name": SAID[1], "price": 1, "category": "c", "description": ""}
            )
            await terminal.table("add", {"id": "t", "number": 1, **TABLE, "customer": {"name": SAID[0]}})
            await terminal.refused("UPDATE_TABLE", {"action": "add", "data": {"id": "u", "number": SAID[0]}})
            await terminal.send_text('{"type": "' + SAID[1] + '"}')
            await terminal.say("MESSAGE", {"text": SAID[0]})
            execute(
                database, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'relay %'"
            )
            await terminal.table("update", {"id": "t", "customer": {"name": SAID[0]}, "seats": 5})
        relay.send(signal.SIGTERM)
        assert await relay.ended(within=STOP_SECONDS) == 0
        lines = [line for line in relay.log.splitlines() if line.startswith("{")]
        parts = {json.loads(line)["part"] for line in lines}
        assert {"connection", "writer", "listener"} <= parts
        for said in (SECRET, *SAID):
            assert said not in relay.log
