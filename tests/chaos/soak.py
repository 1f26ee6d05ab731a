"""Hours of ordinary work, in which nothing may grow (RELIABILITY.md, section 6, G7).

    python -m tests.chaos.soak [--minutes 120]

Three relays behind nginx, light terminals of twenty restaurants, some of whom come and go, and people who write SQL, in
each restaurant one who counts. What is in the log grows old as if thirty days passed meanwhile, and is pruned all the
time. Once a minute what every relay holds is told, and all that was sent is compared with the log. How long it takes,
SOAK_MINUTES says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.chaos.goals import Figure
from tests.chaos.history import History, heads_of
from tests.chaos.people import Person
from tests.chaos.readers import memory
from tests.chaos.world import World, world
from tests.crowd import Crowd, LightTerminal, Sent
from tests.waiting import slow_down, until

RESTAURANTS, TERMINALS, PEOPLE = 20, 600, 4
DAYS = 30  # that pass meanwhile
PAUSE_SECONDS = 0.2  # between two changes of who counts: a hundred a second in all
VISIT_SECONDS = 1.0  # between two terminals that lose their connection
TELL_SECONDS = 60.0
WARM = 1 / 4  # of the time, in which memory may still grow
MOST_SLOPE = 1.0  # MiB an hour
MOST_QUEUE = 0.1  # percent
MOST_DESCRIPTORS = 20  # more at the end than after the warm-up: connections come and go
# As a text of one length. As a number it reached 10,000 after 36 minutes, and the frames, a byte longer, another class
# of sizes in Python's allocator: within three minutes twenty windows moved there, and each relay was 3.4 MiB larger.
COUNT = """
    update pos.tables as t set extra = jsonb_build_object('count', lpad(%(count)s::text, 8, '0'))
    from pos.restaurants as r where r.slug = %(slug)s and r.restaurant_id = t.restaurant_id and t.id = 'count'
"""
OPEN = """
    insert into pos.tables (restaurant_id, id, number, seats)
    select restaurant_id, 'count', 1, 4 from pos.restaurants
"""
# As if so much time had passed since.
AGE = (
    "update pos.sync_log set created_at = created_at - %s * interval '1 day'",
    "update pos.mutations set created_at = created_at - %s * interval '1 day'",
    "update pos.tombstones set deleted_at = deleted_at - %s * interval '1 day'",
)
KEEP_DAYS = 1  # of the log


@dataclass
class Look:
    """What the relays hold at one moment; of memory and descriptors, a number for each."""

    seconds: float
    memory: list[float]  # MiB
    descriptors: list[int]
    queue: float  # percent
    log: int  # rows

    def __str__(self) -> str:
        held = ", ".join(f"{one:.1f}" for one in self.memory)
        open_ = ", ".join(map(str, self.descriptors))
        return f"{held} MiB; {open_} descriptors; notification queue {self.queue:.3f} %; {self.log} rows of log"


@dataclass
class Soak:
    """All that is at work."""

    world: World
    crowd: Crowd
    minutes: float
    began: float = field(default_factory=time.monotonic)
    looks: list[Look] = field(default_factory=list)
    compared: int = 0
    days: float = 0.0  # that passed for what is in the database,
    aged: float = 0.0  # and after so many seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    async def look(self) -> Look:
        """Compare what was sent, look at what is held, and tell it."""
        await self._compare()
        queue = await asyncio.to_thread(self.world.cluster.say, "select pg_notification_queue_usage()")
        with psycopg.connect(self.world.conninfo) as connection:
            (rows,) = connection.execute("select count(*) from pos.sync_log").fetchone() or (0,)
        relays = self.world.relays
        look = Look(
            self.seconds,
            [memory(relay) / (1 << 20) for relay in relays],
            [_descriptors(relay.pid) for relay in relays],
            100 * float(queue),
            rows,
        )
        self.looks.append(look)
        left = max(0.0, self.minutes - self.seconds / 60)
        print(f"{self.seconds / 60:6.1f} min ({left:.0f} left): {look}; {self.compared} changes compared", flush=True)
        return look

    async def _compare(self) -> None:
        """What terminals were sent so far is what the log holds; then let it go."""
        assert self.crowd.faults == [], self.crowd.faults[:5]
        for slug, sent in self.crowd.sent.items():
            oldest = min(one.revision for one in sent.terminals)
            # Taken first, and the log read afterwards, which then has all of it.
            done = Sent(slug)
            done.changes = {key: payload for key, payload in sent.changes.items() if key[1] <= oldest}
            await asyncio.to_thread(History().follows, self.world.conninfo, slug, [done])
            for key in done.changes:
                del sent.changes[key]
            self.compared += len(done.changes)

    async def age(self) -> None:
        """Let the time since the last look pass as many times faster as days go into the soak.

        But no more than half of what is kept: what was not compared yet must not be pruned.
        """
        seconds, self.aged = self.seconds - self.aged, self.seconds
        older = min(seconds / (self.minutes * 60) * DAYS, KEEP_DAYS / 2)
        self.days += older

        def pass_() -> None:
            with psycopg.connect(self.world.conninfo) as connection:
                for statement in AGE:
                    connection.execute(statement, (older,))

        await asyncio.to_thread(pass_)


async def soak(minutes: float) -> list[Figure]:
    """Work for so long. AssertionError where a change is lost, doubled, out of order or of another restaurant."""
    # The windows are full before the warm-up is over.
    settings = {"RELAY_KEEP_LOG_DAYS": str(KEEP_DAYS), "RELAY_KEEP_DAYS": "7", "RELAY_WINDOW_CHANGES": "1000"}
    async with world(RESTAURANTS, direct=True, settings=settings) as whole, _crowd(whole) as crowd:
        running = Soak(whole, crowd, minutes)
        slugs = whole.slugs()
        people = [Person(f"person-{number}", lambda: whole.conninfo, slugs, number) for number in range(PEOPLE)]
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(_count(whole, slug)) for slug in slugs]
            working.append(tasks.create_task(_come_and_go(crowd.terminals)))
            working += [tasks.create_task(person.run()) for person in people]
            try:
                await running.look()
                while running.seconds < minutes * 60:
                    await slow_down(min(TELL_SECONDS, max(0.0, minutes * 60 - running.seconds)))
                    await running.look()
                    await running.age()
            finally:
                for task in working:
                    task.cancel()
        heads = await asyncio.to_thread(heads_of, whole.conninfo)
        await until(lambda: crowd.holds(heads), within=60.0, what="all terminals to hold the newest revisions")
        await running.look()
        print(f"{running.days:.1f} days passed; {crowd.deliveries} deliveries to {TERMINALS} terminals, none lost,")
        print("doubled, out of order or of another restaurant")
        return figures(running.looks)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@asynccontextmanager
async def _crowd(whole: World) -> AsyncIterator[Crowd]:
    with psycopg.connect(whole.conninfo) as connection:
        connection.execute(OPEN)
    crowd = Crowd()
    try:
        await crowd.grow([whole.nginx.url], whole.slugs(), TERMINALS)
        yield crowd
    finally:
        await crowd.leave()


async def _count(whole: World, slug: str) -> None:
    """Change one table of a restaurant again and again."""
    async with await psycopg.AsyncConnection.connect(whole.conninfo, autocommit=True) as connection:
        count = 0
        while True:
            count += 1
            await connection.execute(COUNT, {"count": count, "slug": slug})
            await slow_down(random.uniform(0, 2 * PAUSE_SECONDS))


async def _come_and_go(terminals: Sequence[LightTerminal]) -> None:
    while True:
        random.choice(terminals).cut()
        await slow_down(VISIT_SECONDS)


def figures(looks: Sequence[Look]) -> list[Figure]:
    """What was held, after the warm-up."""
    warm = [look for look in looks if look.seconds >= WARM * looks[-1].seconds]
    slope = max(
        _slope([(look.seconds / 3600, look.memory[one]) for look in warm]) for one in range(len(warm[0].memory))
    )
    more = max(last - first for first, last in zip(warm[0].descriptors, warm[-1].descriptors, strict=True))
    return [
        Figure("G7", "memory of a relay grows in an hour by", slope, MOST_SLOPE, "MiB"),
        Figure("G7", "descriptors of a relay, more at the end than after the warm-up", more, MOST_DESCRIPTORS, ""),
        Figure("G7", "notification queue in use, at most", max(look.queue for look in looks), MOST_QUEUE, "%"),
        Figure(
            "G7", "rows of the log at the end, of the most there were", looks[-1].log, max(x.log for x in looks), ""
        ),
    ]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line that fits them best (least squares)."""
    x = sum(at for at, _ in points) / len(points)
    y = sum(value for _, value in points) / len(points)
    spread = sum((at - x) ** 2 for at, _ in points)
    return sum((at - x) * (value - y) for at, value in points) / spread if spread else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    minutes = float(os.environ.get("SOAK_MINUTES") or 120)
    parser.add_argument("--minutes", type=float, default=minutes, help="how long (default: SOAK_MINUTES, or 120)")
    with suppress(KeyboardInterrupt):
        for figure in asyncio.run(soak(parser.parse_args().minutes)):
            print(figure)


if __name__ == "__main__":
    main()
