"""The listener when what it listens to is cut, dead, deaf, silent or lying."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import psycopg
import pytest
from psycopg.rows import TupleRow

from relay import versions
from tests.faults.deeds import seat
from tests.load import load
from tests.proxy import proxied
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

SWEEP_SECONDS = 1.5  # by which a change may be late that no doorbell announced
NOTICED_SECONDS = 10.0  # after which a LISTEN connection that is dead without a word is known to be


def cut_listeners(conninfo: str) -> int:
    """Terminate the LISTEN connections to a database."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return len(
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'relay listen' and datname = current_database()"
            ).fetchall()
        )


async def seconds_late(conninfo: str, terminal: Terminal, number: int) -> float:
    """Seconds by which a change made in psql arrives."""
    await asyncio.to_thread(seat, conninfo, number)
    committed = time.monotonic()
    await until(partial(terminal.tables.get, f"psql-{number}"), within=10.0)
    return time.monotonic() - committed


async def test_a_terminated_listen_connection_costs_no_change(database: str) -> None:
    async with (
        local_relay(database) as relay,
        terminals(relay.url, 3) as watching,
        load(database, relay.url, tills=2) as working,
    ):
        for _ in range(4):
            await until(lambda: cut_listeners(database), what="a LISTEN connection")
            await working.goes_on(5)
        await until(relay.ready, within=2.0, what="the relay to listen again")
    assert all(one.faults == [] for one in watching)


async def test_a_change_made_while_nobody_listens_arrives_when_it_listens_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sweep is so rare, also while it is deaf, that only the read after LISTEN can bring the change.
    monkeypatch.setattr("relay.listener.DEAF_SECONDS", 60.0)
    async with local_relay(database, sweep_seconds=60.0) as relay, terminals(relay.url, 1) as (terminal,):
        with psycopg.connect(database) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where application_name = 'relay listen' and datname = current_database()"
            )
            connection.execute('update pos.restaurants set settings = \'{"theme": "dark"}\'')
        await terminal.reaches(1, within=2.0)


async def test_a_change_made_between_the_loss_and_the_next_listen_is_read(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.listener.DEAF_SECONDS", 60.0)
    async with local_relay(database, sweep_seconds=60.0) as relay, terminals(relay.url, 1) as (terminal,):
        asked, slow = asyncio.Event(), asyncio.Event()
        listening = relay.relay.database.listening

        @asynccontextmanager
        async def slowly() -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
            asked.set()
            await slow.wait()
            async with listening() as connection:
                yield connection

        monkeypatch.setattr(relay.relay.database, "listening", slowly)
        await until(lambda: cut_listeners(database), what="a LISTEN connection")
        await asked.wait()
        await until(lambda: not relay.relay.reader._dirty, what="what was read before it listens")
        # Nobody hears its doorbell, and the sweep is so rare that only a read after LISTEN can bring it.
        await asyncio.to_thread(seat, database, 1)
        slow.set()
        await terminal.reaches(1, within=5.0)


async def test_a_hole_in_the_log_is_never_skipped(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 2) as watching:
        await asyncio.to_thread(seat, database, 1)
        await agree(database, *watching)

        def delete_by_hand() -> None:
            with psycopg.connect(database) as connection:
                connection.execute("update pos.tables set seats = 5")
                connection.execute("set constraints all immediate")
                connection.execute("delete from pos.sync_log where revision = 2")
                connection.execute("set constraints all deferred")
                connection.execute("update pos.tables set seats = 6")

        await asyncio.to_thread(delete_by_hand)
        await until(lambda: all(len(one.snapshots) == 2 for one in watching), what="the state for each")
        await asyncio.to_thread(seat, database, 2)
        await agree(database, *watching)
        assert [revision for _, revision, _ in watching[0].applied] == [1, 4]
        assert "the log has a hole" in caplog.text


async def test_a_deaf_listen_connection_is_noticed_while_the_sweep_brings_the_changes(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(database, listen_conninfo=proxy.conninfo) as relay,
        terminals(relay.url, 1) as (terminal,),
    ):
        proxy.deaf = True
        since = time.monotonic()
        late = [await seconds_late(database, terminal, number) for number in range(5)]
        assert max(late) < SWEEP_SECONDS
        await until(lambda: is_degraded(relay), within=NOTICED_SECONDS, what="a degraded health")
        noticed = time.monotonic() - since
        assert noticed < NOTICED_SECONDS
        print(f"noticed after {noticed:.1f} s; changes up to {max(late):.2f} s late")
        assert not await relay.ready()
        proxy.deaf = False
        proxy.reset()
        await until(relay.ready, within=8.0, what="the relay to hear again")
        await agree(database, terminal)


async def is_degraded(relay: LocalRelay) -> bool:
    status, _, health = await relay.get("/health")
    return status == 200 and health["status"] == "degraded" and health["listener"]["hearing"] is False


async def test_without_any_notification_it_is_never_ready_and_every_change_arrives(
    database: str, empty_database: str
) -> None:
    async with (
        local_relay(database, listen_conninfo=empty_database, wait_ready=False) as relay,
        terminals(relay.url, 2) as (terminal, other),
    ):
        # Somebody rings in the other database: it listens there, and still hears nothing of its own.
        late = []
        with psycopg.connect(empty_database, autocommit=True) as elsewhere:
            for number in range(8):
                elsewhere.execute("select pg_notify('pos_doorbell', '1'), pg_notify('pos_proof', 'somebody')")
                late.append(await seconds_late(database, terminal, number))
                assert not await relay.ready()
        assert max(late) < SWEEP_SECONDS
        print(f"changes up to {max(late):.2f} s late")
        assert await is_degraded(relay)
        await agree(database, terminal, other)


async def test_a_version_that_loses_notifications_is_warned_of_once(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MENDED", dict.fromkeys(range(15, 30), 99))
    async with local_relay(database) as relay:
        assert cut_listeners(database)
        await until(lambda: not relay.relay.listener.hearing)
        await until(relay.ready, what="the relay to listen again")
    [said] = [record.getMessage() for record in caplog.records if "upgrade to" in record.getMessage()]
    assert ".99 or later" in said


async def test_forged_doorbells_do_nothing(database: str) -> None:
    forged = ["", "0", "-1", "1.5", "1e3", "٣", "x" * 7000, "9" * 19, "9" * 20, "9" * 400, "null", "2", "' or 1=1"]
    async with (
        local_relay(database) as relay,
        terminals(relay.url, 2) as watching,
        load(database, relay.url, tills=1) as working,
    ):
        before = [len(one.received) for one in watching]
        with psycopg.connect(database, autocommit=True) as connection:
            for _ in range(10):
                connection.execute(
                    "select pg_notify(c, p || repeat(' ', i)) from unnest(%s::text[]) as p, generate_series(0, 9) as i,"
                    " unnest(array['pos_doorbell', 'pos_proof']) as c",
                    (forged,),
                )
                connection.execute("select pg_notify('pos_doorbell', i::text) from generate_series(1, 1000) as i")
                await working.goes_on(3)
        assert (await relay.health())["listener"]["hearing"]
        assert len(relay.relay.hub.rooms) == 1
    await agree(database, *watching)
    for one, start in zip(watching, before, strict=True):
        assert {message["type"] for message in one.received[start:]} == {"UPDATE_TABLE"}


@pytest.mark.parametrize("first", ["listener", "snapshot"])
async def test_messages_go_on_in_a_history_that_has_counted_fewer(database: str, first: str) -> None:
    def heard() -> list[object]:
        return [message["data"] for message in bar.received if message["type"] == "MESSAGE"]

    async with local_relay(database, sweep_seconds=0.2) as relay:
        kitchen, bar = Terminal(relay.url, "kitchen"), Terminal(relay.url, "bar")
        await asyncio.gather(kitchen.connect(sync=False), bar.connect(sync=False))
        for number in range(3):
            await kitchen.ask("MESSAGE", {"bell": number})
        await until(lambda: len(heard()) == 3)
        room = relay.relay.hub.rooms[1]
        with psycopg.connect(database) as connection:  # what a restored backup says of them
            connection.execute("update pos.heads set messages = 0")
            connection.execute("delete from pos.messages")
            connection.execute("update pos.installation set epoch_seed = gen_random_uuid()")
            before = room.epoch
            connection.commit()
            if first == "snapshot":  # before this process looks for itself
                await relay.relay.syncer.snapshot(room)
        await until(lambda: room.epoch != before and room.messages == 0, what="the other history")
        await kitchen.ask("MESSAGE", {"bell": "new"})
        await until(lambda: {"bell": "new"} in heard())
        assert heard() == [{"bell": 0}, {"bell": 1}, {"bell": 2}, {"bell": "new"}]
        await asyncio.gather(kitchen.close(), bar.close())
