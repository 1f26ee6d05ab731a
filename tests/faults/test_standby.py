"""The relay and a standby: recognised at start, and followed when it is promoted."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from functools import partial

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cluster import TestCluster
from tests.faults.deeds import TABLE, execute
from tests.load import load
from tests.relays import local_relay
from tests.standby import Standby, running_standby
from tests.terminals import Terminal, agree, terminals
from tests.waiting import slow_down, until

SAID = "leads to a standby only"


def primary(cluster: TestCluster) -> str:
    """The connection string of a database in a cluster that may be copied, with the schema installed."""
    cluster.create_database("minipos")
    return cluster.tcp("minipos")


def both(cluster: TestCluster, standby: Standby) -> str:
    """The connection string that names two hosts."""
    return make_conninfo(cluster.tcp("minipos"), host="127.0.0.1,127.0.0.1", port=f"{cluster.port},{standby.port}")


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of a standby, as a person reads it."""
    said = [str(getattr(record, "fields", {}).get("error", record)) for record in caplog.records]
    return [sentence for sentence in said if SAID in sentence]


async def test_a_standby_is_recognised_at_start_and_followed_when_it_is_promoted(
    private_cluster: TestCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_relay(primary(private_cluster)):
        pass  # it installs the schema
    with running_standby(private_cluster) as standby:
        async with local_relay(standby.tcp("minipos"), wait_ready=False) as relay:
            await until(lambda: complaints(caplog), within=10.0, what="a sentence about the standby")
            assert (await relay.get("/health"))[0] == 503
            assert not await relay.ready()
            await asyncio.to_thread(private_cluster.stop)
            await asyncio.to_thread(standby.promote)
            await until(relay.ready, within=15.0, what="the relay to be ready")
            async with terminals(relay.url, 2) as (one, other):
                await one.table("add", {"id": "t1", "number": 1, **TABLE})
                await agree(standby.conninfo("minipos"), one, other)
        # Said once, and it says what to do.
        [sentence] = complaints(caplog)
        assert sentence.startswith("DATABASE_URL")
        assert "name the primary" in sentence
        assert "host=a,b" in sentence


async def test_a_listen_url_that_leads_to_a_standby_is_named(
    private_cluster: TestCluster, caplog: pytest.LogCaptureFixture
) -> None:
    conninfo = primary(private_cluster)
    async with local_relay(conninfo):
        pass
    with running_standby(private_cluster) as standby:
        async with (
            local_relay(conninfo, listen_conninfo=standby.tcp("minipos"), wait_ready=False) as relay,
            terminals(relay.url, 1) as (terminal,),
        ):
            await until(lambda: complaints(caplog), within=10.0, what="a sentence about the standby")
            # By the sweep.
            await terminal.table("add", {"id": "t1", "number": 1, **TABLE})
            await agree(conninfo, terminal)
            assert not await relay.ready()
        [sentence] = complaints(caplog)
        assert sentence.startswith("LISTEN_DATABASE_URL")


async def test_with_both_hosts_named_a_promotion_is_followed_and_every_terminal_is_resynced(
    private_cluster: TestCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with local_relay(primary(private_cluster)):
        pass
    with running_standby(private_cluster) as standby:
        async with (
            local_relay(both(private_cluster, standby)) as relay,
            terminals(relay.url, 3) as watching,
        ):
            async with load(standby.conninfo("minipos"), relay.url, tills=2) as working:
                await working.goes_on(5)
                # Nothing is lost here: the standby has all before its primary goes.
                await working.stop()
                await until(partial(caught_up, private_cluster, standby), what="the standby to catch up")
                await asyncio.to_thread(private_cluster.kill)
                await asyncio.to_thread(standby.promote)
                await until(relay.ready, within=20.0, what="the relay to be ready again")
            for one in watching:
                await until(partial(resynced, one), within=10.0, what="a snapshot of the new history")
            await watching[0].update("UPDATE_SETTINGS", "update", {"theme": "dark"})
            await agree(standby.conninfo("minipos"), *watching)


async def test_what_a_promoted_standby_has_missed_is_gone_from_every_terminal(private_cluster: TestCluster) -> None:
    """An asynchronous failover loses acknowledged changes. It is noticed: nobody goes on showing what is not there."""
    async with local_relay(primary(private_cluster)):
        pass
    with running_standby(private_cluster) as standby:
        async with local_relay(both(private_cluster, standby)) as relay, terminals(relay.url, 3) as many:
            await many[0].table("add", {"id": "kept", "number": 1, **TABLE})
            await until(partial(caught_up, private_cluster, standby), what="the standby to catch up")
            await asyncio.to_thread(standby.stop_copying)
            await many[0].table("add", {"id": "lost", "number": 2, **TABLE})
            await many[0].table("update", {"id": "kept", "seats": 9})
            for one in many:
                await one.reaches(3)
            await asyncio.to_thread(private_cluster.kill)
            await asyncio.to_thread(standby.promote)
            await until(relay.ready, within=20.0, what="the relay to be ready again")
            for one in many:
                await until(partial(resynced, one), within=10.0, what="a snapshot of the new history")
            # The same revisions again, with something else in them.
            await many[1].table("add", {"id": "new", "number": 2, **TABLE})
            await many[1].update("UPDATE_SETTINGS", "update", {"theme": "dark"})
            await agree(standby.conninfo("minipos"), *many)
            assert [set(one.tables) for one in many] == [{"kept", "new"}] * 3


def caught_up(cluster: TestCluster, standby: Standby) -> bool:
    sent = execute(cluster.conninfo("minipos"), "select pg_current_wal_flush_lsn()")
    return bool(execute(standby.conninfo("minipos"), "select pg_last_wal_replay_lsn() >= %s", sent))


def resynced(terminal: Terminal) -> bool:
    return [snapshot["reason"] for snapshot in terminal.snapshots] == ["first-sync", "epoch-changed"]


async def test_an_ack_waits_for_a_synchronous_standby_however_long_it_takes(private_cluster: TestCluster) -> None:
    """However short the relay's own bounds are: what was acknowledged is on both, or a failover would lose it."""
    conninfo = primary(private_cluster)
    async with local_relay(conninfo, statement_ms=100) as relay, terminals(relay.url, 2) as (one, other):
        with running_standby(private_cluster) as standby:
            private_cluster.say("alter system set synchronous_standby_names = '*'")
            private_cluster.say("select pg_reload_conf()")
            waits = "select exists (select from pg_stat_replication where sync_state = 'sync')"
            await until(lambda: asyncio.to_thread(private_cluster.say, waits), what="a synchronous standby")
            await one.table("add", {"id": "t1", "number": 1, **TABLE})

            receiver = standby.say("select pid from pg_stat_wal_receiver")
            os.kill(receiver, signal.SIGSTOP)
            asked = asyncio.create_task(one.table("update", {"id": "t1", "seats": 7}, within=30.0))
            held = "select exists (select from pg_stat_activity where wait_event = 'SyncRep')"
            await until(lambda: asyncio.to_thread(private_cluster.say, held), what="a commit that waits")
            await slow_down(10 * 0.1)  # ten times what a statement may take
            assert private_cluster.say(held)
            assert not asked.done()
            assert other.tables["t1"]["seats"] == TABLE["seats"]

            os.kill(receiver, signal.SIGCONT)
            await asked
            await agree(conninfo, one, other)
            with psycopg.connect(standby.conninfo("minipos")) as connection:
                assert connection.execute("select seats from pos.tables").fetchone() == (7,)
            private_cluster.say("alter system reset synchronous_standby_names")
            private_cluster.say("select pg_reload_conf()")
