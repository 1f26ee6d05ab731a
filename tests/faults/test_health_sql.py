"""Faults inside the database: each turns exactly that red which docs/operations.md says, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from relay import schema
from tests.cluster import VERSION
from tests.faults.deeds import TABLE, add_restaurant, execute, lock_table, seat, waiting_commits
from tests.faults.health import GREEN, LONG, SHORT, Faults, World, says, suffer
from tests.relays import local_relay
from tests.terminals import terminals
from tests.waiting import until

fault = Faults()


@fault("changes cannot be read (a lock on `sync_log`, a damaged page)")
async def _(world: World) -> AsyncIterator[None]:
    sound = execute(world.conninfo, "select pg_get_functiondef('pos.read_changes'::regproc)")
    head, body = sound.split(" LANGUAGE sql", 1)[0], "begin raise exception 'invalid page' using errcode = 'XX001'; end"
    execute(world.conninfo, f"{head} language plpgsql as $$ {body} $$")
    await asyncio.to_thread(seat, world.conninfo, 8)
    yield
    execute(world.conninfo, sound)


@fault("the disk is full, or something else that writing needs")
async def _(world: World) -> AsyncIterator[None]:
    execute(
        world.conninfo,
        "create function no_space() returns trigger language plpgsql as"
        " $$ begin raise exception 'no space left on device' using errcode = '53100'; end $$;"
        " create trigger zz before update on pos.tables for each row execute function no_space()",
    )
    for seats in range(3):
        await world.change(seats=seats)
    yield
    execute(world.conninfo, "drop trigger zz on pos.tables; drop function no_space()")
    await world.change(seats=7)


@fault("commits wait for a synchronous standby that is gone")
async def _(world: World) -> AsyncIterator[None]:
    async with waiting_commits(world.cluster, world.conninfo):
        asked = asyncio.create_task(world.change(seats=6))
        yield
    await asked


@fault("the schema is dropped")
async def _(world: World) -> AsyncIterator[None]:
    execute(world.conninfo, "drop schema pos cascade")
    yield
    await schema.apply(world.conninfo)


@fault("a right is taken away, or a function or a table is gone or another's")
async def _(world: World) -> AsyncIterator[None]:
    execute(world.conninfo, "alter function pos.snapshot(bigint, integer) rename to lost")
    yield
    execute(world.conninfo, "alter function pos.lost(bigint, integer) rename to snapshot")


@fault("what one restaurant has stored cannot be read (a damaged page)")
async def _(world: World) -> AsyncIterator[None]:
    sound = execute(world.conninfo, "select pg_get_functiondef('pos.row_of(pos.tables)'::regprocedure)")
    add_restaurant(world.conninfo, "spared")
    damage = "if p_row.id = 't1' then raise exception 'invalid page' using errcode = 'XX001'; end if;"
    execute(world.conninfo, sound.replace("begin", f"begin {damage}", 1))
    assert (await world.relay.get("/api/sync"))[0] == 503
    assert (await world.relay.get("/api/sync?restaurant=spared"))[0] == 200
    yield
    execute(world.conninfo, sound)


@fault("an older version of the schema is put back")
async def _(world: World) -> AsyncIterator[None]:
    execute(world.conninfo, f"update pos.installation set version = {schema.VERSION - 1}")
    yield
    await schema.apply(world.conninfo)


@fault("a newer version of the schema is installed")
async def _(world: World) -> AsyncIterator[None]:
    execute(world.conninfo, f"update pos.installation set version = {schema.VERSION + 1}")
    yield
    execute(world.conninfo, f"update pos.installation set version = {schema.VERSION}")


@fault("`sync_log` is truncated")
async def _(world: World) -> AsyncIterator[None]:
    execute(world.conninfo, "truncate pos.sync_log")
    await until(lambda: len(world.terminal.snapshots) == 2, what="the state of the new history")
    yield


@fault("a `begin` is forgotten in psql, and holds a row")
async def _(world: World) -> AsyncIterator[None]:
    with psycopg.connect(world.conninfo) as person:
        lock_table(person, "t1")
        for seats in range(2):
            await world.change(seats=seats)  # BUSY
        yield


def fill(conninfo: str) -> None:
    """Notify until there is no room left."""
    with psycopg.connect(conninfo, autocommit=True) as connection, suppress(psycopg.errors.ProgramLimitExceeded):
        while True:
            connection.execute("select pg_notify('noise', gen_random_uuid() || repeat('x', 7000))")


@contextmanager
def filled(world: World) -> Iterator[None]:
    """The notification queue is full meanwhile."""
    with psycopg.connect(world.cluster.conninfo("postgres")) as offender:
        offender.execute("listen elsewhere")
        offender.commit()
        offender.execute("select 1")  # a listener in a transaction reads nothing
        fill(world.conninfo)
        yield


if VERSION != "15":

    @fault("the notification queue is full")
    async def _(world: World) -> AsyncIterator[None]:
        with filled(world):
            yield

    async def test_a_queue_that_stays_full_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
        listener = world.relay.relay.listener
        with filled(world):
            await until(lambda: listener.failed_proofs > 3, within=30.0, what="some proofs that do not come through")
        await until(lambda: listener.queue_usage == 0 and not listener.failed_proofs, within=LONG)
        said = [one for one in caplog.records if "does not read its notifications" in one.getMessage()]
        assert len(said) == 1


@pytest.mark.parametrize("name", fault)
async def test_a_fault_in_the_database_turns_red_what_the_page_says(world: World, name: str) -> None:
    await suffer(world, name, fault[name])


async def test_a_schema_that_changes_while_the_relay_runs_is_said_once_with_what_to_do(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 1) as (terminal,):
        execute(database, f"update pos.installation set version = {schema.VERSION + 1}")
        await says(relay, ("200", "200", "degraded"), SHORT)
        health = await relay.health()
        assert health["schema"] == {"installed": schema.VERSION + 1, "needed": schema.VERSION}
        assert "restart it with a newer one" in health["problems"][0]
        # It serves: an upgrade goes in first, while the old relays still run.
        await terminal.table("add", {"id": "t1", "number": 1, **TABLE})
        execute(database, f"update pos.installation set version = {schema.VERSION - 1}")
        await says(relay, ("200", "503", "degraded"), SHORT)
        assert schema.HOW_TO_APPLY in (await relay.get("/health/ready"))[2]["problems"][0]
        execute(database, "drop schema pos cascade")
        await says(relay, ("200", "503", "down"), SHORT)
        assert "has no schema" in (await relay.health())["problems"][0]
        await schema.apply(database)
        await says(relay, GREEN, SHORT)
    lines = [record.getMessage() for record in caplog.records if record.name == "relay.health"]
    assert [("newer one" in line, schema.HOW_TO_APPLY in line) for line in lines] == [
        (True, False),
        (False, True),
        (False, True),
    ]
