"""Row `storm`: a relay that comes back, and every terminal of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from relay.settings import Settings
from tests.bench import servers
from tests.bench.crowd import crowd
from tests.bench.figures import Line, Reach
from tests.bench.ground import Ground
from tests.waiting import wait_until

MISSED = 20  # changes of each restaurant while the terminals were away
DINING_TABLES, ORDERS = 20, 50  # of a restaurant
SHOP = """
with r as (select restaurant_id from pos.restaurants where slug <> 'default'),
  t as (insert into pos.tables (restaurant_id, id, number, seats)
        select restaurant_id, n::text, n, 4 from r, generate_series(1, %s) as n)
insert into pos.order_history (restaurant_id, id, status, total, extra)
select restaurant_id, 'o' || n, 'completed', n, '{"items": [{"id": "1", "name": "Mohinga", "quantity": 2}]}'
from r, generate_series(1, %s) as n
"""
HEADS = """
select min(h.epoch), min(h.revision), max(h.revision)
from pos.read_heads((select array_agg(restaurant_id) from pos.restaurants where slug <> 'default')) as h
"""
LIMITED = {variable: default for variable, default, _ in Settings.describe() if variable in servers.LIFTED}
CALLS = "select funcname, calls from pg_stat_user_functions where schemaname = 'pos'"
OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
MARK = """
update pos.tables
set extra = jsonb_build_object('n', 1, 't', (extract(epoch from clock_timestamp()) * 1000000000)::bigint)
where id = '1'
"""


class Storm(NamedTuple):
    """One of them."""

    seconds: float  # until the last terminal is synced
    cpu: float  # seconds of the relay
    calls: dict[str, int]  # of the SQL functions


def storm(ground: Ground) -> Iterator[Line]:
    """Half of the terminals hold all, a quarter lacks changes, a quarter holds nothing."""
    sizes = ground.sizes
    runs: list[Storm] = []
    ground.tell("storm: who is live")
    runs.append(_storm(ground, then_change=True))
    # A change is read, too: what the storm itself reads is counted where there is none.
    ground.tell("storm: what it reads")
    runs.append(_storm(ground, then_change=False))
    calls = runs[-1].calls
    # A relay tries now and then whether it may read, of no restaurant, and only then by pos.changes_after.
    snapshots = (calls.get("snapshot", 0) - calls.get("changes_after", 0)) / sizes.storm_restaurants
    changes = calls.get("read_changes", 0) / sizes.storm_restaurants
    count = f"{sizes.storm_terminals:,}"
    yield Line("storm", f"s until {count} are live", tuple(run.seconds for run in runs), reach=Reach(10))
    yield Line("storm", "relay's CPU s", tuple(run.cpu for run in runs))
    yield Line("storm", "snapshots read, a restaurant", (snapshots,), reach=Reach(1))
    yield Line("storm", "reads of changes, a restaurant", (changes,), reach=Reach(1))


def _storm(ground: Ground, *, then_change: bool) -> Storm:
    sizes = ground.sizes
    with ground.database(restaurants=sizes.storm_restaurants) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(SHOP.encode(), (DINING_TABLES, ORDERS))
            for number in range(MISSED):
                connection.execute("update pos.tables set seats = %s where id = '1'", (5 + number,))
            epoch, head, highest = connection.execute(HEADS.encode()).fetchone() or ("", 0, 0)
            assert head == highest, "the restaurants differ"

        def holds(revision: int) -> str:
            return f'{{"type":"SYNC_REQUEST","data":{{"epoch":"{epoch}","revision":{revision}}}}}'

        first = [(holds(head), 1), (holds(head - MISSED), 1 + MISSED), (holds(head), 1), ('{"type":"SYNC_REQUEST"}', 1)]
        with servers.relay(conninfo, **LIMITED) as server:
            server.wait()
            cpu = server.cpu_seconds()
            with crowd(
                server.port,
                sizes.storm_terminals,
                *("-c", sizes.storm_terminals, "-m", int(then_change)),
                restaurants=sizes.storm_restaurants,
                path="/ws?restaurant=r{r}",
                first=first,
            ) as terminals:
                cpu = server.cpu_seconds() - cpu
                if then_change:  # live is who is sent it
                    with psycopg.connect(conninfo) as connection:
                        connection.execute(MARK.encode())
                found = terminals.result(end=not then_change)
        calls = _calls(conninfo)
    if found["lost"]:
        raise RuntimeError(f"{found['lost']} of {sizes.storm_terminals} terminals are not live")
    return Storm(terminals.connected.seconds, cpu, calls)


def _calls(conninfo: str) -> dict[str, int]:
    """How often each function was called by those who have left: a session tells it when it ends."""
    with psycopg.connect(conninfo, autocommit=True) as connection:

        def others() -> int:
            (count,) = connection.execute(OTHERS).fetchone() or (0,)
            return int(count)

        wait_until(lambda: not others(), within=20.0, what="the end of the relay's sessions")
        return {str(name): int(calls) for name, calls in connection.execute(CALLS)}
