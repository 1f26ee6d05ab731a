"""The checksum in a heartbeat: a terminal in production finds out whether it shows what the database holds."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from functools import partial

import psycopg
import pytest
import websockets

from relay.checksums import PAUSE_SECONDS
from tests.cluster import TestCluster
from tests.faults.deeds import execute, order
from tests.flow import add_tables, flow
from tests.proxy import proxied
from tests.relays import LocalRelay, clean_relay, local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

TABLE = {"seats": 4, "status": "available"}
CHECK = {"ping": True, "checksum": True}
SHOP = (
    "insert into pos.tables (restaurant_id, id, number, seats)"
    " select 1, 't' || n, n, 2 from generate_series(1, 5) as n",
    "insert into pos.menu_items (restaurant_id, id, name, price) values (1, 'd1', 'Soup', 25.0), (1, 'd 2', 'Tea', 8)",
    "insert into pos.categories (restaurant_id, name) values (1, 'Soups'), (1, 'မုန့် 🍜')",
    "insert into pos.order_history (restaurant_id, id, status, total)"
    " select 1, 'o' || n, 'pending', 5 from generate_series(1, 5) as n",
    """update pos.restaurants set settings = '{"theme": "dark", "empty": "", "taxRate": 5.50, "open": true, "x": null,
       "y": [1], "z": {"a": 1}}'""",
)


def count_checklists(relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the database is asked for one from now on."""
    reads: Counter[str] = Counter()
    read = relay.relay.database.checklist

    async def counted(restaurant_id: int, orders: int) -> object:
        reads["checklist"] += 1
        return await read(restaurant_id, orders)

    monkeypatch.setattr(relay.relay.database, "checklist", counted)
    return reads


def fill(conninfo: str) -> None:
    for statement in SHOP:
        execute(conninfo, statement)


async def test_a_heartbeat_that_asks_for_it_has_the_checksum_of_its_revision(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", {"id": "t1", "number": 1, **TABLE})
        await only.reaches(1)
        await only.say("HEARTBEAT", CHECK)
        answer = await only.hears("HEARTBEAT")
        assert answer["data"] == {
            "response": True,
            "revision": 1,
            "head": 1,
            "checksum": only.checksum(1000),
            "orders": 1000,
        }
        # As the JavaScript of docs/protocol.md has it too.
        assert answer["data"]["checksum"] == 3529851995


@pytest.mark.parametrize("data", [{"ping": True}, {"ping": True, "checksum": False}, {"checksum": None}])
async def test_one_that_does_not_ask_is_answered_as_ever(relay: LocalRelay, data: dict[str, object]) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.say("HEARTBEAT", data)
        assert (await only.hears("HEARTBEAT"))["data"] == {"response": True, "revision": 0, "head": 0}


async def test_an_answer_is_not_answered_because_it_asks_for_a_checksum(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.say("HEARTBEAT", {"response": True, "checksum": True})
        refused = await only.refused("HEARTBEAT", {"checksum": "yes"})
        assert (refused["code"], refused["field"]) == ("VALIDATION", "data.checksum")
        assert [m for m in only.received if m["type"] == "HEARTBEAT"] == []


async def test_terminals_agree_whether_they_saw_the_changes_or_a_snapshot(database: str, relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (old,):
        fill(database)
        await old.dish("update_item", {"id": "d1", "price": 25})
        await old.dish("delete_item", {"id": "d 2"})
        await old.dish("delete_category", {"name": "Soups"})
        await old.order("update", {"id": "o2", "status": "completed"})
        await old.update("UPDATE_SETTINGS", "update", {"taxRate": 7, "theme": "light"})
        async with terminals(relay.url, 1) as (new,):
            await agree(database, old, new)
            assert [await old.checks(), await new.checks()] == [True, True]
            await old.order("clear", {})
            await old.order("add", order("late"))
            await old.order("update", {"id": "o1", "status": "completed"})
            await agree(database, old, new)
            assert list(new.orders) == ["late", "o1"]
            assert [await old.checks(), await new.checks()] == [True, True]


async def test_only_the_newest_orders_count_so_that_old_and_new_terminals_agree(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with clean_relay(database, caplog, snapshot_orders=3) as relay, terminals(relay.url, 1) as (old,):
        for number in range(6):
            await old.order("add", order(f"o{number}"))
        await old.reaches(6)
        async with terminals(relay.url, 1) as (new,):
            assert (len(old.orders), list(new.orders)) == (6, ["o3", "o4", "o5"])
            assert [await old.checks(), await new.checks()] == [True, True]
            # One that the snapshot left out is changed, and is the newest now.
            await old.order("update", {"id": "o0", "status": "completed"})
            for one in (old, new):
                await one.reaches(7)
                assert await one.checks() is True


def lose_a_table(terminal: Terminal) -> None:
    del terminal.tables["t3"]


def hold_an_older_dish(terminal: Terminal) -> None:
    terminal.menu["d1"] = {**terminal.menu["d1"], "version": 1}


def hold_a_table_too_many(terminal: Terminal) -> None:
    terminal.tables["t9"] = {"id": "t9", "version": 1}


def hold_an_order_too_many(terminal: Terminal) -> None:
    terminal.orders["o9"] = {"id": "o9", "version": 1}


def lose_a_category(terminal: Terminal) -> None:
    terminal.categories.remove("Soups")


def swap_two_versions(terminal: Terminal) -> None:
    first, other = terminal.tables["t1"], terminal.tables["t2"]
    first["version"], other["version"] = other["version"], first["version"]


def miss_a_setting(terminal: Terminal) -> None:
    terminal.settings = {**terminal.settings, "theme": "light"}


def take_a_dish_for_a_table(terminal: Terminal) -> None:
    terminal.tables["d1"] = terminal.menu.pop("d1")


@pytest.mark.parametrize(
    "fault",
    [
        lose_a_table,
        hold_an_older_dish,
        hold_a_table_too_many,
        hold_an_order_too_many,
        lose_a_category,
        swap_two_versions,
        miss_a_setting,
        take_a_dish_for_a_table,
    ],
)
async def test_a_terminal_that_shows_something_else_finds_out_and_syncs(
    database: str, relay: LocalRelay, fault: object
) -> None:
    assert callable(fault)
    fill(database)
    execute(database, "update pos.menu_items set price = 26 where id = 'd1'")
    execute(database, "update pos.tables set seats = 5 where id = 't1'")
    async with terminals(relay.url, 2) as (sound, broken):
        fault(broken)
        assert [await sound.checks(), await broken.checks()] == [True, False]
        await broken.say("SYNC_REQUEST")
        await until(lambda: len(broken.snapshots) == 2)
        assert await broken.checks() is True
        await agree(database, sound, broken)


async def test_it_costs_one_read_per_revision_however_many_ask(
    database: str, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    async with terminals(relay.url, 10) as many:
        reads = count_checklists(relay, monkeypatch)
        for _ in range(3):
            assert await asyncio.gather(*(one.checks() for one in many)) == [True] * 10
        assert reads["checklist"] == 1
        ack = await many[0].table("update", {"id": "t1", "seats": 9})
        for one in many:
            await one.reaches(ack["revision"])
        assert await asyncio.gather(*(one.checks() for one in many)) == [True] * 10
        assert reads["checklist"] == 2


async def test_a_checksum_that_is_slow_to_read_holds_up_no_other_answer(database: str, relay: LocalRelay) -> None:
    fill(database)
    async with terminals(relay.url, 1) as (only,):
        before = only.revision, only.checksum(1000)
        with psycopg.connect(database) as person:
            person.execute("lock table pos.categories in access exclusive mode")
            await only.say("HEARTBEAT", CHECK)
            asked = time.monotonic()
            await only.say("HEARTBEAT", {"ping": True})
            await only.hears("HEARTBEAT")
            await only.table("update", {"id": "t1", "seats": 9})
            await only.update("NEXT_ORDER_ID", "", {})
            assert time.monotonic() - asked < 1.0
            [plain] = heartbeats(only)
            assert "checksum" not in plain
        await until(lambda: len(heartbeats(only)) == 2, what="the other answer")
        # The read began before the change, and says so.
        late = heartbeats(only)[1]
        assert (late["revision"], late["checksum"]) == before
        assert await only.checks() is True


async def test_asking_again_and_again_costs_the_database_two_reads_a_second(
    database: str, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tables(database)
    async with terminals(relay.url, 3) as many:
        reads = count_checklists(relay, monkeypatch)
        since, rounds = time.monotonic(), 0
        with flow(database, per_second=100):
            while time.monotonic() - since < 3.0:
                before = [len(heartbeats(one)) for one in many]
                for one in many:
                    for _ in range(20):
                        await one.say("HEARTBEAT", CHECK)
                for one, answered in zip(many, before, strict=True):
                    await until(lambda one=one, least=answered + 20: len(heartbeats(one)) >= least)  # type: ignore[misc]
                rounds += 1
        assert reads["checklist"] <= 1 + (time.monotonic() - since) / PAUSE_SECONDS
        assert rounds > 1
        await agree(database, *many)


def heartbeats(terminal: Terminal) -> list[dict[str, object]]:
    """The data of every answer to a heartbeat so far."""
    return [message["data"] for message in terminal.received if message["type"] == "HEARTBEAT"]


async def test_under_a_flow_of_changes_no_checksum_is_of_another_revision(database: str, relay: LocalRelay) -> None:
    add_tables(database)
    async with terminals(relay.url, 3) as many:
        found: Counter[bool | None] = Counter()
        with flow(database, per_second=100):
            while found[True] < 15:
                found.update(await asyncio.gather(*(one.checks() for one in many)))
        assert found[False] == 0
        await agree(database, *many)


async def test_an_answer_waits_for_what_the_terminal_has_yet_to_be_sent(
    database: str, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", {"id": "t1", "number": 1, **TABLE})
        await only.reaches(1)
        # It reads the database before the room has heard of the change.
        take, late = relay.relay.hub.take, asyncio.Event()
        held: list[partial[None]] = []

        def take_late(*arguments: object) -> None:
            held.append(partial(take, *arguments))  # type: ignore[arg-type]
            late.set()

        monkeypatch.setattr(relay.relay.hub, "take", take_late)
        execute(database, "update pos.tables set seats = 8")
        await late.wait()
        await only.say("HEARTBEAT", CHECK)
        await until(lambda: relay.relay.hub.rooms[1].moved._waiters, what="the heartbeat to wait")
        assert only.revision == 1
        monkeypatch.undo()
        held[0]()
        answer = await only.hears("HEARTBEAT")
        assert answer["data"]["revision"] == only.revision == 2
        assert answer["data"]["checksum"] == only.checksum(1000)


async def test_a_terminal_that_lags_is_answered_without_it(database: str, relay: LocalRelay) -> None:
    async with websockets.connect(relay.url, max_queue=1, compression=None, max_size=None) as slow:
        await slow.send('{"type": "SYNC_REQUEST"}')
        await slow.recv()
        execute(
            database,
            "insert into pos.menu_items (restaurant_id, id, name, price, image)"
            " select 1, n::text, 'x', 1, repeat('x', 30000) from generate_series(1, 200) as n",
        )
        room = relay.relay.hub.room_of("default")
        assert room is not None
        (session,) = room.sessions
        await until(lambda: room.head == 200 and session.lagging)
        await slow.send(json.dumps({"type": "HEARTBEAT", "data": CHECK}))
        written, answer = 0, None
        while written < 200:
            message = json.loads(await slow.recv())
            if message["type"] == "HEARTBEAT":
                answer = message["data"]
                assert answer == {"response": True, "revision": written, "head": 200}
            written = message.get("revision", written)
        assert answer is not None


async def test_while_the_database_is_away_a_heartbeat_is_answered_without_it(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos")
    conninfo = private_cluster.conninfo("minipos")
    async with local_relay(conninfo) as relay, terminals(relay.url, 1) as (only,):
        await only.table("add", {"id": "t1", "number": 1, **TABLE})
        await only.reaches(1)
        await asyncio.to_thread(private_cluster.stop)
        await only.say("HEARTBEAT", CHECK)
        assert (await only.hears("HEARTBEAT"))["data"] == {"response": True, "revision": 1, "head": 1}
        await asyncio.to_thread(private_cluster.start)
        await until(only.checks, within=10.0, what="a checksum again")


async def test_a_database_that_is_deaf_holds_a_heartbeat_up_for_a_moment(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 5) as many,
    ):
        proxy.deaf = True
        asked = time.monotonic()
        for one in many:
            await one.say("HEARTBEAT", CHECK)
        for one in many:
            assert (await one.hears("HEARTBEAT"))["data"] == {"response": True, "revision": 0, "head": 0}
        # Each waits for itself: two seconds, and not two for each that asked before.
        assert time.monotonic() - asked < 4.5
        proxy.deaf = False
        proxy.reset()
        await until(many[0].checks, within=15.0, what="a checksum again")


async def test_a_restaurants_checksum_is_its_own(database: str, relay: LocalRelay) -> None:
    fill(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("insert into pos.restaurants (slug, name) values ('other', 'Another')")
    async with terminals(relay.url, 1) as (here,), terminals(f"{relay.url}?restaurant=other", 1) as (there,):
        await there.table("add", {"id": "t1", "number": 1, **TABLE})
        await there.reaches(1)
        assert [await here.checks(), await there.checks()] == [True, True]
        assert here.checksum(1000) != there.checksum(1000)
