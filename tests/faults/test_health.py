"""Each fault turns exactly that red which docs/operations.md says, and all is green again when it is over.

Here those of servers, networks and relays; test_health_sql.py has those inside the database.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.cluster import VERSION
from tests.faults.deeds import lock_table, make_tables
from tests.faults.health import GREEN, LONG, NO_STANDBY, Faults, World, rows, said, says, suffer
from tests.faults.test_health_sql import fault as fault_in_it
from tests.pooler import pooled
from tests.relays import Reachable, RelayProcess, relay_process
from tests.standby import running_standby
from tests.terminals import Terminal, terminals
from tests.waiting import until

fault = Faults()


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


@pytest.mark.parametrize("name", fault)
async def test_a_fault_around_the_database_turns_red_what_the_page_says(world: World, name: str) -> None:
    await suffer(world, name, fault[name])


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
    assert rows().keys() == {*fault, *fault_in_it} | {DRAINING, FROZEN, NO_STANDBY} | optional
