"""Row `growth`: what ten times as much of something costs, as a multiple."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from tests.bench import processes, servers
from tests.bench.crowd import crowd
from tests.bench.figures import Line, Reach
from tests.bench.ground import Ground
from tests.bench.servers import Server
from tests.waiting import pause

RATE = 50.0  # a second
TERMINALS = 10  # of a restaurant, where restaurants are counted
LOG_STATEMENTS = 20  # that the smaller log is made with
FEW_ORDERS = 1000
SNAPSHOT_ORDERS = 1000
BEHIND = 100  # changes
ASKED = 30  # times, whose median counts
ADD = """
insert into pos.tables (restaurant_id, id, number, seats) select restaurant_id, 'bench', 1, 4
from pos.restaurants where slug <> 'default'
"""
CHANGE = """
update pos.tables
set extra = jsonb_build_object('n', %s::int, 'pad', repeat('x', 100),
                               't', (extract(epoch from clock_timestamp()) * 1000000000)::bigint)
where id = 'bench' and restaurant_id in (select restaurant_id from pos.restaurants where slug = any (%s))
"""
TABLES = """
insert into pos.tables (restaurant_id, id, number, seats)
select restaurant_id, n::text, n, 4 from pos.restaurants, generate_series(1, %s) as n where slug = %s
"""
TOUCH = """
update pos.tables set seats = seats % 1000 + 1
where restaurant_id = (select restaurant_id from pos.restaurants where slug = '{}')
"""
# The triggers are left out, for they are not what is asked here.
ORDERS = """
insert into pos.order_history (restaurant_id, id, status, total, items, revision)
select restaurant_id, 'o' || n, 'completed', n, '[{"id": "1", "name": "Mohinga", "quantity": 2}]', n
from pos.restaurants, generate_series(1, %s) as n where slug = %s
"""
SNAPSHOT = "select length(s.orders) from pos.restaurants as r, pos.snapshot(r.restaurant_id, %s) as s where r.slug = %s"
MISSED = """
select count(*) from pos.restaurants as r
join pos.heads as h using (restaurant_id)
cross join lateral pos.changes_after(r.restaurant_id, h.revision - %s, 1000, 1048576)
where r.slug = %s
"""


def growth(ground: Ground) -> Iterator[Line]:
    """Each line is the larger beside the smaller."""
    times = ground.sizes.growth
    yield from _terminals_restaurants_relays(ground, times)
    yield from _log(ground, times)
    yield from _orders(ground)


def _terminals_restaurants_relays(ground: Ground, times: int) -> Iterator[Line]:
    most = ground.sizes.terminals
    restaurants = max(times, most // TERMINALS)
    fewer = restaurants // times
    with _served(ground, 1, restaurants) as served:
        ground.tell(f"growth: {times} times the terminals")
        large, small = (served.cost(terminals, 1)[0] for terminals in (most, most // times))
        yield _line(f"CPU ms per change, {most:,} terminals", large, f"{most // times:,}", small, times)
        ground.tell(f"growth: {times} times the restaurants")
        large, small = (served.cost(number * TERMINALS, number)[0] for number in (restaurants, fewer))
        what = f"CPU ms for a change in each of {restaurants} restaurants"
        yield _line(what, large, str(fewer), small, times)
        ground.tell(f"growth: {times} times the relays")
        one, one_database = served.cost(most // times, 1)
    with _served(ground, times, 1) as served:
        many, many_database = served.cost(most // times, 1)
    yield _line(f"CPU ms per change of {times} relays together", many, "1", one, times)
    yield _line(f"PostgreSQL's ms per change, {times} relays", many_database, "1", one_database, times)


def _log(ground: Ground, times: int) -> Iterator[Line]:
    tables = ground.sizes.log_rows // LOG_STATEMENTS
    with ground.database(restaurants=2) as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        for slug, statements in (("r0", LOG_STATEMENTS), ("r1", LOG_STATEMENTS * times)):
            ground.tell(f"growth: a log of {statements * tables:,}")
            connection.execute(TABLES, (tables, slug))
            for _ in range(statements - 1):
                connection.execute(TOUCH.format(slug).encode())
        connection.execute("vacuum analyze")
        small, large = (_milliseconds(connection, MISSED, (BEHIND, slug)) for slug in ("r0", "r1"))
    rows = LOG_STATEMENTS * tables
    yield _line(f"ms for {BEHIND} changes out of a log of {rows * times:,}", large, f"{rows:,}", small, 2)


def _orders(ground: Ground) -> Iterator[Line]:
    many, few = ground.sizes.orders, min(FEW_ORDERS, ground.sizes.orders // 10)
    with ground.database(restaurants=2) as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        ground.tell(f"growth: {many:,} orders")
        for slug, orders in (("r0", few), ("r1", many)):
            connection.execute(ORDERS, (orders, slug))
        connection.execute("vacuum analyze")
        small, large = (_milliseconds(connection, SNAPSHOT, (SNAPSHOT_ORDERS, slug)) for slug in ("r0", "r1"))
    yield _line(f"ms for a snapshot of {many:,} orders", large, f"{few:,}", small, 2)


def _line(what: str, large: float, smaller: str, small: float, most: float) -> Line:
    return Line("growth", what, (large,), smaller, (small,), Reach(most, ratio=True))


def _milliseconds(connection: psycopg.Connection[Any], query: str, parameters: tuple[object, ...]) -> float:
    """Median of the time a read takes."""
    taken = []
    for _ in range(ASKED):
        began = time.monotonic()
        connection.execute(query.encode(), parameters).fetchall()
        taken.append(time.monotonic() - began)
    return statistics.median(taken) * 1000


@contextmanager
def _served(ground: Ground, relays: int, restaurants: int) -> Iterator[Served]:
    with ExitStack() as stack:
        conninfo = stack.enter_context(ground.database(restaurants=restaurants))
        connection = stack.enter_context(psycopg.connect(conninfo, autocommit=True))
        connection.execute(ADD.encode())
        yield Served(ground, connection, servers.together(stack, *(servers.relay(conninfo) for _ in range(relays))))


class Served:
    """Relays on a database of some restaurants."""

    def __init__(self, ground: Ground, connection: psycopg.Connection[Any], relays: list[Server]) -> None:
        self._ground = ground
        self._connection = connection
        self._relays = relays

    def cost(self, terminals: int, restaurants: int) -> tuple[float, float]:
        """Milliseconds of CPU for one change in each of the first restaurants: of the relays together, of PostgreSQL.

        The terminals are spread over the relays and the restaurants. RuntimeError where a delivery was lost.
        """
        changes = self._ground.sizes.growth_changes
        slugs = [f"r{number}" for number in range(restaurants)]
        with ExitStack() as stack:
            crowds = [
                stack.enter_context(
                    crowd(
                        relay.port,
                        terminals // len(self._relays),
                        *("-m", changes),
                        restaurants=restaurants,
                        path="/ws?restaurant=r{r}",
                        first=relay.first,
                    )
                )
                for relay in self._relays
            ]
            before, began = self._used(), time.monotonic()
            for number in range(changes):
                pause(max(0.0, began + number / RATE - time.monotonic()))
                self._connection.execute(CHANGE, (number, slugs))
            lost = sum(one.result()["lost"] for one in crowds)
            after = self._used()
        if lost:
            raise RuntimeError(f"{lost} deliveries were lost")
        of_relays, of_database = ((b - a) / changes * 1000 for a, b in zip(before, after, strict=True))
        return of_relays, of_database

    def _used(self) -> tuple[float, float]:
        """CPU seconds of the relays and of PostgreSQL so far."""
        postmaster = self._ground.cluster.postmaster_pid or 0
        return sum(relay.cpu_seconds() for relay in self._relays), processes.cpu_seconds(postmaster)
