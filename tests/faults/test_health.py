"""Each fault turns exactly that red which docs/operations.md says, and all is green again when it is over."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from relay import schema
from tests.cluster import VERSION, TestCluster, running_cluster
from tests.faults.deeds import TABLE, execute, lock_table, make_tables, seat, waiting_commits
from tests.pooler import pooled
from tests.proxy import Proxy, proxied
from tests.relays import LocalRelay, Reachable, RelayProcess, local_relay, relay_process
from tests.standby import running_standby
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"^\| (.+?) \| (200|none) \| (200|503|none) \| (healthy|degraded|down|none) \|", flags=re.MULTILINE)
GREEN = ("200", "200", "healthy")
DATABASE = "minipos"
SHORT = 15.0  # seconds for a fault to show
LONG = 30.0  # and for the way back: a connection that is dead without a word takes some time to find out

State = tuple[str, str, str]


def rows() -> dict[str, State]:
    """The page's table: by fault, what live, ready and health say."""
    return {fault: (live, ready, health) for fault, live, ready, health in ROW.findall(PAGE.read_text())}


async def said(relay: Reachable) -> State:
    """What a relay says of itself; `none` where it says nothing."""
    try:
        live, ready = [(await relay.get(f"/health/{name}"))[0] for name in ("live", "ready")]
        status, _, body = await relay.get("/health")
    except OSError:
        return "none", "none", "none"
    assert status == (503 if body["status"] == "down" else 200), body
    assert bool(body["problems"]) == (body["status"] != "healthy"), body
    if body["ready"] != (ready == 200):
        return await said(relay)  # it changed in between
    return str(live), str(ready), str(body["status"])


async def says(relay: Reachable, state: State, within: float) -> None:
    """Wait until a relay says this."""

    async def does() -> bool:
        found = await said(relay)
        assert found[0] == state[0], found
        return found == state

    await until(does, within=within, what=f"{state}")


@dataclass(frozen=True)
class World:
    """A relay that reaches its database, and listens, through a proxy each."""

    cluster: TestCluster
    conninfo: str
    reads: Proxy
    listens: Proxy
    relay: LocalRelay
    terminal: Terminal

    def lead_to(self, port: int) -> None:
        """Everything goes to another server from here on."""
        for proxy in (self.reads, self.listens):
            proxy.lead_to(port)
            proxy.reset()

    async def change(self, **row: Any) -> None:
        """A change that a terminal asks for, whatever comes of it."""
        await self.terminal.ask("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", **row}}, within=30.0)


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[TestCluster]:
    options = {} if VERSION == "15" else {"max_notify_queue_pages": "64"}
    with running_cluster(**options) as cluster:
        yield cluster


@pytest.fixture
async def world(module_cluster: TestCluster) -> AsyncIterator[World]:
    module_cluster.create_database(DATABASE)
    conninfo = module_cluster.tcp(DATABASE)
    await schema.apply(conninfo)
    try:
        async with (
            proxied(conninfo) as reads,
            proxied(conninfo) as listens,
            local_relay(reads.conninfo, listen_conninfo=listens.conninfo, proof_seconds=0.5, busy_seconds=0.5) as relay,
            terminals(relay.url, 1) as (terminal,),
        ):
            await make_tables(terminal, "t1")
            yield World(module_cluster, conninfo, reads, listens, relay, terminal)
            await agree(conninfo, terminal)
    finally:
        with psycopg.connect(module_cluster.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"drop database {DATABASE} with (force)")


Fault = Callable[[World], AbstractAsyncContextManager[None]]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Callable[[World], AsyncIterator[None]]], Fault]:
    """Say under which name on the page a fault stands. It begins before the yield and is over after it."""

    def registered(happening: Callable[[World], AsyncIterator[None]]) -> Fault:
        FAULTS[name] = asynccontextmanager(happening)
        return FAULTS[name]

    return registered


@fault("PostgreSQL is stopped, or was killed")
async def _(world: World) -> AsyncIterator[None]:
    await asyncio.to_thread(world.cluster.kill)
    yield
    await asyncio.to_thread(world.cluster.restart)


@fault("PostgreSQL stands still (SIGSTOP, a dead disk)")
async def _(world: World) -> AsyncIterator[None]:
    with world.cluster.frozen():
        yield


@fault("the network swallows everything")
async def _(world: World) -> AsyncIterator[None]:
    world.reads.deaf = world.listens.deaf = True
    yield
    world.reads.deaf = world.listens.deaf = False


@fault("`DATABASE_URL` leads to a standby only")
async def _(world: World) -> AsyncIterator[None]:
    with running_standby(world.cluster) as standby:
        world.lead_to(standby.port)
        yield
        world.lead_to(world.cluster.port)


@fault("the LISTEN connection is refused, or ends again and again")
async def _(world: World) -> AsyncIterator[None]:
    await world.listens.stop()
    yield
    await world.listens.start()


@fault("the LISTEN connection is deaf")
async def _(world: World) -> AsyncIterator[None]:
    world.listens.deaf = True
    yield
    world.listens.deaf = False


@fault("LISTEN goes through a pooler in transaction mode")
async def _(world: World) -> AsyncIterator[None]:
    with pooled(world.conninfo) as through:
        world.listens.lead_to(int(conninfo_to_dict(through)["port"] or 0))
        world.listens.reset()
        yield
        world.listens.lead_to(world.cluster.port)
        world.listens.reset()


@fault("changes cannot be read (a lock on `sync_log`, a damaged page)")
async def _(world: World) -> AsyncIterator[None]:
    sound = execute(world.conninfo, "select pg_get_functiondef('pos.changes_after'::regproc)")
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


@fault("the connections are cut once")
async def _(world: World) -> AsyncIterator[None]:
    for _ in range(3):
        world.reads.reset()
        world.listens.reset()
        await until(lambda: world.relay.ready())
    yield


@fault("a terminal does not read")
async def _(world: World) -> AsyncIterator[None]:
    async with Terminal(world.relay.url) as silent:
        silent.stop_reading()
        for seats in range(5):
            await world.change(seats=seats)
        yield
        silent.read_again()


def fill(conninfo: str) -> None:
    """Notify until there is no room left."""
    with psycopg.connect(conninfo, autocommit=True) as connection, suppress(psycopg.errors.ProgramLimitExceeded):
        while True:
            connection.execute("select pg_notify('noise', gen_random_uuid() || repeat('x', 7000))")


if VERSION != "15":

    @fault("the notification queue is full")
    async def _(world: World) -> AsyncIterator[None]:
        with psycopg.connect(world.cluster.conninfo("postgres")) as offender:
            offender.execute("listen elsewhere")
            offender.commit()
            offender.execute("select 1")  # a listener in a transaction reads nothing
            fill(world.conninfo)
            yield


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_turns_red_what_the_page_says_and_nothing_else(world: World, name: str) -> None:
    assert await said(world.relay) == GREEN
    expected = rows()[name]
    failed = None
    async with FAULTS[name](world):
        try:
            if expected != GREEN:
                await says(world.relay, expected, SHORT)
            else:
                for _ in range(20):
                    assert await said(world.relay) == GREEN
        except AssertionError as error:
            failed = error  # raised when the fault is over, or it would be the next test's too
    if failed is not None:
        raise failed
    await says(world.relay, GREEN, LONG)


@contextmanager
def kept_alive(relay: Reachable) -> Iterator[Callable[[str], tuple[int, Any]]]:
    """A connection that is open before the port is closed."""
    connection = http.client.HTTPConnection(relay.host, relay.port, timeout=10)

    def get(path: str) -> tuple[int, Any]:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    try:
        yield get
    finally:
        connection.close()


DRAINING = "the relay stops (SIGTERM), on a connection that is open"


async def test_a_relay_that_stops_is_not_ready_at_once_while_it_finishes_its_work(database: str) -> None:
    async with relay_process(database) as relay, terminals(relay.url, 1) as (terminal,):
        await make_tables(terminal, "t1")
        with kept_alive(relay) as get, psycopg.connect(database) as person:
            assert (await asyncio.to_thread(get, "/health/ready"))[0] == 200
            lock_table(person, "t1")
            asked = asyncio.create_task(terminal.table("update", {"id": "t1", "seats": 8}))
            await until(partial(pending, relay))
            relay.send(signal.SIGTERM)
            await until(lambda: relay.refuses, what="the end of listening")
            status, body = await asyncio.to_thread(get, "/health/ready")
            health = await asyncio.to_thread(get, "/health")
            live = await asyncio.to_thread(get, "/health/live")
            person.rollback()
        assert (str(live[0]), str(status), health[1]["status"]) == rows()[DRAINING]
        assert "stopping" in body["problems"][0]
        assert health[1]["draining"]
        await asked
        assert await relay.ended() == 0


async def pending(relay: RelayProcess) -> bool:
    return bool((await relay.health())["pending"])


NO_STANDBY = "`READ_DATABASE_URL` leads to a standby that is away, far behind, or no standby"  # test_reading_standby.py
FROZEN = "the relay stands still (SIGSTOP), or was killed"


async def test_a_relay_that_stands_still_does_not_say_that_it_lives(database: str) -> None:
    async with relay_process(database) as relay:
        relay.send(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(relay.get("/health/live"), 2.0)
        relay.send(signal.SIGCONT)
        await says(relay, GREEN, LONG)
        await relay.kill()
        assert await said(relay) == rows()[FROZEN] == ("none", "none", "none")


def test_the_page_has_every_fault_and_no_other() -> None:
    optional = {"the notification queue is full"} if VERSION == "15" else set()
    assert rows().keys() == FAULTS.keys() | {DRAINING, FROZEN, NO_STANDBY} | optional


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
