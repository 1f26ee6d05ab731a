"""The goals that are figures (RELIABILITY.md, section 6), measured in one world at work, each beside its bound.

What must never be fails the run: a change lost, doubled, out of order or of another restaurant, more reads or more
memory than is allowed. How long something took is shown and not judged: that is the machine's as well.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import psycopg

from tests.chaos.columns import Pace, Scale
from tests.chaos.history import heads_of
from tests.chaos.lateness import watched
from tests.chaos.readers import MEMORY_BYTES, flood, memory, read_again, stop
from tests.chaos.staff import Staff, at_work
from tests.chaos.world import World, world
from tests.crowd import Crowd
from tests.waiting import slow_down, until

RESTAURANTS = 20
SETTLE_SECONDS = 3.0  # before a pace is measured
BACK_SECONDS = 180.0  # after which who has not come back never will
MOST_CONNECTIONS = 10  # of one relay to PostgreSQL
COUNT_SECONDS = 0.05
FLOOD_PAUSE_SECONDS = 0.1  # a megabyte a second, for ten seconds: what is asked is not what two cores can do
BLACKOUT_SECONDS = 3.0
COMMITS = """
    select r.slug, l.revision, extract(epoch from pg_xact_commit_timestamp(l.xmin))::float8
    from pos.sync_log as l join pos.restaurants as r using (restaurant_id)
    where l.created_at > clock_timestamp() - %s * interval '1 second'
"""
CONNECTIONS = "select usename, count(*) from pg_stat_activity where usename like 'relay\\_%' group by usename"
# One entry of PostgreSQL's log, and whom and what a read for one restaurant was for.
ENTRY = re.compile(r"^(\w*)\|([\w ]*)\|(LOG|DETAIL): +", re.MULTILINE)
READ = re.compile(r"pos\.(read_changes|snapshot)\(")
RESTAURANT = re.compile(r"\$1 = '\{?(\d+)")


@dataclass(frozen=True)
class Figure:
    """What was measured of a goal; `most` is the goal, in the same unit."""

    goal: str
    what: str
    found: float
    most: float
    unit: str

    def __str__(self) -> str:
        said = f"  {self.goal:<4} {self.what:<76} {self.found:7.4g} {self.unit:<3}"
        if math.isinf(self.most):
            return said.rstrip()
        return f"{said} of {self.most:4.4g}  {'ok' if self.found <= self.most else 'MISSED'}"


@dataclass
class Scene:
    """A world at work, and a crowd that looks on."""

    world: World
    staff: Staff
    crowd: Crowd
    scale: Scale
    figures: list[Figure] = field(default_factory=list)

    async def grow(self, terminals: int) -> None:
        """So many look on from now on."""
        await self.crowd.grow([self.world.nginx.url], self.world.slugs(), terminals, within=BACK_SECONDS)

    def keep(self, pace: Pace) -> None:
        """Let tills and people work at this pace from now on."""
        for load in self.staff.loads.values():
            for till in load.tills:
                till.pause = pace.pause
        for person in self.staff.people:
            person.pause = pace.people

    def show(self, goal: str, what: str, found: float, most: float, unit: str) -> None:
        self.figures.append(Figure(goal, what, found, most, unit))
        print(self.figures[-1], flush=True)

    def must(self, goal: str, what: str, found: float, most: float, unit: str) -> None:
        """The same for what is no question of speed."""
        self.show(goal, what, found, most, unit)
        assert found <= most, str(self.figures[-1])


async def measure(seed: int, scale: Scale) -> list[Figure]:
    """All of it, one after the other. AssertionError where a guarantee fails."""
    options = {"track_commit_timestamp": "on", "log_line_prefix": "%u|%a|"}
    async with world(RESTAURANTS, direct=True, options=options) as whole, _looking_on() as crowd:
        async with at_work(whole, seed, scale.paces[0].pause) as staff:
            scene = Scene(whole, staff, crowd, scale)
            await scene.grow(scale.watchers)
            for pace in scale.paces:
                scene.keep(pace)
                await latency(scene, pace)
            scene.keep(scale.paces[0])
            await scene.grow(scale.terminals)
            await stopped_readers(scene)
            await rolls(scene)
            await scene.grow(scale.cut_off)
            await storm(scene, "nginx killed", kill_nginx)
            await storm(scene, "relays killed", kill_relays)
        heads = await asyncio.to_thread(heads_of, whole.conninfo)
        await until(lambda: crowd.holds(heads), within=BACK_SECONDS, what="the crowd to hold the newest revisions")
        assert crowd.faults == [], crowd.faults[:5]
        for slug, sent in crowd.sent.items():
            await asyncio.to_thread(staff.history.follows, whole.conninfo, slug, [sent])
        said = f"{staff.acknowledged} changes acknowledged, {crowd.deliveries} delivered to {len(crowd.terminals)}"
        print(f"{said} light terminals; every one was sent what its restaurant's log holds, once and in order")
    return scene.figures


@asynccontextmanager
async def _looking_on() -> AsyncIterator[Crowd]:
    made = Crowd()
    try:
        yield made
    finally:
        await made.leave()


# G8


async def latency(scene: Scene, goal: Pace) -> None:
    """From a change's commit to a terminal that has it, every delivery."""
    scale = scene.scale
    await slow_down(SETTLE_SECONDS)
    async with watched() as lateness:
        found, speed = await _latencies(scene, slow_down(scale.seconds))
    what = f"from commit to terminal at {speed:.0f} changes/s, {scale.watchers} terminals"
    scene.show("G8", f"{what}: median", percentile(found, 0.5), goal.p50, "ms")
    scene.show("G8", f"{what}: p99", percentile(found, 0.99), goal.p99, "ms")
    late = [1000 * seconds for seconds in lateness.found]
    scene.show("G8", "of which the test itself is late: median", percentile(late, 0.5), math.inf, "ms")
    scene.show("G8", "of which the test itself is late: p99", percentile(late, 0.99), math.inf, "ms")


async def _latencies(scene: Scene, meanwhile: Awaitable[object]) -> tuple[list[float], float]:
    """The milliseconds of every delivery until that is done, and the changes in a second."""
    began = time.monotonic()
    for sent in scene.crowd.sent.values():
        sent.arrivals = []
    await meanwhile
    arrived = {slug: sent.arrivals or [] for slug, sent in scene.crowd.sent.items()}
    for sent in scene.crowd.sent.values():
        sent.arrivals = None
    elapsed = time.monotonic() - began
    commits = await asyncio.to_thread(_commits, scene.world.conninfo, elapsed + 60.0)
    found = [1000 * (at - commits[slug, revision]) for slug, all_ in arrived.items() for revision, at in all_]
    return found, len({(slug, revision) for slug, all_ in arrived.items() for revision, _ in all_}) / elapsed


def _commits(conninfo: str, seconds: float) -> dict[tuple[str, int], float]:
    with psycopg.connect(conninfo) as connection:
        return {(slug, revision): at for slug, revision, at in connection.execute(COMMITS, (seconds,))}


def percentile(found: Sequence[float], part: float) -> float:
    """The smallest of them that so large a part does not exceed; nan of nothing."""
    return sorted(found)[min(len(found) - 1, math.ceil(part * len(found)) - 1)] if found else math.nan


# G11


async def stopped_readers(scene: Scene) -> None:
    """Terminals of one relay read no more while megabytes are said to them; the others do not notice.

    What the megabytes themselves cost them is seen before, when nobody has stopped.
    """
    conninfo, relay, number = scene.world.conninfo, scene.world.relays[0], scene.scale.stopped
    usual, _ = await _latencies(scene, slow_down(SETTLE_SECONDS))
    before = memory(relay)
    flooded, _ = await _latencies(scene, flood(conninfo, relay, 0, FLOOD_PAUSE_SECONDS))
    stopped = await stop(relay, number)
    await slow_down(SETTLE_SECONDS)
    others, _ = await _latencies(scene, flood(conninfo, relay, number, FLOOD_PAUSE_SECONDS))
    grown = (memory(relay) - before) / (1 << 20)
    await read_again(conninfo, stopped)
    what, p99 = f"{number} readers have stopped", "p99 of the others"
    scene.must("G11", f"{what}: the relay's memory grows by", grown, MEMORY_BYTES >> 20, "MiB")
    scene.show("G11", f"as much is said, and nobody has stopped: {p99}", percentile(flooded, 0.99), math.inf, "ms")
    scene.show("G11", f"nothing is said to them: {p99}", percentile(usual, 0.99), math.inf, "ms")
    scene.show("G11", f"{what}: {p99}", percentile(others, 0.99), 2 * percentile(flooded, 0.99), "ms")


# G6


async def storm(scene: Scene, name: str, cut: Callable[[World], Awaitable[None]]) -> None:
    """All terminals are cut off at once while the changes go on; how long until every one holds what it missed."""
    crowd, place = scene.crowd, await asyncio.to_thread(_log_statements, scene.world, "all")
    most = Counter[str]()
    counting = asyncio.create_task(_count_connections(scene.world.conninfo, most))
    syncs = [one.syncs for one in crowd.terminals]
    began = time.monotonic()
    await cut(scene.world)
    await until(
        lambda: all(one.up and one.syncs > before for one, before in zip(crowd.terminals, syncs, strict=True)),
        within=BACK_SECONDS,
        what="every terminal to be back",
    )
    seconds = time.monotonic() - began
    counting.cancel()
    await asyncio.to_thread(_log_statements, scene.world, "none")
    reads = _reads(scene.world, place)
    what = f"{len(syncs)} terminals cut off at once, {name}"
    scene.show("G6", f"{what}: all caught up", seconds, scene.scale.storm_seconds, "s")
    scene.must("G6", f"{what}: reads, a restaurant and relay", max(reads.values(), default=0), 1, "")
    scene.must("G6", f"{what}: connections of a relay", max(most.values(), default=0), MOST_CONNECTIONS, "")
    await scene.staff.go_on(within=BACK_SECONDS)


async def kill_nginx(world: World) -> None:
    """SIGKILL all of nginx's workers: every connection is gone in that moment."""
    for worker in world.nginx.workers:
        os.kill(worker, signal.SIGKILL)


async def kill_relays(world: World) -> None:
    """SIGKILL all relays, and start them again: they have nothing in memory."""
    await asyncio.gather(*(relay.kill() for relay in world.relays))
    for relay in world.relays:
        await relay.start(wait_ready=False)


def _log_statements(world: World, which: str) -> int:
    """From now on PostgreSQL logs all statements, or none; how long its log is."""
    world.cluster.say(f"alter system set log_statement = '{which}'")
    world.cluster.say("select pg_reload_conf()")
    return world.cluster.log.stat().st_size


def _reads(world: World, place: int) -> Counter[tuple[str, str]]:
    """How often each relay has read a restaurant for who came back, since the log was so long."""
    with world.cluster.log.open("rb") as file:
        file.seek(place)
        _, *parts = ENTRY.split(file.read().decode(errors="replace"))
    entries = list(zip(*(parts[number::4] for number in range(4)), strict=True))
    reads = Counter[tuple[str, str]]()
    for (relay, job, _, said), (*_, parameters) in pairwise(entries):
        if job == "relay read" and READ.search(said) and (restaurant := RESTAURANT.search(parameters)):
            reads[relay, restaurant[1]] += 1
    return reads


async def _count_connections(conninfo: str, most: Counter[str]) -> None:
    """The most connections that each relay has at one time, until cancelled."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        while True:
            cursor = await connection.execute(CONNECTIONS)
            most |= Counter(dict(await cursor.fetchall()))
            await slow_down(COUNT_SECONDS)


# G10


async def rolls(scene: Scene) -> None:
    """One relay after the other is stopped as for a deploy and started again, all of them again and again."""
    crowd = scene.crowd
    known = [len(one.blackouts) for one in crowd.terminals]
    for number in range(1, scene.scale.rolls + 1):
        print(f"       roll {number} of {scene.scale.rolls}", flush=True)
        for relay in scene.world.relays:
            relay.send(signal.SIGTERM)
            assert await relay.ended() == 0
            await relay.start()
        await until(lambda: crowd.is_up, within=BACK_SECONDS, what="every terminal to be back")
        await scene.staff.go_on(within=BACK_SECONDS)
    found = [spell for one, before in zip(crowd.terminals, known, strict=True) for spell in one.blackouts[before:]]
    what = f"{scene.scale.rolls} rolling restarts, {len(crowd.terminals)} terminals: blackout"
    scene.show("G10", f"{what}, median of {len(found)}", percentile(found, 0.5), BLACKOUT_SECONDS, "s")
    scene.show("G10", f"{what}, p99", percentile(found, 0.99), BLACKOUT_SECONDS, "s")
    scene.show("G10", f"{what}, longest", percentile(found, 1.0), math.inf, "s")
