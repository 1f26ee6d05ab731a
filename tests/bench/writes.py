"""Row `writes`: changes acknowledged, every terminal sending as fast as it is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import psycopg

from tests.bench import servers
from tests.bench.crowd import crowd
from tests.bench.figures import Line, Reach
from tests.bench.ground import Ground, cluster
from tests.bench.pgbench import transactions_per_second
from tests.bench.programs import NotBuilt, build
from tests.bench.servers import Server

WARM_SECONDS = 0.5
CLIENTS = 8  # of pgbench, so that transactions can share a flush as far as NOTIFY lets them
ONE_EACH = "one transaction each"
PAD = "x" * 120
CHANGE = (
    '{"type":"UPDATE_TABLE","id":"{i}-{n}","clientId":"till-{i}","data":{"action":"update","data":'
    '{"id":"{i}","status":"occupied","customer":"Aung","orderTotal":{n},"pad":"' + PAD + '"}}}'
)
# Each terminal has a table of its own in its restaurant.
TABLES = """
insert into pos.tables (restaurant_id, id, number, seats)
select r.restaurant_id, i::text, i, 4
from generate_series(0, %s - 1) as i
join pos.restaurants as r on r.slug = 'r' || i %% %s
"""
# A batch as the relay sends it: so many of those terminals, each with its next change.
BATCH = """
\\set first random(0, {terminals} - 1)
with batch as (select t.* from bench.tills as t where t.place >= :first and t.place < :first + {size})
select count(*) from pos.apply(
  gen_random_uuid(),
  (select array_agg(b.restaurant_id order by b.place) from batch as b),
  (select array_agg(b.client_id order by b.place) from batch as b),
  (select array_agg(gen_random_uuid()::text) from batch as b),
  array_fill('UPDATE_TABLE'::text, array[{size}]),
  array_fill('update'::text, array[{size}]),
  (select array_agg(format('{{"id":"%s","status":"occupied","customer":"Aung","orderTotal":%s,"pad":"{pad}"}}',
                           b.id, (random() * 1000000)::integer) order by b.place) from batch as b),
  array_fill(null::bigint, array[{size}]))
"""
TILLS = """
create table bench.tills as
  select place, r.restaurant_id, 'till-' || place % {terminals} as client_id, (place % {terminals})::text as id
  from generate_series(0, 2 * {terminals} - 1) as place
  join pos.restaurants as r on r.slug = 'r' || place % {terminals} % {restaurants}
"""


class Written(NamedTuple):
    """One run of the terminals against one relay."""

    rate: float  # acknowledged a second
    batch: float  # mutations in a transaction
    cpu_us: float  # of the relay, for each
    p50_ms: float  # from a change to its ACK
    crowd_busy: float  # share of a core


def writes(ground: Ground) -> Iterator[Line]:
    """On a disk whose flush takes long, and on this one."""
    sizes = ground.sizes
    name = f"acknowledged/s, flush {sizes.flush_microseconds / 1000:g} ms"
    try:
        preload = build("slowflush")
    except NotBuilt as why:
        ground.skip("writes on a slow disk", why)
    else:
        slow = {"LD_PRELOAD": str(preload), "SLOWFLUSH_MICROSECONDS": str(sizes.flush_microseconds)}
        with cluster(slow) as running:
            runs, apart = _on_a_slow_disk(Ground(running, sizes, tell=ground.tell))
        one = runs[ONE_EACH]
        yield Line("writes", name, _all(runs["relay"], "rate"), f"pgbench, {CLIENTS} clients, {ONE_EACH}", apart)
        yield Line(
            "writes",
            name,
            _all(runs["relay"], "rate"),
            f"relay, {ONE_EACH}",
            _all(one, "rate"),
            Reach(8, at_most=False, ratio=True),
        )
        yield Line("writes", "mutations in a transaction", _all(runs["relay"], "batch"))
    with ground.database(restaurants=sizes.write_restaurants) as conninfo, ExitStack() as stack:
        _prepare(ground, conninfo)
        (server,) = servers.together(stack, servers.relay(conninfo))
        relay: list[Written] = []
        pgbench: list[float] = []
        for number in range(sizes.rounds):
            ground.tell(f"writes: at full disk speed, round {number + 1} of {sizes.rounds}")
            relay.append(_measure(ground, server, conninfo))
            size = max(1, round(relay[-1].batch))
            script = BATCH.format(terminals=sizes.writers, size=size, pad=PAD)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                _tidy(connection)
            rate = transactions_per_second(ground.cluster, conninfo, script, sizes.pgbench_seconds / 2)
            pgbench.append(rate * size)
    yield Line(
        "writes",
        "acknowledged/s, this disk",
        _all(relay, "rate"),
        "pgbench, same batches",
        tuple(pgbench),
        Reach(0.8, at_most=False, ratio=True),
    )
    yield Line("writes", "mutations in a transaction", _all(relay, "batch"))
    yield Line("writes", "relay's CPU µs per mutation", _all(relay, "cpu_us"))
    yield Line("writes", "p50 ms until acknowledged", _all(relay, "p50_ms"))
    yield Line("writes", "load client, % of a core", tuple(100 * one.crowd_busy for one in relay))


def _on_a_slow_disk(ground: Ground) -> tuple[dict[str, list[Written]], tuple[float, ...]]:
    """Of both relays every run; and what pgbench makes of one mutation in each transaction."""
    pgbench: list[float] = []
    relays = {"relay": {}, ONE_EACH: {"RELAY_BATCH": "1"}}
    runs: dict[str, list[Written]] = defaultdict(list)
    with ground.database(restaurants=ground.sizes.write_restaurants) as conninfo, ExitStack() as stack:
        _prepare(ground, conninfo)
        beside = servers.together(stack, *(servers.relay(conninfo, **own) for own in relays.values()))
        for number in range(ground.sizes.rounds):
            for name, server in zip(relays, beside, strict=True):
                ground.tell(f"writes: {name}, round {number + 1} of {ground.sizes.rounds}")
                runs[name].append(_measure(ground, server, conninfo))
            script = BATCH.format(terminals=ground.sizes.writers, size=1, pad=PAD)
            pgbench.append(
                transactions_per_second(
                    ground.cluster, conninfo, script, ground.sizes.pgbench_seconds / 2, clients=CLIENTS
                )
            )
    return runs, tuple(pgbench)


def _prepare(ground: Ground, conninfo: str) -> None:
    sizes = ground.sizes
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(TABLES, (sizes.writers, sizes.write_restaurants))
        connection.execute(TILLS.format(terminals=sizes.writers, restaurants=sizes.write_restaurants).encode())


def _tidy(connection: psycopg.Connection[Any]) -> None:
    """Take away what the run before has left behind: old versions of rows that are changed thousands of times."""
    connection.execute("vacuum analyze")


def _measure(ground: Ground, server: Server, conninfo: str) -> Written:
    sizes = ground.sizes
    with psycopg.connect(conninfo, autocommit=True) as connection:
        _tidy(connection)

        def transactions() -> int:
            (count,) = connection.execute("select count(*) from pos.batches").fetchone() or (0,)
            return int(count)

        with crowd(
            server.port,
            sizes.writers,
            "-B",
            CHANGE,
            "-a",
            sizes.write_seconds,
            "-z",
            min(WARM_SECONDS, sizes.write_seconds),
            restaurants=sizes.write_restaurants,
            path="/ws?restaurant=r{r}",
            first=server.first,
        ) as terminals:
            before, cpu = transactions(), server.cpu_seconds()
            terminals.begin()
            found = terminals.result()
            cpu = server.cpu_seconds() - cpu
        batches = transactions() - before
    if found["refused"] or found["closed_early"] or not found["acknowledged"]:
        raise RuntimeError(f"{found['refused']} changes were refused, {found['closed_early']} terminals were closed")
    return Written(
        rate=found["counted"] / sizes.write_seconds,
        batch=found["acknowledged"] / batches,
        cpu_us=cpu / found["acknowledged"] * 1e6,
        p50_ms=found["ack_ms"]["p50"],
        crowd_busy=found["cpu_s"] / found["seconds"],
    )


def _all(runs: list[Written], figure: str) -> tuple[float, ...]:
    return tuple(float(getattr(run, figure)) for run in runs)
