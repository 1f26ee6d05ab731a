"""Rows `paced` and `burst`: one change to every terminal of a restaurant."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from tests.bench.beside import beside
from tests.bench.crowd import GATHER_MICROSECONDS, crowd
from tests.bench.figures import Line, Reach, number
from tests.bench.ground import Ground
from tests.bench.peers import NAMES
from tests.bench.publishing import Publisher
from tests.bench.servers import EACH, JOINED, RELAY, SEND_TEXT, Server

TIE = 1.2  # figures of one run that differ by less say nothing
PEERS = (SEND_TEXT, *NAMES.values())


class Run(NamedTuple):
    """One run against one server."""

    cpu_us: float  # of the server, for each delivery
    p50_ms: float  # from just before the statement that made the change
    p99_ms: float
    rate: float  # deliveries a second
    crowd_busy: float  # share of a core that the load client used
    crowd_us: float  # of its CPU, for each delivery


def paced(ground: Ground) -> Iterator[Line]:
    """Changes one by one, so many a second."""
    sizes = ground.sizes

    def run(server: Server, conninfo: str) -> Run:
        changes = sizes.slow_paced_changes if server.name == SEND_TEXT else sizes.paced_changes
        return measure(ground, server, conninfo, changes, lambda publisher: publisher.pace(changes, sizes.paced_rate))

    runs = _rounds(ground, "paced", run, without=JOINED)
    period = 1000 / sizes.paced_rate
    for name, found in runs.items():
        if (p50 := statistics.median(run.p50_ms for run in found)) > period:
            # Whoever joins what waits is then cheaper than it is.
            busy = f"the machine was too busy for {name}: p50 {number(p50)} ms, a change every {number(period)} ms"
            ground.remarks.append(f"Row paced is not of changes one by one, for {busy}.")
    as_fast = dict.fromkeys(PEERS, Reach(TIE, ratio=True))
    yield from lines("paced", "CPU µs per delivery", runs, "cpu_us", {EACH: Reach(1.5, ratio=True)})
    yield from lines("paced", "p50 ms", runs, "p50_ms", as_fast)
    yield from lines("paced", "p99 ms", runs, "p99_ms", as_fast)
    yield Line("paced", "load client, % of a core", tuple(100 * run.crowd_busy for run in runs[RELAY]))


def burst(ground: Ground) -> Iterator[Line]:
    """Many changes at once."""
    sizes = ground.sizes

    def run(server: Server, conninfo: str) -> Run:
        joins = server.is_relay or server.name == JOINED
        changes = sizes.burst_changes if joins else sizes.slow_burst_changes
        return measure(ground, server, conninfo, changes, lambda publisher: publisher.burst(changes))

    runs = _rounds(ground, "burst", run, without=EACH)
    reaches = dict.fromkeys(PEERS, Reach(12, at_most=False, ratio=True))
    reaches[JOINED] = Reach(0.6, at_most=False, ratio=True)
    yield from lines("burst", "deliveries/s", runs, "rate", reaches)
    yield from lines("burst", "CPU µs per delivery", runs, "cpu_us", {})
    yield Line("burst", "load client's µs per delivery", _all(runs[RELAY], "crowd_us"))


def measure(ground: Ground, server: Server, conninfo: str, changes: int, publish: Callable[[Publisher], object]) -> Run:
    """What it costs a server to hand these changes to every terminal. RuntimeError where one was lost."""
    with (
        closing(Publisher(conninfo, server)) as publisher,
        crowd(
            server.port,
            ground.sizes.terminals,
            *("-m", changes, "-g", GATHER_MICROSECONDS),
            *server.options,
            path=server.path,
            first=server.first,
        ) as terminals,
    ):
        before = server.cpu_seconds()
        publish(publisher)
        found = terminals.result()
        used = server.cpu_seconds() - before
    if found["lost"] or found["gaps"]:
        raise RuntimeError(f"{server.name} lost {found['lost']} of {found['received'] + found['lost']} deliveries")
    return Run(
        cpu_us=used / found["received"] * 1e6,
        p50_ms=found["age_ms"]["p50"],
        p99_ms=found["age_ms"]["p99"],
        rate=found["received"] / found["first_to_last_s"] if found["first_to_last_s"] else 0.0,
        crowd_busy=found["cpu_s"] / found["seconds"],
        crowd_us=found["cpu_s"] / found["received"] * 1e6,
    )


def _rounds(ground: Ground, row: str, run: Callable[[Server, str], Run], *, without: str) -> dict[str, list[Run]]:
    """Each server in turn, and that so many times."""
    everybody = beside(ground)
    runs: dict[str, list[Run]] = defaultdict(list)
    for turn in range(ground.sizes.rounds):
        for server in everybody.without(without):
            ground.tell(f"{row}: {server.name}, round {turn + 1} of {ground.sizes.rounds}")
            runs[server.name].append(run(server, everybody.conninfo))
    return runs


def lines(row: str, what: str, runs: dict[str, list[Run]], figure: str, reaches: dict[str, Reach]) -> Iterator[Line]:
    """The relay's figure beside each reference's."""
    for name in runs:
        if name != RELAY:
            yield Line(row, what, _all(runs[RELAY], figure), name, _all(runs[name], figure), reaches.get(name))


def _all(runs: Sequence[Run], figure: str) -> tuple[float, ...]:
    return tuple(float(getattr(run, figure)) for run in runs)
