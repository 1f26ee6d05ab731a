"""What is done to a world: one function a fault, each of which sees to it that the fault has happened."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

import psycopg

from tests.chaos.world import World, accepts, gone
from tests.waiting import slow_down, until

POOLS = ("relay read", "relay live", "relay write")
FROZEN_SECONDS = (3.0, 6.0)

Fault = Callable[[World, random.Random], Awaitable[None]]


async def kill_postgresql(world: World, _: random.Random) -> None:
    """SIGKILL the postmaster, and start PostgreSQL again on what it left."""
    await asyncio.to_thread(world.cluster.kill)
    await asyncio.to_thread(world.cluster.restart)


async def kill_a_backend(world: World, dice: random.Random) -> None:
    """SIGKILL one backend: the postmaster ends all sessions and recovers."""
    victim = dice.choice(await asyncio.to_thread(world.backends))
    os.kill(victim, signal.SIGKILL)
    await gone([victim])
    await accepts(world.cluster)


async def terminate_listeners(world: World, _: random.Random) -> None:
    """End every LISTEN connection."""
    assert await _terminate(world, ["relay listen"]), "nobody listened"


async def terminate_pools(world: World, _: random.Random) -> None:
    """End every other connection of the relays."""
    assert await _terminate(world, [*POOLS]), "nobody was connected"


async def _terminate(world: World, names: list[str]) -> int:
    def terminate() -> int:
        with psycopg.connect(world.conninfo, autocommit=True) as connection:
            rows = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = any(%s)", (names,)
            ).fetchall()
        return len(rows)

    return await asyncio.to_thread(terminate)


async def kill_a_relay(world: World, dice: random.Random) -> None:
    """SIGKILL one relay, and start it again."""
    victim = dice.choice(world.relays)
    await victim.kill()
    await victim.start(wait_ready=False)


async def stop_a_relay(world: World, dice: random.Random) -> None:
    """SIGTERM one relay, as a deploy does, and start it again."""
    victim = dice.choice(world.relays)
    victim.send(signal.SIGTERM)
    assert await victim.ended() == 0
    await victim.start(wait_ready=False)


async def freeze_a_relay(world: World, dice: random.Random) -> None:
    """SIGSTOP one relay for some seconds."""
    victim = dice.choice(world.relays)
    victim.send(signal.SIGSTOP)
    await slow_down(dice.uniform(*FROZEN_SECONDS))
    victim.send(signal.SIGCONT)


async def kill_an_nginx_worker(world: World, dice: random.Random) -> None:
    """SIGKILL one of nginx's workers, with all the connections that go through it."""
    victim = dice.choice(world.nginx.workers)
    os.kill(victim, signal.SIGKILL)
    await until(lambda: victim not in world.nginx.workers and len(world.nginx.workers) == 2, what="another worker")


# Each with how often it comes, next to the others.
FAULTS: dict[Fault, int] = {
    kill_postgresql: 15,
    kill_a_backend: 10,
    kill_a_relay: 20,
    stop_a_relay: 5,
    freeze_a_relay: 5,
    kill_an_nginx_worker: 10,
    terminate_listeners: 20,
    terminate_pools: 15,
}
