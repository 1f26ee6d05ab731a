"""What is done to a world: one function a fault, each of which sees to it that the fault has happened.

It returns how many connections or processes were hit, where that is not one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests.chaos.failover import fail_over
from tests.chaos.network import TO_DATABASE, TO_NGINX
from tests.chaos.readers import flood, read_again, stop
from tests.chaos.staff import BACK_SECONDS, Staff
from tests.chaos.world import QUIET, World, accepts, gone
from tests.cluster import children_of
from tests.terminals import Terminal, agree
from tests.waiting import slow_down, until

POOLS = ("relay read", "relay live", "relay write")
SHORTEST_SECONDS = 3.0  # that something is frozen or cut off
RATES = (60_000.0, 150_000.0)  # bytes that pass a slow link in a second
VISITORS, CHANGE_SECONDS = 5, 0.1  # who come meanwhile, one after the other, to a restaurant that changes so often
LISTEN_DELAY = 0.1
READERS = 10  # that stop together

Fault = Callable[[World, Staff, random.Random], Awaitable[int | None]]


async def kill_postgresql(world: World, _staff: Staff, _dice: random.Random) -> None:
    """SIGKILL the postmaster, and start PostgreSQL again on what it left."""
    await asyncio.to_thread(world.cluster.kill)
    await asyncio.to_thread(world.cluster.restart)


async def kill_a_backend(world: World, _staff: Staff, dice: random.Random) -> None:
    """SIGKILL one backend: the postmaster ends all sessions and recovers."""
    victim = dice.choice(await asyncio.to_thread(world.backends))
    os.kill(victim, signal.SIGKILL)
    await gone([victim])
    await accepts(world.cluster)


async def freeze_postgresql(world: World, _staff: Staff, dice: random.Random) -> None:
    """SIGSTOP all of PostgreSQL for some seconds: its connections are there, and nothing comes back."""
    postmaster = world.cluster.postmaster_pid
    assert postmaster
    with frozen([postmaster]), frozen(children_of(postmaster)):
        await slow_down(_some_seconds(world, dice))


async def terminate_listeners(world: World, staff: Staff, dice: random.Random) -> int:
    """End every LISTEN connection, and make a single change while the relays connect again, which takes a moment."""
    for proxy in world.proxies:
        proxy.delay = LISTEN_DELAY
    ended = await _terminate(world, ["relay listen"])
    await slow_down(dice.uniform(0, 4 * LISTEN_DELAY))
    await staff.quiet.change()
    await staff.quiet.is_shown(BACK_SECONDS, by_all=False)  # a relay may be killed in the same step
    for proxy in world.proxies:
        proxy.delay = 0.0
    return ended


async def terminate_pools(world: World, _staff: Staff, _dice: random.Random) -> int:
    """End every other connection of the relays."""
    return await _terminate(world, [*POOLS])


async def _terminate(world: World, names: list[str]) -> int:
    def terminate() -> int:
        with psycopg.connect(world.conninfo, autocommit=True) as connection:
            rows = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = any(%s)", (names,)
            ).fetchall()
        return len(rows)

    ended = await asyncio.to_thread(terminate)
    assert ended, "nobody was connected"
    return ended


async def kill_a_relay(world: World, _staff: Staff, dice: random.Random) -> None:
    """SIGKILL one relay, and start it again."""
    victim = dice.choice(world.relays)
    await victim.kill()
    await victim.start(wait_ready=False)


async def stop_a_relay(world: World, _staff: Staff, dice: random.Random) -> None:
    """SIGTERM one relay, as a deploy does, and start it again."""
    victim = dice.choice(world.relays)
    victim.send(signal.SIGTERM)
    assert await victim.ended() == 0
    await victim.start(wait_ready=False)


async def freeze_a_relay(world: World, _staff: Staff, dice: random.Random) -> None:
    """SIGSTOP one relay for some seconds."""
    with frozen([dice.choice(world.relays).pid]):
        await slow_down(_some_seconds(world, dice))


async def kill_an_nginx_worker(world: World, _staff: Staff, dice: random.Random) -> None:
    """SIGKILL one of nginx's workers, with all the connections that go through it."""
    victim = dice.choice(world.nginx.workers)
    os.kill(victim, signal.SIGKILL)
    await until(lambda: victim not in world.nginx.workers and len(world.nginx.workers) == 2, what="another worker")


async def reset_connections(world: World, _staff: Staff, dice: random.Random) -> int:
    """RST on every connection between one relay and PostgreSQL."""
    proxy = dice.choice(world.proxies)
    await until(lambda: proxy.links, what="a connection to reset")
    links = len(proxy.links)
    proxy.reset()
    return links


async def slow_a_link(world: World, staff: Staff, dice: random.Random) -> None:
    """Let little pass between one relay and PostgreSQL: a snapshot takes longer than the changes that follow it."""
    place = dice.randrange(len(world.proxies))
    visitors: list[Terminal] = []
    world.proxies[place].rate = dice.uniform(*RATES)
    try:
        async with asyncio.TaskGroup() as meanwhile:
            over = asyncio.Event()
            meanwhile.create_task(_change_until(over, staff))
            for _ in range(VISITORS):
                visitor = Terminal(f"{world.relays[place].url}?restaurant={QUIET}")
                visitors.append(await visitor.connect())
                await slow_down(2 * CHANGE_SECONDS)
            over.set()
    finally:
        world.proxies[place].rate = float("inf")
    await agree(world.conninfo, *visitors, slug=QUIET)
    for visitor in visitors:
        await visitor.close()


async def _change_until(over: asyncio.Event, staff: Staff) -> None:
    while not over.is_set():
        await staff.quiet.change()
        await slow_down(CHANGE_SECONDS)


async def swallow_a_link(world: World, _staff: Staff, dice: random.Random) -> None:
    """Swallow all that one relay and PostgreSQL say, and reset at last: TCP is content meanwhile, nobody answers."""
    proxy = dice.choice(world.proxies)
    proxy.deaf = True
    await slow_down(_some_seconds(world, dice))
    proxy.reset()
    proxy.deaf = False


async def cut_a_relay_off_from_postgresql(world: World, _staff: Staff, dice: random.Random) -> int:
    """Pull the cable between the last relay and PostgreSQL."""
    return await _pull(world, TO_DATABASE, dice)


async def cut_a_relay_off_from_nginx(world: World, _staff: Staff, dice: random.Random) -> int:
    """Pull the cable between the last relay and its terminals."""
    return await _pull(world, TO_NGINX, dice)


async def _pull(world: World, cable: int, dice: random.Random) -> int:
    if world.cables is None:
        return 0
    world.cables.pull(cable)
    try:
        await slow_down(_some_seconds(world, dice))
    finally:
        world.cables.plug(cable)
    return 1


async def flood_who_does_not_read(world: World, _staff: Staff, dice: random.Random) -> int:
    """Terminals of one relay stop reading while ten megabytes are said to them."""
    relay = dice.choice(world.relays)
    await until(relay.ready, within=30.0, what="a relay that is ready")
    stopped = await stop(relay, READERS)
    await flood(world.conninfo, relay, READERS)
    await read_again(world.conninfo, stopped)
    return READERS


async def promote_a_standby(world: World, staff: Staff, _dice: random.Random) -> None:
    """A synchronous standby takes over: nothing that was acknowledged is lost."""
    await fail_over(world, staff, misses=False)


async def promote_a_standby_that_misses_commits(world: World, staff: Staff, _dice: random.Random) -> None:
    """An asynchronous one takes over, and the last changes are lost: nobody goes on showing them."""
    await fail_over(world, staff, misses=True)


def _some_seconds(world: World, dice: random.Random) -> float:
    """Mostly few."""
    return SHORTEST_SECONDS + (world.longest - SHORTEST_SECONDS) * float(dice.random() ** 4)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """These processes are stopped meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
