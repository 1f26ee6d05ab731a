"""Rows `memory` and `handshakes`: what a terminal costs that is there and does nothing, and one that comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from resource import RLIMIT_NOFILE, getrlimit

from tests.bench.beside import beside
from tests.bench.crowd import crowd
from tests.bench.figures import Line, Reach
from tests.bench.ground import FULL, Ground
from tests.bench.servers import JOINED, RELAY
from tests.waiting import pause

SPARE_DESCRIPTORS = 500
OTHERS_IDLE_SECONDS = 0.5
SETTLE_SECONDS = 0.3  # until those who left are forgotten


def memory(ground: Ground) -> Iterator[Line]:
    """RSS beyond that of the same process before anybody came, a round of pings later."""
    sizes = ground.sizes
    terminals = min(sizes.idle_terminals, getrlimit(RLIMIT_NOFILE)[1] - SPARE_DESCRIPTORS)
    if terminals < sizes.idle_terminals:
        ground.skip(f"more than {terminals} idle terminals", "a process may not open more files (ulimit -Hn)")
    empty: dict[str, float] = {}
    each: dict[str, list[float]] = {}
    for server in beside(ground).without(JOINED):
        ground.tell(f"memory: {server.name}")
        before = server.resident_bytes()
        with crowd(server.port, terminals, *server.options, path=server.path, first=server.first):
            pause(sizes.idle_seconds if server.is_relay else OTHERS_IDLE_SECONDS)
            each[server.name] = [(server.resident_bytes() - before) / terminals / 1024]
        empty[server.name] = before / 1024**2
    yield from _lines("memory", f"KiB per idle terminal ({terminals:,})", each, Reach(14))
    yield Line("memory", "MiB of the empty relay", (empty[RELAY],))


def handshakes(ground: Ground) -> Iterator[Line]:
    """Terminals that connect; those of the relay also sync."""
    count = ground.sizes.handshakes
    cpu: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(ground.sizes.rounds):
        for server in beside(ground).without(JOINED):
            ground.tell(f"handshakes: {server.name}, round {number + 1} of {ground.sizes.rounds}")
            before = server.cpu_seconds()
            with crowd(server.port, count, *server.options, path=server.path, first=server.first) as terminals:
                cpu[server.name].append(server.cpu_seconds() - before)
                seconds[server.name].append(terminals.connected.seconds)
            pause(SETTLE_SECONDS)
    yield from _lines("handshakes", f"CPU s for {count:,}", cpu, Reach(2) if count == FULL.handshakes else None)
    yield from _lines("handshakes", f"s for {count:,}", seconds, None)


def _lines(row: str, what: str, found: dict[str, list[float]], reach: Reach | None) -> Iterator[Line]:
    """The relay's figure beside each reference's; what it has to reach is said once."""
    for name, runs in found.items():
        if name != RELAY:
            yield Line(row, what, tuple(found[RELAY]), name, tuple(runs), reach)
            reach = None
