"""Row `rest`: a waiter's change on another terminal's screen, while little is going on; and where the time goes."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import servers
from tests.bench.beside import beside
from tests.bench.crowd import crowd
from tests.bench.figures import Line, Reach
from tests.bench.ground import Ground
from tests.bench.publishing import TABLE
from tests.bench.servers import Server
from tests.bench.traced import STAGES
from tests.cluster import free_port

PAD = "x" * 100
CHANGE = (
    '{"type":"UPDATE_TABLE","id":"{i}-{t}","clientId":"till-{i}","data":{"action":"update","data":'
    '{"id":"bench","n":{n},"t":{t},"pad":"' + PAD + '"}}}'
)
PAYLOAD = "asyncio loop, row in NOTIFY"
LOGGED = "the same, with log and ledger"


def rest(ground: Ground) -> Iterator[Line]:
    """Few terminals, few changes."""
    sizes = ground.sizes
    relay: list[dict[str, Any]] = []
    payload: list[dict[str, Any]] = []
    logged: list[dict[str, Any]] = []
    conninfo = beside(ground).conninfo
    by_name = {server.name: server for server in beside(ground).servers}
    _add_table(conninfo, 1)
    with servers.plain(conninfo, LOGGED, _add_restaurant(conninfo)) as loop:
        loop.wait()
        for number in range(sizes.rounds):
            for found, server in ((relay, by_name[servers.RELAY]), (payload, by_name[servers.PLAIN]), (logged, loop)):
                ground.tell(f"rest: {server.name}, round {number + 1} of {sizes.rounds}")
                found.append(_measure(ground, server))
    for what, part, reach in (("p50 ms", "p50", Reach(4)), ("p99 ms", "p99", Reach(12))):
        yield Line("rest", what, _part(relay, part), PAYLOAD, _part(payload, part), reach)
        yield Line("rest", what, _part(relay, part), LOGGED, _part(logged, part))
    more = tuple(a - b for a, b in zip(_part(relay, "p50"), _part(logged, "p50"), strict=True))
    yield Line("rest", "p50 ms more than with log and ledger", more, reach=Reach(1))
    yield Line("rest", "p50 ms, a terminal's first", _part(relay, "first"), PAYLOAD, _part(payload, "first"))
    ground.tell("rest: where the time goes")
    taken = _traced(ground, conninfo)
    if not taken[STAGES[0]]:
        ground.remarks.append("Row rest does not say where the time goes, for no change passed alone.")
        return
    for name in STAGES:
        yield Line("rest", f"of it {name}, ms", (statistics.median(taken[name]),))


def _measure(ground: Ground, server: Server) -> dict[str, Any]:
    sizes = ground.sizes
    load = ("-B", CHANGE, "-P", sizes.rest_rate, "-m", sizes.rest_terminals + sizes.rest_changes)
    with crowd(server.port, sizes.rest_terminals, *load, first=server.first) as terminals:
        terminals.begin()
        found = terminals.result()
    if found["lost"]:
        raise RuntimeError(f"{server.name} lost {found['lost']} deliveries")
    return {**found["age_ms"], "first": found["first_ms"]["p50"]}


def _traced(ground: Ground, conninfo: str) -> dict[str, list[float]]:
    """The milliseconds of each stage, of every change that passed alone."""
    with tempfile.NamedTemporaryFile(prefix="bench-trace-") as file:
        port = free_port()
        environment = {"DATABASE_URL": conninfo, "PORT": str(port), "LOG_LEVEL": "warning", **servers.LIFTED}
        command = [sys.executable, "-m", "tests.bench.traced", file.name, str(ground.sizes.rest_terminals)]
        with servers.process_of("traced relay", command, port, environment, is_relay=True) as server:
            server.wait()
            _measure(ground, server)
        return dict(json.loads(Path(file.name).read_text()))


def _add_restaurant(conninfo: str) -> int:
    """One of its own for the reference with a log: what is changed in it wakes no terminal of the relay's."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        made = "insert into pos.restaurants (slug, name) values ('logged', 'L') returning restaurant_id"
        (restaurant_id,) = connection.execute(made).fetchone() or (0,)
    _add_table(conninfo, restaurant_id)
    return int(restaurant_id)


def _add_table(conninfo: str, restaurant_id: int) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("select pos.update_table(%s, 'add', %s, 'bench')", (restaurant_id, json.dumps(TABLE)))


def _part(runs: list[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(run[name]) for run in runs)
