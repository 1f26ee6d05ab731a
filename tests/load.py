"""Terminals that change things without end, and know afterwards what must be in the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import websockets

from tests.terminals import Terminal, agree, follows_the_log
from tests.waiting import slow_down, until

CONNECT_SECONDS = 10.0  # to be synced, before another relay is tried
GONE = (OSError, websockets.InvalidHandshake, websockets.ConnectionClosed, TimeoutError)


async def synced(terminal: Terminal) -> bool:
    """Whether it holds what there is: asked for on its own connection, or on a new one where that is gone."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if terminal.connected:
                await terminal.sync()
            else:
                await terminal.connect()
    except GONE:
        await terminal.cut()
    return terminal.connected


class Till:
    """A terminal that counts its own table up, and repeats under the same id what was not acknowledged."""

    def __init__(self, urls: Sequence[str], number: int, slug: str, *, sync: bool, pause: float, clears: bool) -> None:
        self._urls = [f"{url}?restaurant={slug}" for url in urls]
        self.terminal = Terminal(self._urls[number % len(urls)], f"till-{number}")
        self.table = f"table-{number}"
        self._slug = slug
        self._number = number
        self._sync = sync
        self.pause = pause
        self._clears = clears
        self.acknowledged = 0
        self.cleared = 0
        self.slowest = 0.0  # seconds from a mutation to its ACK
        self.refusals: list[str] = []
        self.stopping = False

    async def run(self) -> None:
        """Count until told to stop; what was begun is ended."""
        await self._count(0, "add", {"number": self._number, "seats": 4, "status": "available"})
        while not self.stopping:
            await self._count(self.acknowledged + 1, "update", {})
            self.acknowledged += 1
            if self._clears:
                await slow_down(self.pause / 2)
                await self._done("UPDATE_ORDER", {"action": "clear"}, f"clear-{self.acknowledged}")
                self.cleared += 1
            await slow_down(self.pause / 2 if self._clears else self.pause)

    async def _count(self, count: int, action: str, row: dict[str, object]) -> None:
        body = {"action": action, "data": {"id": self.table, "count": count, "of": self._slug, **row}}
        await self._done("UPDATE_TABLE", body, f"{self.table}-{count}")

    async def _done(self, type_: str, body: object, id_: str) -> None:
        started = asyncio.get_running_loop().time()
        await until(lambda: self._asked(type_, body, id_), within=60.0, what=f"an ACK to {id_} of {self.table}")
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - started)

    async def _asked(self, type_: str, body: object, id_: str) -> bool:
        try:
            if not self.terminal.connected:
                await self._connect()
            answer = await self.terminal.ask(type_, body, id=id_)
        except GONE:
            await self._connect()
            return False
        if answer["type"] == "ERROR":
            self.refusals.append(answer["data"]["code"])
            assert answer["data"]["retryable"], answer
        return bool(answer["type"] == "ACK")

    async def _connect(self) -> None:
        await self.terminal.cut()
        # The next instance, as behind a proxy.
        self._urls.append(self._urls.pop(0))
        self.terminal.url = self._urls[0]
        with contextlib.suppress(*GONE):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.terminal.connect(sync=self._sync)

    def done(self) -> list[str]:
        """The ids of what was acknowledged."""
        counts = [f"{self.table}-{count}" for count in range(self.acknowledged + 1)]
        return [*counts, *(f"clear-{count}" for count in range(1, self.cleared + 1))]


class Load:
    """So many tills, at work."""

    def __init__(self, tills: list[Till]) -> None:
        self.tills = tills
        self.tasks: list[asyncio.Task[None]] = []
        self.deliveries = 0  # changes that its terminals applied, counted at the end

    @property
    def acknowledged(self) -> int:
        return sum(till.acknowledged for till in self.tills)

    async def stop(self) -> None:
        """Let every till end what it has begun."""
        for till in self.tills:
            till.stopping = True
        await asyncio.wait(self.tasks)

    async def goes_on(self, more: int = 20, within: float = 15.0) -> None:
        """Wait until every till has counted further."""
        goals = [till.acknowledged + more for till in self.tills]
        await until(
            lambda: all(till.acknowledged >= goal for till, goal in zip(self.tills, goals, strict=True)),
            within=within,
            what="every till to go on",
        )


@asynccontextmanager
async def load(
    conninfo: str,
    *urls: str,
    tills: int = 4,
    slug: str = "default",
    sync: bool = True,
    pause: float = 0.0,
    clears: bool = False,
) -> AsyncIterator[Load]:
    """Tills at work meanwhile, each resting for `pause` seconds after a change.

    A count that is done twice does not show; with `clears` each also clears the orders, which would.

    At the end each count is in the database once, and every till shows it all and has applied what the log holds.
    """
    made = [Till(urls, number, slug, sync=sync, pause=pause, clears=clears) for number in range(tills)]
    running = Load(made)
    async with asyncio.TaskGroup() as tasks:
        running.tasks = [tasks.create_task(till.run()) for till in made]
        await running.goes_on(1)
        try:
            yield running
        finally:
            for till in made:
                till.stopping = True
    try:
        check_counts(conninfo, running, slug)
        if sync:
            await agree(conninfo, *(till.terminal for till in made), slug=slug)
            running.deliveries = follows_the_log(conninfo, *(till.terminal for till in made), slug=slug)
    finally:
        for till in made:
            await till.terminal.close()


def check_counts(conninfo: str, running: Load, slug: str = "default") -> None:
    """Nothing that was acknowledged is lost, and nothing was done twice."""
    with psycopg.connect(conninfo) as connection:
        for till in running.tills:
            row = connection.execute(
                "select (t.extra ->> 'count')::int, t.version from pos.tables as t"
                " join pos.restaurants as r using (restaurant_id) where r.slug = %s and t.id = %s",
                (slug, till.table),
            ).fetchone()
            assert row == (till.acknowledged, till.acknowledged + 1), (till.table, till.acknowledged, row)
            (cleared,) = connection.execute(
                "select count(*) from pos.sync_log as l join pos.restaurants as r using (restaurant_id)"
                " where r.slug = %s and l.client_id = %s and l.action = 'clear'",
                (slug, till.terminal.client_id),
            ).fetchone() or (None,)
            assert cleared == till.cleared, (till.table, till.cleared, cleared)
