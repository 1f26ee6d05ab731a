"""Row `sql`: what a change costs in SQL beyond the UPDATE that it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg

from tests.bench.figures import Line, Reach
from tests.bench.ground import Ground
from tests.bench.pgbench import transactions_per_second

DINING_TABLES = 100
LINEAR = 4  # times as many rows
PAD = "x" * 120
# Both change the same row in the same way; without triggers nothing but the table and its indexes is written.
BARE = "-c session_replication_role=replica"
NO_FLUSH = "-c synchronous_commit=off"  # it would be most of either
UPDATE = f"""
\\set id random(1, {DINING_TABLES})
\\set total random(1, 1000000)
update pos.tables set status = 'occupied', customer = '"Aung"', order_total = :total,
  extra = jsonb_build_object('pad', '{PAD}'), version = version + 1, updated_by = 'till', updated_at = now()
where restaurant_id = 1 and id = (:id)::text
"""
FUNCTION = f"""
\\set id random(1, {DINING_TABLES})
\\set total random(1, 1000000)
\\set mutation random(1, 1000000000000000000)
select pos.update_table(1, 'update',
  jsonb_build_object('id', (:id)::text, 'status', 'occupied', 'customer', 'Aung', 'orderTotal', (:total)::integer,
                     'pad', '{PAD}'),
  'till', (:mutation)::text)
"""
TABLES = """
insert into pos.tables (restaurant_id, id, number, seats) select %s, n::text, n, 4 from generate_series(1, %s) as n
"""
BULK = """
update pos.tables set seats = seats % 1000 + 1
where restaurant_id = (select restaurant_id from pos.restaurants where slug = 'r{}')
"""


def sql(ground: Ground) -> Iterator[Line]:
    """One change by the function, and many in one statement."""
    sizes = ground.sizes
    function: list[float] = []
    bare: list[float] = []
    with ground.database(restaurants=2) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(TABLES, (1, DINING_TABLES))
        for number in range(sizes.rounds):
            ground.tell(f"sql: pgbench, round {number + 1} of {sizes.rounds}")
            for found, script, options in ((function, FUNCTION, NO_FLUSH), (bare, UPDATE, f"{NO_FLUSH} {BARE}")):
                # What the run before has left behind: old versions of rows that are changed thousands of times.
                with psycopg.connect(conninfo, autocommit=True) as connection:
                    connection.execute("vacuum analyze")
                rate = transactions_per_second(
                    ground.cluster, conninfo, script, sizes.pgbench_seconds / 2, options=options
                )
                found.append(1e6 / rate)
        yield Line(
            "sql", "µs per pos.update_table", tuple(function), "the bare UPDATE", tuple(bare), Reach(3, ratio=True)
        )
        rows = sizes.bulk_rows
        small = _bulk(ground, conninfo, 0, rows)
        large = _bulk(ground, conninfo, 1, LINEAR * rows)
        yield Line("sql", f"s for {rows:,} rows in one statement", *small, Reach(10, ratio=True))
        yield Line("sql", f"s for {LINEAR * rows:,} rows", *large, Reach(10, ratio=True))
        each = tuple(a / b / LINEAR for a, b in zip(large[0], small[0], strict=True))
        yield Line("sql", f"a row of them, to one of {rows:,}", each)


def _bulk(
    ground: Ground, conninfo: str, restaurant: int, rows: int
) -> tuple[tuple[float, ...], str, tuple[float, ...]]:
    """Seconds of every round with triggers, what it is measured against, and seconds without."""
    found: dict[str, list[float]] = {"origin": [], "replica": []}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        (restaurant_id,) = connection.execute(
            "select restaurant_id from pos.restaurants where slug = %s", (f"r{restaurant}",)
        ).fetchone() or (0,)
        connection.execute(TABLES, (restaurant_id, rows))
        for number in range(ground.sizes.rounds):
            for role, seconds in found.items():
                ground.tell(f"sql: {rows:,} rows in one statement, round {number + 1} of {ground.sizes.rounds}")
                connection.execute("vacuum analyze pos.tables")
                connection.execute("select set_config('session_replication_role', %s, false)", (role,))
                began = time.monotonic()
                connection.execute(BULK.format(restaurant).encode())
                seconds.append(time.monotonic() - began)
    return tuple(found["origin"]), "without triggers", tuple(found["replica"])
