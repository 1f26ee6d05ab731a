"""Waiters whose tablets run the terminal library: they ask without waiting, and now and then a tablet is restarted."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path

import psycopg

from relay.terminal import Mutation, SqliteStore, Terminal
from tests.terminals import Row, state_in_database
from tests.waiting import slow_down, until

PAUSE_SECONDS = 2.0  # between two sales, whether or not there is a connection
RESTARTS = 0.1  # after so many of all sales, with what was asked for still on its way
ANSWERED_SECONDS = 90.0  # in which all that is pending has been answered; the library waits up to 30 s to come back
ORDER: Row = {
    "tableNumber": 1,
    "customerName": "",
    "orderDate": "2026-01-02",
    "status": "pending",
    "total": Decimal(500),
    "items": [],
    "createdAt": "2026-01-02T03:04:05.678Z",
}
SALES = """
    select count(*) from pos.sync_log as l join pos.restaurants as r using (restaurant_id)
    where r.slug = %s and l.client_id = %s and l.type = 'UPDATE_ORDER' and l.action = 'add'
"""
COUNT = """
    select (t.extra ->> 'count')::int, t.version from pos.tables as t join pos.restaurants as r using (restaurant_id)
    where r.slug = %s and t.id = %s
"""


class Waiter:
    """Adds a sale and counts it on a table of its own, again and again; what it asked for outlives its tablet."""

    def __init__(self, url: str, slug: str, seed: int, folder: Path) -> None:
        self._url = url
        self._slug = slug
        self._store = folder / f"{slug}.db"
        self._dice = random.Random(f"{seed} {slug} waiter")
        self._table = "waiter"
        self._sold = 0
        self.applied: list[tuple[str, int, Row]] = []
        self.faults: list[str] = []
        self.acknowledged: set[str] = set()
        self.stopping = False
        self.terminal = self._tablet()

    @property
    def client_id(self) -> str:
        """Of its tablet, which keeps it through restarts."""
        return self.terminal.client_id

    @property
    def epoch(self) -> str | None:
        """The history that it holds."""
        return self.terminal.epoch

    def _tablet(self) -> Terminal:
        terminal = Terminal(self._url, restaurant=self._slug, name="waiter", store=SqliteStore(str(self._store)))
        terminal.on("change", self._note_change)
        terminal.on("acknowledged", self._note_ack)
        terminal.on("refused", lambda mutation: self.faults.append(f"{mutation.id} refused: {mutation.error}"))
        terminal.on("fault", self.faults.append)
        return terminal

    def _note_change(self, message: Row) -> None:
        assert self.terminal.epoch is not None
        self.applied.append((self.terminal.epoch, message["revision"], message))

    def _note_ack(self, mutation: Mutation) -> None:
        self.acknowledged.add(mutation.id)

    async def run(self) -> None:
        """Sell until told to stop, and until all of it has been answered."""
        await self.terminal.start()
        await self.terminal.table("add", {"id": self._table, "number": 99, "seats": 4, "status": "available"})
        while not self.stopping:
            self._sold += 1
            await self.terminal.order("add", ORDER | {"id": f"{self.client_id}-{self._sold}"})
            await self.terminal.table("update", {"id": self._table, "count": self._sold})
            if self._dice.random() < RESTARTS:
                await self.terminal.close()
                tablet = self._tablet()
                await tablet.start()
                self.terminal = tablet  # only now it knows its client id
            await slow_down(PAUSE_SECONDS)
        await until(
            lambda: not self.terminal.pending, within=ANSWERED_SECONDS, what=f"all ACKs of {self._slug}'s waiter"
        )

    async def check(self, conninfo: str, lost: int, within: float) -> None:
        """What it asked for is there, once and in order, but for so many `lost`; it shows what the database holds."""
        assert self.faults == [], (self._slug, self.faults)
        assert len(self.acknowledged) == 1 + 2 * self._sold, (self._slug, self._sold, len(self.acknowledged))
        sales, row = await asyncio.to_thread(self._done, conninfo)
        assert row[0] == self._sold, (self._slug, self._sold, row)
        # The table was added once, and changed once for each sale.
        assert 1 + sales + (row[1] - 1) == len(self.acknowledged) - lost, (self._slug, self._sold, sales, row, lost)
        revision, state = await asyncio.to_thread(state_in_database, conninfo, self._slug)
        await until(lambda: self.terminal.revision >= revision, within, f"revision {revision} at {self._slug}'s waiter")
        shown = self.terminal.confirmed
        assert self.terminal.revision == revision
        assert {
            "tables": shown.tables,
            "menu": shown.menuItems,
            "categories": sorted(shown.categories),
            "settings": shown.settings,
            "orders": shown.orderHistory,
        } == state, f"{self._slug}'s waiter shows something else than the database"

    def _done(self, conninfo: str) -> tuple[int, tuple[int, int]]:
        """How many of its sales the log holds; its table's count and version."""
        with psycopg.connect(conninfo) as connection:
            (sales,) = connection.execute(SALES, (self._slug, self.client_id)).fetchone() or (0,)
            row = connection.execute(COUNT, (self._slug, self._table)).fetchone()
        assert row is not None
        return sales, row
