"""Reads whole states and pages of the API from a standby, where that shows for certain what the primary does.

The primary is asked first where the restaurant stands, which costs it a look at two rows. What the standby then says
counts only if it has come at least as far, and if the history behind it is the primary's (pos.mark_at): so nobody is
moved back, and whoever has an ACK finds what was acknowledged. Else the primary is read; a standby is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from . import metrics
from .database import (
    CLOSE_SECONDS,
    LIVE_SECONDS,
    QUICK_SECONDS,
    READ_SECONDS,
    Database,
    State,
)
from .errors import DatabaseUnavailable
from .logrows import ChangeRow, Changes, Head, LogRead, contiguous
from .logs import fields
from .pools import Pool
from .settings import Settings

log = logging.getLogger("relay.standby")

PATIENCE_SECONDS = 1.0  # after which a standby that is asked counts as slow, and the primary is read
REST_SECONDS = 30.0  # in which it is not asked for a restaurant again; one that is of another history, for none
SLOW_RESTAURANTS = 3  # in a row, and nothing in time between, mean that it is the standby that is slow
RESTING = 1000  # restaurants that it is not asked for, at most
LOOK_SECONDS = 2.0  # between two looks at it, by which one that is away is found out, and not by who waits for a state
BEHIND_SECONDS = 10.0  # by which it may be behind before health says so

SNAPSHOT: LiteralString = """
    select s.revision, s.staff, s.mark, (select pos.mark_at(%s, %s)),
           p.tables, p.menu_items, p.categories, p.settings, p.orders, p.complete, p.cleared_revision
    from pos.standing(%s, %s) as s cross join lateral pos.snapshot(s.restaurant_id, %s) as p"""
ORDERS: LiteralString = """
    select s.revision, s.staff, s.mark, (select pos.mark_at(%s, %s)), o.revision, o.data
    from pos.standing(%s, %s) as s left join lateral pos.read_orders(s.restaurant_id, %s, %s) as o on true
    order by o.revision desc"""
CHANGES: LiteralString = """
    select s.revision, s.staff, s.mark, (select pos.mark_at(%s, %s)),
           c.revision, c.type, c.action, c.row_id, c.data::text, c.client_id,
           (extract(epoch from c.created_at) * 1000)::bigint
    from pos.standing(%s, %s) as s left join lateral pos.changes_after(s.restaurant_id, %s, %s, %s) as c on true
    order by c.revision"""


@dataclass(frozen=True, slots=True)
class _Exact:
    """Rows of a standby that are as good as the primary's, and the epoch and revision that they are of."""

    epoch: str
    revision: int
    rows: list[Any]  # without the standing


class Reads:
    """What `Database` reads of a restaurant, from the standby that READ_DATABASE_URL names where there is one.

    Every method raises what the same one of `Database` raises.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._pool = (
            Pool(settings.read_conninfo, "standby", settings.pool, READ_SECONDS, attributes="standby")
            if settings.read_conninfo
            else None
        )
        self._reached = False
        self._resting_until = 0.0
        self._slow: dict[int, float] = {}  # restaurants that it was too slow for last, and until when it is not asked
        self._slow_in_a_row = 0
        self._look_now = asyncio.Event()
        self._why = "it was not reached yet"
        self._goal: tuple[str, float] | None = None  # a position of the primary's log that it lacks, and since when

    # What health asks

    @property
    def is_named(self) -> bool:
        """Whether there is a standby to read from."""
        return self._pool is not None

    @property
    def is_asked(self) -> bool:
        """Whether the standby is asked now."""
        return self._reached and time.monotonic() >= self._resting_until

    @property
    def behind_seconds(self) -> float:
        """For how long it has lacked something that the primary has."""
        return time.monotonic() - self._goal[1] if self._goal else 0.0

    @property
    def complaint(self) -> str | None:
        """Why it is of no use now; None where it is, or where none is named."""
        if not self.is_named:
            return None
        if not self.is_asked:
            return self._why
        return f"it is {self.behind_seconds:.0f} s behind" if self.behind_seconds > BEHIND_SECONDS else None

    def pool_stats(self) -> dict[str, dict[str, int]]:
        """As Database.pool_stats."""
        return {"standby": self._pool.stats()} if self._pool else {}

    # Life

    async def open(self) -> None:
        """Make the pool ready; nothing is connected yet."""
        if self._pool is not None:
            await self._pool.open()

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.close(CLOSE_SECONDS)

    async def run(self) -> None:
        """Look at the standby until cancelled."""
        while self._pool is not None:
            with suppress(DatabaseUnavailable):  # of the primary: the listener says that
                await self._look(self._pool)
            self._look_now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_now.wait()

    async def _look(self, pool: Pool) -> None:
        [(position,)] = await self._database.read("select pg_current_wal_flush_lsn()::text", (), QUICK_SECONDS)
        goal = self._goal[0] if self._goal else position
        try:
            [(follows, reached, has_all)] = await _fetch(
                pool,
                QUICK_SECONDS,
                """select pg_is_in_recovery(), pg_last_wal_replay_lsn() >= %s::pg_lsn,
                          pg_last_wal_replay_lsn() >= %s::pg_lsn""",
                goal,
                position,
            )
        except (DatabaseUnavailable, psycopg.Error) as error:
            self._lose("it does not answer", error)
            return
        if not follows:
            self._lose("it is no standby any more")
            return
        if not self._reached:
            log.info("reading from the standby")
        self._reached = True
        if has_all:
            self._goal = None
        elif reached or self._goal is None:
            self._goal = position, time.monotonic()

    def _lose(self, why: str, error: Exception | None = None) -> None:
        if self._reached or self._why != why:
            log.warning("the standby is not read from, but the primary: %s", why, extra=fields(error=error))
        self._reached, self._why, self._goal = False, why, None

    def _rest(self, why: str) -> None:
        if self._why != why:
            log.warning("the standby is not read from for a while, but the primary: %s", why)
        self._resting_until, self._why = time.monotonic() + REST_SECONDS, why

    def _rest_from(self, restaurant_id: int) -> None:
        """A read took too long: of a large restaurant, of a slow standby, or of one that has gone silent."""
        self._slow_in_a_row += 1
        if self._slow_in_a_row >= SLOW_RESTAURANTS:
            self._rest("it is slow")
            return
        if restaurant_id not in self._slow:  # else that was said
            log.info(
                "the standby is slow for a restaurant, the primary is read", extra=fields(restaurant=restaurant_id)
            )
            if len(self._slow) >= RESTING:
                del self._slow[next(iter(self._slow))]
        self._slow[restaurant_id] = time.monotonic() + REST_SECONDS
        self._look_now.set()

    # Reads

    async def snapshot(self, restaurant_id: int, orders: int) -> State:
        """See Database.snapshot."""
        found = await self._exact(restaurant_id, SNAPSHOT, orders)
        if found is None:
            return await self._database.snapshot(restaurant_id, orders)
        return State(found.epoch, found.revision, *found.rows[0])

    async def orders(self, restaurant_id: int, before: int, rows: int) -> list[tuple[int, str]]:
        """See Database.read_orders."""
        found = await self._exact(restaurant_id, ORDERS, before, rows)
        if found is None:
            return await self._database.read_orders(restaurant_id, before, rows)
        return [(revision, data) for revision, data in found.rows if revision is not None]

    async def changes(self, restaurant_id: int, since: int, *, rows: int, size: int) -> LogRead:
        """See Database.read_changes, of one restaurant."""
        found = await self._exact(restaurant_id, CHANGES, since, rows, size)
        if found is None:
            return await self._database.read_changes({restaurant_id: since}, rows=rows, size=size)
        read = contiguous([ChangeRow(*row) for row in found.rows if row[0] is not None])
        return LogRead(found.epoch, {restaurant_id: Changes(restaurant_id, Head(found.revision), read)})

    async def _exact(self, restaurant_id: int, query: LiteralString, *parameters: object) -> _Exact | None:
        """What the standby says, where it is what the primary would say now; None: the primary is to be asked."""
        if self._pool is None or not self.is_asked or time.monotonic() < self._slow.get(restaurant_id, 0.0):
            return None
        asked = await self._database.read(
            """select e.epoch, s.revision, s.staff, s.mark
               from pos.epoch() as e (epoch) cross join pos.standing(%s, 0) as s""",
            (restaurant_id,),
            QUICK_SECONDS,
        )
        if not asked or asked[0][3] is None:
            return None  # no such restaurant, or nothing in its log to know a history by
        epoch, head, staff, mark = asked[0]
        rows = await self._ask(self._pool, restaurant_id, query, restaurant_id, head, restaurant_id, head, *parameters)
        if rows is None:
            outcome = "away"
        elif not rows or rows[0][1] < staff:  # what has no revision is counted there
            outcome = "behind"
        elif rows[0][3] != mark:
            outcome = "foreign"
            self._rest("its history is another one than the primary's")
        else:
            revision, _, newest, _ = rows[0][:4]
            # It has been given more since: perhaps a commit that waits for it, and that the primary does not show yet.
            if revision == head or newest == await self._mark_at(restaurant_id, revision):
                self._why = ""
                metrics.STANDBY.labels("standby").inc()
                return _Exact(epoch, revision, [row[4:] for row in rows])
            outcome = "ahead"
        metrics.STANDBY.labels(outcome).inc()
        return None

    async def _mark_at(self, restaurant_id: int, revision: int) -> str | None:
        rows = await self._database.read("select pos.mark_at(%s, %s)", (restaurant_id, revision), QUICK_SECONDS)
        mark: str | None = rows[0][0]
        return mark

    async def _ask(self, pool: Pool, restaurant_id: int, query: LiteralString, *parameters: object) -> list[Any] | None:
        """What the standby answers in time; None where it does not, and then it is left alone for a while."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                rows = await _fetch(pool, LIVE_SECONDS, query, *parameters)
            self._slow_in_a_row = 0
            self._slow.pop(restaurant_id, None)
            return rows
        except TimeoutError:
            self._rest_from(restaurant_id)
        except (DatabaseUnavailable, psycopg.Error) as error:
            self._lose("it does not answer", error)
        return None


async def _fetch(pool: Pool, seconds: float, query: LiteralString, *parameters: object) -> list[Any]:
    async with pool.connection() as connection:
        return await pool.fetch(connection, query, parameters, seconds)
