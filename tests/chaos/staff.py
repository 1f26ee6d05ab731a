"""Everybody at work in one world, and what must be true of it in the end."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.chaos.history import Applied, History
from tests.chaos.people import Person, check_people
from tests.chaos.quiet import Quiet
from tests.chaos.readers import Reader
from tests.chaos.shouters import Shouter, check_shouters
from tests.chaos.waiters import Waiter
from tests.chaos.world import Place
from tests.load import Load, Till
from tests.terminals import Terminal, agree
from tests.waiting import until

TILLS = 5  # in each restaurant
PAUSE_SECONDS = 1.0  # between two counts of a till: somewhat under 200 changes a second in all
PEOPLE = 8
BACK_SECONDS = 60.0  # from a fault to the next acknowledged change of every till
LEDGER = (
    "select r.slug, m.client_id, m.mutation_id from pos.mutations as m join pos.restaurants as r using (restaurant_id)"
)

Key = tuple[str, str, str]  # restaurant, client id, mutation id


@dataclass
class Staff:
    """Tills, a reader, a shouter and a waiter in each restaurant, by its slug, and people at psql."""

    loads: dict[str, Load]
    readers: dict[str, Reader]
    shouters: dict[str, Shouter]
    waiters: dict[str, Waiter]
    people: list[Person]
    quiet: Quiet
    history: History = field(default_factory=History)
    visitors: dict[str, list[Terminal]] = field(default_factory=lambda: defaultdict(list))  # who were here and left
    lost: set[Key] = field(default_factory=set)  # acknowledged, and in no history any more
    back: float | None = None  # seconds until all tills went on, where a fault has measured that itself
    deliveries: int = 0  # changes that terminals applied, counted at the end
    transactions: int = 0  # of people, likewise
    shouted: int = 0  # mutations without an id that were done, likewise

    @property
    def acknowledged(self) -> int:
        tills = sum(till.acknowledged + till.cleared for load in self.loads.values() for till in load.tills)
        return tills + sum(len(waiter.acknowledged) for waiter in self.waiters.values())

    def terminals(self, slug: str) -> list[Terminal]:
        tills = (till.terminal for till in self.loads[slug].tills)
        return [*tills, self.readers[slug].terminal, self.shouters[slug].terminal]

    def mutations(self) -> set[Key]:
        """What was acknowledged so far."""
        tills = {
            (slug, till.terminal.client_id, mutation)
            for slug, load in self.loads.items()
            for till in load.tills
            for mutation in till.done()
        }
        return tills.union(
            (slug, waiter.client_id, mutation)
            for slug, waiter in self.waiters.items()
            for mutation in waiter.acknowledged
        )

    async def go_on(self, more: int = 1, within: float = BACK_SECONDS) -> None:
        """Wait until every till has counted further."""
        await asyncio.gather(*(load.goes_on(more, within=within) for load in self.loads.values()))


def ledger(conninfo: str) -> set[Key]:
    """What the database knows to have been done."""
    with psycopg.connect(conninfo) as connection:
        return set(connection.execute(LEDGER).fetchall())


@asynccontextmanager
async def at_work(world: Place, seed: int, pause: float = PAUSE_SECONDS) -> AsyncIterator[Staff]:
    """Everybody at work; when all have ended what they had begun, everything is checked."""
    with tempfile.TemporaryDirectory(prefix="waiters-") as folder:
        async with _at_work(world, seed, pause, Path(folder)) as staff:
            yield staff


@asynccontextmanager
async def _at_work(world: Place, seed: int, pause: float, folder: Path) -> AsyncIterator[Staff]:
    slugs = world.slugs()
    staff = Staff(
        {slug: Load([_till(world, slug, number, pause) for number in range(TILLS)]) for slug in slugs},
        {slug: Reader(world.nginx.url, slug, seed) for slug in slugs},
        {slug: Shouter(world.nginx.url, slug) for slug in slugs},
        {slug: Waiter(world.nginx.url, slug, seed, folder) for slug in slugs},
        [Person(f"person-{number}", lambda: world.conninfo, slugs, seed) for number in range(PEOPLE)],
        Quiet(world),
    )
    tills = [till for load in staff.loads.values() for till in load.tills]
    workers: list[Till | Reader | Shouter | Waiter | Person] = [
        *tills,
        *staff.readers.values(),
        *staff.shouters.values(),
        *staff.waiters.values(),
        *staff.people,
    ]
    async with asyncio.TaskGroup() as tasks:
        for worker in workers:
            tasks.create_task(worker.run())
        await staff.go_on()
        await staff.quiet.change()
        await staff.quiet.is_shown()
        try:
            yield staff
        finally:
            for worker in workers:
                worker.stopping = True
    try:
        await _check(world.conninfo, staff)
    finally:
        for slug in slugs:
            for terminal in staff.terminals(slug):
                await terminal.close()
            await staff.waiters[slug].terminal.close()
        await staff.quiet.close()


def _till(world: Place, slug: str, number: int, pause: float) -> Till:
    return Till([world.nginx.url], number, slug, sync=True, pause=pause, clears=True)


async def _check(conninfo: str, staff: Staff) -> None:
    done = await asyncio.to_thread(ledger, conninfo)
    missing = staff.mutations() - staff.lost - done
    assert not missing, f"acknowledged, and not there: {sorted(missing)[:5]}"
    staff.transactions = await check_people(conninfo, staff.people)
    staff.shouted = await asyncio.to_thread(check_shouters, conninfo, staff.shouters)
    for slug, load in staff.loads.items():
        await asyncio.to_thread(_check_counts, conninfo, slug, load, staff.lost)
        terminals = staff.terminals(slug)
        await agree(conninfo, *terminals, slug=slug, within=BACK_SECONDS)
        waiter = staff.waiters[slug]
        lost = sum(key[:2] == (slug, waiter.client_id) for key in staff.lost)
        await waiter.check(conninfo, lost, BACK_SECONDS)
        everybody: list[Applied] = [*terminals, *staff.visitors[slug], waiter]
        staff.deliveries += await asyncio.to_thread(staff.history.follows, conninfo, slug, everybody)


def _check_counts(conninfo: str, slug: str, load: Load, lost: set[Key]) -> None:
    """What was acknowledged was done, and done once."""
    with psycopg.connect(conninfo) as connection:
        for till in load.tills:
            gone = [mutation for mutation in till.done() if (slug, till.terminal.client_id, mutation) in lost]
            clears = sum(mutation.startswith("clear-") for mutation in gone)
            row = connection.execute(
                "select (t.extra ->> 'count')::int, t.version from pos.tables as t"
                " join pos.restaurants as r using (restaurant_id) where r.slug = %s and t.id = %s",
                (slug, till.table),
            ).fetchone()
            expected = till.acknowledged, till.acknowledged + 1 - (len(gone) - clears)
            assert row == expected, (slug, till.table, expected, row)
            (cleared,) = connection.execute(
                "select count(*) from pos.sync_log as l join pos.restaurants as r using (restaurant_id)"
                " where r.slug = %s and l.client_id = %s and l.action = 'clear'",
                (slug, till.terminal.client_id),
            ).fetchone() or (None,)
            assert cleared == till.cleared - clears, (slug, till.table, till.cleared, clears, cleared)


async def everybody_took(staff: Staff, epoch: str) -> None:
    """Wait until every terminal is in this history."""
    behind: list[Terminal | Waiter] = [*staff.waiters.values()]
    for slug in staff.loads:
        behind += staff.terminals(slug)
    await until(lambda: all(one.epoch == epoch for one in behind), within=BACK_SECONDS, what=f"epoch {epoch}")
