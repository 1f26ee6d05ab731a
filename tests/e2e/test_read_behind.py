"""A change at rest is read right behind its commit, in the same exchange; and whatever becomes of that, it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from relay.database import Applied, Database
from relay.errors import DatabaseUnavailable
from relay.exchange import Asked
from relay.pools import Pool
from relay.protocol import Mutation
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

RARE = 60.0  # seconds between two sweeps: only a doorbell, or the writer, can bring a change in time
TABLE = {"id": "t", "number": 1, "seats": 4, "status": "available"}


@pytest.fixture(autouse=True)
def _no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.listener.DEAF_SECONDS", RARE)  # their pace until it hears


def count_reads(relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The reads of changes that the reader makes from now on."""
    made: list[Any] = []
    original = relay.relay.database.read_changes

    async def counted(*asked: Any, **more: Any) -> Any:
        made.append(asked)
        return await original(*asked, **more)

    monkeypatch.setattr(relay.relay.database, "read_changes", counted)
    return made


async def test_a_change_at_rest_needs_no_read_of_its_own(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_relay(database, sweep_seconds=RARE) as relay, terminals(relay.url, 3) as made:
        await made[0].table("add", TABLE)
        await made[2].reaches(1)
        reads = count_reads(relay, monkeypatch)
        for number in range(2, 12):
            await made[number % 3].table("update", {"id": "t", "seats": number})
            await asyncio.gather(*(one.reaches(number) for one in made))
        assert reads == []
        await agree(database, *made)
        # What somebody else commits rings as ever.
        with psycopg.connect(database) as connection:
            connection.execute("update pos.tables set seats = 1")
        await asyncio.gather(*(one.reaches(12, within=5.0) for one in made))
        assert len(reads) == 1
        await agree(database, *made)


async def test_a_read_that_is_refused_behind_a_commit_is_made_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("alter function pos.epoch() rename to epoch_before")
        connection.execute(
            "create function pos.epoch() returns text language sql stable set search_path = '' as $$ select"
            " pos.epoch_before() where 1 / (current_setting('application_name') <> 'relay write')::integer = 1 $$"
        )
    async with local_relay(database, sweep_seconds=RARE) as relay, terminals(relay.url, 2) as made:
        reads = count_reads(relay, monkeypatch)
        for number in range(1, 4):
            await made[0].table("add", {**TABLE, "id": f"t{number}", "number": number})
            await asyncio.gather(*(one.reaches(number, within=5.0) for one in made))
        assert len(reads) >= 3
        await agree(database, *made)


async def test_a_read_behind_a_commit_has_short_bounds_of_its_own(database: str) -> None:
    bounds: Asked = "select current_setting('lock_timeout'), current_setting('statement_timeout')", ()
    pool = Pool(database, "write", 1, 5.0, lock_seconds=1.0)
    await pool.open()
    try:
        async with pool.connection() as connection:
            done = await pool.commit(connection, bounds, 10.0, behind=bounds)
    finally:
        await pool.close(1.0)
    assert done.rows == [("1s", "5s")]
    assert done.behind == [("200ms", "200ms")]


async def test_what_a_trigger_changes_in_another_restaurant_is_shown_there_at_once(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("insert into pos.restaurants (slug, name) values ('other', 'Other')")
        connection.execute(
            "insert into pos.tables (restaurant_id, id, number, seats)"
            " select restaurant_id, 't', 1, 4 from pos.restaurants"
        )
        connection.execute(
            "create function pos.mirror() returns trigger language plpgsql security definer as $$ begin"
            " update pos.tables set seats = new.seats where restaurant_id <> new.restaurant_id and seats <> new.seats;"
            " return null; end $$"
        )
        connection.execute(
            "create trigger z_mirror after update on pos.tables for each row execute function pos.mirror()"
        )
    async with (
        local_relay(database, sweep_seconds=RARE) as relay,
        Terminal(relay.url, "here") as here,
        Terminal(f"{relay.url}?restaurant=other", "there") as there,
    ):
        revision = there.revision
        for seats in range(5, 8):
            await here.table("update", {"id": "t", "seats": seats})
            revision += 1
            await there.reaches(revision, within=5.0)
        await agree(database, here)
        await agree(database, there, slug="other")


async def test_a_commit_whose_answer_is_lost_is_shown_before_it_is_known_of(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_relay(database, sweep_seconds=RARE) as relay, terminals(relay.url, 2) as (till, kitchen):
        apply = relay.relay.database.apply

        async def loses_its_answer(*asked: Any, **more: Any) -> Applied:
            monkeypatch.setattr(relay.relay.database, "apply", is_away)
            await apply(*asked, **more)
            raise DatabaseUnavailable("the answer is lost")

        async def is_away(_self: Database, _mutations: Sequence[Mutation], **_more: Any) -> Applied:
            raise DatabaseUnavailable("it is away")

        monkeypatch.setattr(relay.relay.database, "apply", loses_its_answer)
        asking = asyncio.create_task(till.table("add", TABLE))
        await kitchen.reaches(1, within=5.0)
        assert not asking.done()
        monkeypatch.setattr(relay.relay.database, "apply", apply)
        await asking
        await until(lambda: relay.relay.writer.pending == 0)
        await agree(database, till, kitchen)
