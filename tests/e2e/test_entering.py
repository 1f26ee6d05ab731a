"""How a terminal comes to its restaurant: which one, and what happens while the database is slow to say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import psycopg
import pytest

from relay import slugs
from relay.connection import Connection
from tests.flow import truncate_log
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}


@contextmanager
def locked(conninfo: str, table: str) -> Iterator[None]:
    """Nobody reads this table meanwhile."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(f"lock table pos.{table} in access exclusive mode".encode())
        yield
        connection.rollback()


def execute(conninfo: str, statement: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(statement.encode())


def connections(relay: LocalRelay) -> list[Connection]:
    return cast(list[Connection], list(relay.relay.connections.open))


def held(relay: LocalRelay) -> list[int]:
    """How many messages each connection keeps for when its restaurant is known."""
    return [len(one._held) for one in connections(relay)]


def over(relay: LocalRelay) -> list[bool]:
    """Whether each connection has lost its terminal."""
    return [one._over for one in connections(relay)]


@pytest.mark.parametrize(
    "query",
    ["", "?restaurant=default", "?restaurant=", "?x=1&restaurant=default&y", "?restaurant=default&restaurant=x"],
)
async def test_the_default_restaurant_is_entered_and_unknown_parameters_ignored(relay: LocalRelay, query: str) -> None:
    async with Terminal(relay.url + query) as one, Terminal(relay.url) as other:
        assert (await one.hears("WELCOME"))["data"]["restaurant"] == "default"
        await one.table("add", TABLE)
        await other.reaches(1)
    assert (await relay.get(f"/api/tables{query}"))[2]["revision"] == 1


async def test_the_root_path_is_the_same_websocket(relay: LocalRelay) -> None:
    async with Terminal(relay.url.removesuffix("ws")) as at_root, Terminal(relay.url) as other:
        await at_root.table("add", TABLE)
        await other.reaches(1)


@pytest.mark.parametrize(
    "slug",
    [
        "nope",
        "Default",
        "default%20",
        "%00",
        "default%00",
        "%ff",
        "%F0%9F%8D%95" * 60,
        "x" * 3000,
        "%0a%22",
        "1;--",
        "0",
    ],
)
async def test_an_unknown_restaurant_closes_1008_with_the_reason(relay: LocalRelay, slug: str) -> None:
    stranger = Terminal(f"{relay.url}?restaurant={slug}")
    await stranger.connect(hello=False, sync=False)
    await until(lambda: stranger.close_code, what="a close")
    assert stranger.close_code == 1008
    assert stranger.close_reason.startswith("there is no restaurant ")
    assert stranger.received == []
    status, _, body = await relay.get(f"/api/sync?restaurant={slug}")
    assert (status, body["error"]["field"]) == (404, "restaurant")


async def test_a_restaurant_made_by_hand_is_usable_at_once_on_every_instance(relay: LocalRelay, database: str) -> None:
    async with local_relay(database) as other_relay:
        early = await Terminal(f"{relay.url}?restaurant=new").connect(hello=False, sync=False)
        await until(lambda: early.close_code == 1008)
        execute(database, "insert into pos.restaurants (slug, name) values ('new', 'New')")
        async with (
            Terminal(f"{relay.url}?restaurant=new") as one,
            Terminal(f"{other_relay.url}?restaurant=new") as other,
        ):
            assert (await one.hears("WELCOME"))["data"]["restaurant"] == "new"
            assert one.revision == other.revision == 0
            await one.table("add", TABLE)
            await agree(database, one, other, slug="new")
        assert (await other_relay.get("/api/tables?restaurant=new"))[2]["tables"] == [TABLE | {"version": 1}]


async def test_nothing_crosses_from_one_restaurant_to_another(relay: LocalRelay, database: str) -> None:
    execute(database, "insert into pos.restaurants (slug, name) values ('a', 'A'), ('b', 'B')")
    async with Terminal(f"{relay.url}?restaurant=a", "same") as a, Terminal(f"{relay.url}?restaurant=b", "same") as b:
        await a.table("add", TABLE, id="m1")
        assert (await b.table("add", TABLE | {"seats": 2}, id="m1"))["revision"] == 1
        await a.order("clear", {})
        first_id = (await a.ask("NEXT_ORDER_ID"))["data"]["orderId"]
        assert (await b.ask("NEXT_ORDER_ID"))["data"]["orderId"] == first_id
        await a.say("UPDATE_SETTINGS", {"restaurantName": "A", "restaurant": "b", "restaurantId": 3})
        await a.reaches(3)
        await agree(database, a, slug="a")
        await b.say("HEARTBEAT")
        await b.hears("HEARTBEAT")
        heard = [(m["type"], m["data"].get("data", {}).get("seats")) for m in b.received if "revision" in m]
        assert heard == [("UPDATE_TABLE", 2)], "of another restaurant"
        await agree(database, b, slug="b")
        assert (await relay.get("/api/settings?restaurant=b"))[2]["settings"] == {}


async def test_a_terminal_that_comes_while_the_restaurant_cannot_be_found_is_made_up_for(
    relay: LocalRelay, database: str
) -> None:
    late, quiet = Terminal(relay.url, "late"), Terminal(relay.url, "quiet")
    with locked(database, "restaurants"):
        await quiet.connect(sync=False)
        await late.connect(sync=False)
        await late.say("SYNC_REQUEST", {}, id="s")
        await late.say("HEARTBEAT")
        assert (await late.hears("HEARTBEAT"))["data"] == {"response": True, "revision": 0, "head": 0}
        refused = await late.refused("UPDATE_TABLE", {"action": "add", "data": TABLE})
        assert (refused["code"], refused["retryable"]) == ("UNAVAILABLE", True)
        await quiet.hears("ERROR")
        assert [m["data"]["code"] for m in late.received if m["type"] == "ERROR"] == ["UNAVAILABLE"] * 3
    assert (await late.hears("SYNC_RESPONSE"))["ref"] == "s"
    for one in (late, quiet):
        assert (await one.hears("WELCOME"))["data"]["restaurant"] == "default"
    await late.table("add", TABLE)
    await quiet.change(1)
    await agree(database, late)
    await late.close()
    await quiet.close()


async def test_a_mutation_that_nobody_repeats_waits_for_the_restaurant(relay: LocalRelay, database: str) -> None:
    late, leaving = Terminal(relay.url, "late"), Terminal(relay.url, "leaving")
    with locked(database, "restaurants"):
        for one, id_ in ((late, "t1"), (leaving, "t2")):
            await one.connect(sync=False)
            row = TABLE | {"id": id_, "number": int(id_[1])}
            for action, seats in (("add", 2), ("update", 3), ("update", 4)):
                await one.say("UPDATE_TABLE", {"action": action, "data": row | {"seats": seats}})
        await leaving.say("CLIENT_DISCONNECTED")
        await until(lambda: leaving.close_code == 1000)
        # It hears of each of its messages that it was not done: the greeting's refusal, and three more.
        assert [m["data"]["code"] for m in leaving.received] == ["UNAVAILABLE"] * 4
    await late.change(3)
    assert [m["data"]["data"]["seats"] for m in late.received if "revision" in m] == [2, 3, 4]
    await late.close()
    async with terminals(relay.url, 1) as (watcher,):
        await agree(database, watcher)


@pytest.mark.parametrize("says_goodbye", [False, True])
async def test_a_mutation_that_nobody_repeats_is_done_although_its_terminal_is_gone(
    relay: LocalRelay, database: str, says_goodbye: bool
) -> None:
    lost = Terminal(relay.url, "client_1700000000001_abc1" if says_goodbye else "lost")  # the app says it, and is deaf
    with locked(database, "restaurants"):
        await lost.connect(sync=False)
        await lost.say("UPDATE_TABLE", {"action": "add", "data": TABLE})
        await lost.say("UPDATE_TABLE", {"action": "update", "data": TABLE | {"seats": 2}})
        await until(lambda: held(relay) == [3])
        if says_goodbye:
            await lost.say("CLIENT_DISCONNECTED")
        else:
            await lost.cut()
        await until(lambda: over(relay) == [True])
    await until(lambda: not relay.relay.connections.open)
    async with terminals(relay.url, 1) as (watcher,):
        await watcher.reaches(2)
        await agree(database, watcher)


async def test_a_drain_does_not_wait_for_a_terminal_that_is_gone(database: str) -> None:
    lost = Terminal("", "lost")
    with locked(database, "restaurants"):
        async with local_relay(database) as relay:
            lost.url = relay.url
            await lost.connect(sync=False)
            await lost.say("UPDATE_TABLE", {"action": "add", "data": TABLE})
            await until(lambda: held(relay) == [2])
            await lost.cut()
            await until(lambda: over(relay) == [True])
        assert not relay.relay.connections.open


async def test_a_slug_that_was_changed_lets_nobody_in(
    relay: LocalRelay, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "insert into pos.restaurants (slug, name) values ('old', 'O')")
    async with Terminal(f"{relay.url}?restaurant=old") as known:
        execute(database, "update pos.restaurants set slug = 'new' where slug = 'old'")
        monkeypatch.setattr(slugs, "SLUG_SECONDS", 0.0)  # it is asked for now,
        for name in ("first", "second", "third"):
            stranger = await Terminal(f"{relay.url}?restaurant=old", name).connect(hello=False, sync=False)
            await until(lambda: stranger.close_code, what="a close")  # noqa: B023
            assert stranger.close_code == 1008
            monkeypatch.undo()  # and then again only after two seconds
        await known.table("add", TABLE)
        async with Terminal(f"{relay.url}?restaurant=new") as one:
            await agree(database, known, one, slug="new")


async def test_two_syncs_at_once_do_not_move_a_terminal_back(relay: LocalRelay, database: str) -> None:
    late = Terminal(relay.url, "late")
    execute(database, "insert into pos.tables (restaurant_id, id, number, seats) values (1, 't1', 1, 4)")
    with locked(database, "order_history"):
        with locked(database, "restaurants"):
            await late.connect(hello=False, sync=False)
            await late.say("SYNC_REQUEST", {}, id="s1")
            await late.hears("ERROR")
        hub = relay.relay.hub
        await until(lambda: (room := hub.room_of("default")) and room.reading.locked() and room.head == 1)
        await late.say("SYNC_REQUEST", {}, id="s2")
        execute(database, "update pos.tables set seats = 9")
        await until(lambda: (room := hub.room_of("default")) and room.head == 2)
    await until(lambda: len(late.snapshots) == 2)
    await agree(database, late)
    await late.close()


async def test_a_resync_and_a_sync_request_at_once_do_not_move_a_terminal_back(
    relay: LocalRelay, database: str
) -> None:
    execute(database, "insert into pos.tables (restaurant_id, id, number, seats) values (1, 't1', 1, 4)")
    async with terminals(relay.url, 1) as (only,):
        room = relay.relay.hub.room_of("default")
        assert room is not None
        with locked(database, "order_history"):
            await truncate_log(database)  # another epoch: the relay resyncs its terminals by itself
            await until(lambda: room.reading.locked() and room.epoch != only.epoch)
            await only.say("SYNC_REQUEST", {}, id="s")
            execute(database, "update pos.tables set seats = 9")
            await until(lambda: room.head == 2)
        await until(lambda: len(only.snapshots) == 2)  # the resync gives way to the question
        await agree(database, only)


async def test_a_restaurant_that_is_deleted_closes_1008_and_is_not_found_any_more(
    relay: LocalRelay, database: str
) -> None:
    execute(database, "insert into pos.restaurants (slug, name) values ('gone', 'Gone')")
    last = await Terminal(f"{relay.url}?restaurant=gone").connect(sync=False)
    await last.hears("WELCOME")
    execute(database, "delete from pos.restaurants where slug = 'gone'")
    for path in ("sync", "changes", "tables", "menu", "settings"):
        assert (await relay.get(f"/api/{path}?restaurant=gone"))[0] == 404, path
    assert (await last.refused("UPDATE_TABLE", {"action": "add", "data": TABLE}))["code"] == "VALIDATION"
    await last.say("SYNC_REQUEST")
    await until(lambda: last.close_code, what="a close")
    assert last.close_code == 1008


async def test_what_nobody_thought_of_closes_1011_and_is_logged(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 1) as (other,):
        victim = await Terminal(relay.url, "victim").connect(sync=False)
        await victim.hears("WELCOME")
        execute(
            database,
            """create or replace function pos.snapshot(p_restaurant_id bigint, p_orders integer)
               returns table (epoch text, revision bigint, tables text, menu_items text, categories text,
                              settings text, orders text, complete boolean, cleared_revision bigint)
               language plpgsql as $$ begin raise division_by_zero; end $$""",
        )
        await other.table("add", TABLE)
        await other.reaches(1)
        await victim.say("SYNC_REQUEST", {"epoch": "another", "revision": 1})
        await until(lambda: victim.close_code, what="a close")
        assert (victim.close_code, victim.close_reason) == (1011, "the relay failed; its log says why")
        (record,) = [r for r in caplog.records if r.exc_info]
        assert (record.name, record.getMessage()) == ("relay.connection", "a connection failed")
        await other.table("update", {"id": "t1", "seats": 2})
        await until(lambda: len(relay.relay.connections.open) == 1)


async def test_those_who_come_together_look_their_restaurant_up_once(database: str) -> None:
    looking = (
        "select count(*) from pg_stat_activity"
        " where wait_event_type = 'Lock' and query like '%%find_restaurant%%' and pid <> pg_backend_pid()"
    )
    async with local_relay(database) as relay:
        with psycopg.connect(database) as connection, psycopg.connect(database, autocommit=True) as watching:

            def waiting() -> int:
                row = watching.execute(looking).fetchone()
                assert row is not None
                count: int = row[0]
                return count

            connection.execute("lock table pos.restaurants in access exclusive mode")
            come = [await Terminal(relay.url, f"t{number}").connect(sync=False) for number in range(20)]
            await until(lambda: len(relay.relay.connections.open) == 20)
            await until(lambda: waiting() > 0)
            assert waiting() == 1
            connection.rollback()
        for one in come:
            await one.hears("WELCOME")
            await one.close()
