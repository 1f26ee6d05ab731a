"""READ_DATABASE_URL: a real standby is read where it shows what the primary does, and costs nobody anything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from relay import metrics, schema, standby
from tests.cluster import TestCluster, running_cluster
from tests.faults.deeds import TABLE, add_restaurant, execute, make_tables, order, seat, waiting_commits
from tests.faults.health import GREEN, NO_STANDBY, rows, said, says
from tests.least import as_role, install_roles
from tests.load import load
from tests.relays import LocalRelay, local_relay
from tests.standby import Standby, running_standby
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

PATHS = ("/api/sync", "/api/tables", "/api/menu", "/api/settings", "/api/orders", "/api/changes?since=0")
NUMBERS = count(1)


@pytest.fixture(scope="module")
def primary() -> Iterator[TestCluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def copied(primary: TestCluster) -> AsyncIterator[tuple[str, Standby, str]]:
    """A database on the primary, a standby, and the database's name."""
    name = f"minipos_{next(NUMBERS)}"
    primary.create_database(name)
    await schema.apply(primary.tcp(name))
    with running_standby(primary) as copy:
        yield primary.tcp(name), copy, name


@asynccontextmanager
async def reading(conninfo: str, read_conninfo: str, **settings: Any) -> AsyncIterator[LocalRelay]:
    """A relay that reads from a standby, once it does."""
    async with local_relay(conninfo, read_conninfo=read_conninfo, **settings) as relay:
        await until(lambda: relay.relay.reads.is_asked, what="a standby that is asked")
        yield relay


def counted(outcome: str) -> float:
    """How many reads of the standby ended so."""
    samples = [s for metric in metrics.STANDBY.collect() for s in metric.samples if s.name.endswith("_total")]
    return sum(s.value for s in samples if s.labels["outcome"] == outcome)


@contextmanager
def ends(outcome: str) -> Iterator[None]:
    """Within it some read of the standby ends so."""
    before = counted(outcome)
    yield
    assert counted(outcome) > before, f"no read was {outcome}"


async def has_all(conninfo: str, copy: Standby) -> None:
    """Wait until a standby has replayed what is committed."""
    position = await asyncio.to_thread(execute, conninfo, "select pg_current_wal_flush_lsn()::text")
    await until(lambda: asyncio.to_thread(copy.has_all, position), what="the standby")


async def test_states_and_pages_come_from_the_standby_and_are_those_of_the_primary(
    copied: tuple[str, Standby, str],
) -> None:
    conninfo, copy, name = copied
    async with (
        reading(conninfo, copy.tcp(name)) as relay,
        local_relay(conninfo) as other,
        terminals(relay.url, 2) as (one, two),
    ):
        await make_tables(one, "t1", "t2")
        await one.dish("add_item", {"id": "d", "name": "Tea", "price": 8, "category": "c", "description": ""})
        for number in range(3):
            await one.order("add", order(f"o{number}"))
        await has_all(conninfo, copy)
        before = counted("standby")
        for path in PATHS:
            found, expected = await relay.get(path), await other.get(path)
            assert (found[0], found[1].get("etag"), found[2]) == (200, expected[1].get("etag"), expected[2]), path
        assert counted("standby") == before + 3  # the parts of the state are of one read
        async with Terminal(relay.url) as late:
            await agree(conninfo, one, two, late)
        assert (await relay.get("/api/sync?restaurant=nobody"))[0] == 404
        assert await said(relay) == GREEN


async def test_a_standby_that_replays_nothing_moves_nobody_back_and_is_not_waited_for(
    copied: tuple[str, Standby, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "BEHIND_SECONDS", 1.0)
    conninfo, copy, name = copied
    async with reading(conninfo, copy.tcp(name)) as relay, terminals(relay.url, 1) as (one,):
        await make_tables(one, "t1")
        await has_all(conninfo, copy)
        copy.say("select pg_wal_replay_pause()")
        await one.table("update", {"id": "t1", "seats": 9})
        await one.order("add", order("o1"))
        with ends("behind"):
            assert (await relay.get("/api/tables"))[2]["tables"][0]["seats"] == 9
            assert (await relay.get("/api/orders"))[2]["orders"][0]["id"] == "o1"
            assert (await relay.get("/api/changes?since=2"))[2]["changes"][0]["data"]["data"]["id"] == "o1"
        async with Terminal(relay.url) as late:
            assert late.tables["t1"]["seats"] == 9
            await agree(conninfo, one, late)
        # Without any terminal's change too, it is known to be behind.
        await says(relay, rows()[NO_STANDBY], 15.0)
        assert "behind" in (await relay.health())["problems"][0]
        copy.say("select pg_wal_replay_resume()")
        await says(relay, GREEN, 15.0)
        await one.table("update", {"id": "t1", "seats": 5})
        await has_all(conninfo, copy)
        with ends("standby"):
            assert (await relay.get("/api/tables"))[2]["tables"][0]["seats"] == 5


async def test_what_has_no_revision_is_not_taken_from_a_standby_that_lacks_it(
    copied: tuple[str, Standby, str],
) -> None:
    """The mark `complete`: lists that are sent without it would wipe what a browser holds."""
    conninfo, copy, name = copied
    async with reading(conninfo, copy.tcp(name)) as relay:
        await asyncio.to_thread(seat, conninfo, 1)
        await has_all(conninfo, copy)
        restaurant_id = execute(conninfo, "select restaurant_id from pos.restaurants")
        assert not (await relay.relay.reads.snapshot(restaurant_id, 10)).complete
        copy.say("select pg_wal_replay_pause()")
        execute(conninfo, "update pos.restaurants set complete = true")
        with ends("behind"):
            assert (await relay.relay.reads.snapshot(restaurant_id, 10)).complete
        copy.say("select pg_wal_replay_resume()")
        await has_all(conninfo, copy)
        with ends("standby"):
            assert (await relay.relay.reads.snapshot(restaurant_id, 10)).complete


async def test_a_killed_standby_costs_nothing_but_the_primarys_read(copied: tuple[str, Standby, str]) -> None:
    conninfo, copy, name = copied
    async with reading(conninfo, copy.tcp(name)) as relay, terminals(relay.url, 1) as (one,):
        await make_tables(one, "t1")
        await asyncio.to_thread(copy.kill)
        for seats in range(5):
            await one.table("update", {"id": "t1", "seats": seats})
            assert (await relay.get("/api/tables"))[2]["tables"][0]["seats"] == seats
        async with Terminal(relay.url) as late:
            await agree(conninfo, one, late)
        await says(relay, rows()[NO_STANDBY], 15.0)
        await asyncio.to_thread(copy.restart)
        await says(relay, GREEN, 30.0)
        await has_all(conninfo, copy)
        await one.table("update", {"id": "t1", "seats": 7})
        await has_all(conninfo, copy)
        with ends("standby"):
            assert (await relay.get("/api/tables"))[2]["tables"][0]["seats"] == 7


async def test_a_standby_that_stands_still_is_given_up_and_then_not_asked(
    copied: tuple[str, Standby, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "LOOK_SECONDS", 600.0)  # whoever asks finds it out
    conninfo, copy, name = copied
    async with reading(conninfo, copy.tcp(name)) as relay, terminals(relay.url, 1) as (one,):
        await make_tables(one, "t1")
        with copy.frozen():
            with ends("away"):
                found = await asyncio.wait_for(relay.get("/api/orders"), 10.0)
            assert found[0] == 200
            await until(lambda: not relay.relay.reads.is_asked, what="the look that finds it out")
            before = counted("away")
            assert (await relay.get("/api/tables"))[2]["tables"][0]["id"] == "t1"
            assert counted("away") == before


def make_slow(conninfo: str, *slugs: str) -> None:
    """Make restaurants whose state a standby, and only that, takes long to read."""
    sound = execute(conninfo, "select pg_get_functiondef('pos.row_of(pos.tables)'::regprocedure)")
    slowly = "if p_row.id = 'slow' and pg_is_in_recovery() then perform pg_sleep(1.5); end if;"
    execute(conninfo, sound.replace("begin", f"begin {slowly}", 1))
    seat(conninfo, 1)
    for slug in slugs:
        add_restaurant(conninfo, slug)
        add_table(conninfo, slug, "slow", 1)


def add_table(conninfo: str, slug: str, id_: str, number: int) -> None:
    execute(
        conninfo,
        "insert into pos.tables (restaurant_id, id, number, seats, status)"
        " select restaurant_id, %s, %s, 4, 'available' from pos.find_restaurant(%s)",
        id_,
        number,
        slug,
    )


async def test_a_slow_restaurant_takes_the_standby_from_no_other(copied: tuple[str, Standby, str]) -> None:
    conninfo, copy, name = copied
    make_slow(conninfo, "slow")
    await has_all(conninfo, copy)
    async with reading(conninfo, copy.tcp(name)) as relay:
        with ends("away"):
            assert (await relay.get("/api/tables?restaurant=slow"))[2]["tables"][0]["id"] == "slow"
        with ends("standby"):
            assert (await relay.get("/api/tables"))[0] == 200
        add_table(conninfo, "slow", "more", 2)
        await has_all(conninfo, copy)
        before = [counted(outcome) for outcome in ("standby", "away", "behind", "ahead", "foreign")]
        assert len((await relay.get("/api/tables?restaurant=slow"))[2]["tables"]) == 2
        assert [counted(outcome) for outcome in ("standby", "away", "behind", "ahead", "foreign")] == before
        assert await said(relay) == GREEN


async def test_a_standby_that_is_slow_for_everybody_is_left_alone(copied: tuple[str, Standby, str]) -> None:
    conninfo, copy, name = copied
    slugs = [f"slow-{number}" for number in range(standby.SLOW_RESTAURANTS)]
    make_slow(conninfo, *slugs)
    await has_all(conninfo, copy)
    async with reading(conninfo, copy.tcp(name)) as relay:
        for slug in slugs:
            assert relay.relay.reads.is_asked
            assert (await relay.get(f"/api/tables?restaurant={slug}"))[2]["tables"][0]["id"] == "slow"
        assert not relay.relay.reads.is_asked
        assert "it is slow" in (await relay.health())["problems"][0]


async def test_a_restaurant_that_stays_slow_is_said_once(
    copied: tuple[str, Standby, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(standby, "REST_SECONDS", 0.0)
    conninfo, copy, name = copied
    make_slow(conninfo, "slow")
    await has_all(conninfo, copy)
    restaurant_id = execute(conninfo, "select restaurant_id from pos.find_restaurant('slow')")
    async with reading(conninfo, copy.tcp(name)) as relay:
        for _ in range(2):
            with ends("away"):
                await relay.relay.reads.snapshot(restaurant_id, 10)
    assert len([one for one in caplog.records if "slow for a restaurant" in one.getMessage()]) == 1


async def test_the_restaurants_that_a_standby_is_not_asked_for_are_bounded(
    copied: tuple[str, Standby, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "RESTING", 1)
    conninfo, copy, name = copied
    make_slow(conninfo, "slow-1", "slow-2")
    await has_all(conninfo, copy)
    async with reading(conninfo, copy.tcp(name)) as relay:
        ids = [execute(conninfo, "select restaurant_id from pos.find_restaurant(%s)", f"slow-{n}") for n in (1, 2, 1)]
        for restaurant_id in ids:
            with ends("away"):
                await relay.relay.reads.snapshot(restaurant_id, 10)
            with ends("standby"):
                assert (await relay.get("/api/orders"))[0] == 200


async def test_a_promoted_standby_is_never_believed_even_where_its_revisions_are_the_same(
    copied: tuple[str, Standby, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "LOOK_SECONDS", 600.0)  # as long as nobody has noticed
    monkeypatch.setattr(standby, "REST_SECONDS", 0.0)
    conninfo, copy, name = copied
    async with reading(conninfo, copy.tcp(name)) as relay, terminals(relay.url, 1) as (one,):
        await make_tables(one, "t1")
        await has_all(conninfo, copy)
        assert (await relay.get("/api/orders"))[0] == 200  # a connection that outlives the promotion
        await asyncio.to_thread(copy.promote)
        # The same revisions on both, with something else in them; then more of them on either.
        for behind in range(3):
            if behind < 2:
                execute(copy.tcp(name), "update pos.tables set seats = 99 + seats where id = 't1'")
            await one.table("update", {"id": "t1", "seats": behind})
            with ends("foreign" if behind < 2 else "behind"):
                assert (await relay.get("/api/tables"))[2]["tables"][0]["seats"] == behind
                assert (await relay.get("/api/changes?since=1"))[2]["changes"][-1]["data"]["data"]["seats"] == behind
        for _ in range(5):
            execute(copy.tcp(name), "update pos.tables set seats = 99 + seats where id = 't1'")
        with ends("foreign"):
            assert (await relay.get("/api/orders"))[0] == 200
        async with Terminal(relay.url) as late:
            await agree(conninfo, one, late)
        # And when somebody looks, it is said.
        pool = relay.relay.reads._pool
        assert pool is not None
        await relay.relay.reads._look(pool)
        assert "no standby any more" in (await relay.health())["problems"][0]


async def test_a_commit_that_waits_for_its_standby_is_not_shown_before_the_primary_shows_it(
    copied: tuple[str, Standby, str], primary: TestCluster
) -> None:
    """The standby has it already. Whoever was sent it would be ahead of everybody."""
    conninfo, copy, name = copied
    async with reading(conninfo, copy.tcp(name)) as relay:
        await asyncio.to_thread(seat, conninfo, 1)
        await has_all(conninfo, copy)
        async with waiting_commits(primary, conninfo):
            waiting = asyncio.create_task(asyncio.to_thread(seat, conninfo, 2))
            there = "select exists (select from pos.tables where id = 'psql-2')"
            await until(lambda: asyncio.to_thread(execute, copy.tcp(name), there), what="the change at the standby")
            with ends("ahead"):
                found = (await relay.get("/api/tables"))[2]
            assert [row["id"] for row in found["tables"]] == ["psql-1"]
            assert await said(relay) == GREEN
        await waiting
        with ends("standby"):
            assert len((await relay.get("/api/tables"))[2]["tables"]) == 2


async def test_a_read_address_of_another_database_is_never_believed(
    copied: tuple[str, Standby, str], primary: TestCluster
) -> None:
    """Of the same cluster, with the same ids and revisions."""
    conninfo, copy, _ = copied
    other = f"other_{next(NUMBERS)}"
    primary.create_database(other)
    await schema.apply(primary.tcp(other))
    await asyncio.to_thread(seat, primary.tcp(other), 1)
    await has_all(primary.tcp(other), copy)
    async with reading(conninfo, copy.tcp(other)) as relay:
        await asyncio.to_thread(seat, conninfo, 2)
        with ends("foreign"):
            assert (await relay.get("/api/tables"))[2]["tables"][0]["id"] == "psql-2"
        assert "another" in (await relay.health())["problems"][0]


@pytest.mark.parametrize("delay", ["0", "150ms"])
async def test_whoever_has_an_ack_finds_what_was_acknowledged(copied: tuple[str, Standby, str], delay: str) -> None:
    conninfo, copy, name = copied
    copy.say(f"alter system set recovery_min_apply_delay = '{delay}'")
    copy.say("select pg_reload_conf()")
    async with (
        reading(conninfo, copy.tcp(name)) as relay,
        terminals(relay.url, 2) as (one, watching),
        load(conninfo, relay.url, tills=2) as working,
    ):
        await one.table("add", {"id": "mine", "number": 500, **TABLE})
        newest = 0
        for seats in range(40):
            answer = await one.ask("UPDATE_TABLE", {"action": "update", "data": {"id": "mine", "seats": seats}})
            revision = answer["data"]["revision"]
            _, headers, found = await relay.get("/api/tables")
            assert headers["etag"] == f'"{found["epoch"]}-{found["revision"]}"'
            assert found["revision"] >= max(revision, newest)
            assert [row["seats"] for row in found["tables"] if row["id"] == "mine"] == [seats]
            newest = found["revision"]
            changes = (await relay.get(f"/api/changes?since={revision - 1}"))[2]
            assert changes["changes"][0]["data"]["data"]["seats"] == seats
            await watching.sync()  # a terminal is a witness: moved back, it has a fault
        await working.stop()
        assert (one.faults, watching.faults) == ([], [])
        await agree(conninfo, one, watching)


async def test_a_failover_to_the_standby_that_is_read_is_followed() -> None:
    name = "minipos"
    with running_cluster() as cluster:
        cluster.create_database(name)
        await schema.apply(cluster.tcp(name))
        with running_standby(cluster) as second:
            both = make_conninfo(cluster.tcp(name), host="127.0.0.1,127.0.0.1", port=f"{cluster.port},{second.port}")
            async with reading(both, second.tcp(name)) as relay, terminals(relay.url, 2) as many:
                await make_tables(many[0], "t1")
                await has_all(cluster.tcp(name), second)
                await asyncio.to_thread(cluster.kill)
                await asyncio.to_thread(second.promote)
                await until(relay.ready, within=30.0, what="the relay to be ready again")
                await many[0].table("update", {"id": "t1", "seats": 3}, within=30.0)
                assert (await relay.get("/api/tables"))[2]["tables"][0]["seats"] == 3
                await agree(second.conninfo(name), *many)
                await says(relay, rows()[NO_STANDBY], 30.0)


async def test_the_least_role_may_read_there(copied: tuple[str, Standby, str]) -> None:
    conninfo, copy, name = copied
    install_roles(conninfo)
    await asyncio.to_thread(seat, conninfo, 1)
    await has_all(conninfo, copy)
    async with reading(as_role(conninfo, "pos_relay"), as_role(copy.tcp(name), "pos_relay")) as relay:
        with ends("standby"):
            assert (await relay.get("/api/tables"))[2]["tables"][0]["id"] == "psql-1"
        for path in PATHS:
            assert (await relay.get(path))[0] == 200
