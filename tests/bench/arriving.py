"""Rows `memory` and `handshakes`: what a terminal costs that is there and does nothing, and one that comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from resource import RLIMIT_NOFILE, getrlimit

from tests.bench import peers, servers
from tests.bench.crowd import crowd
from tests.bench.figures import Line, Reach
from tests.bench.ground import Ground
from tests.bench.programs import NotBuilt
from tests.bench.servers import Server
from tests.waiting import pause

SPARE_DESCRIPTORS = 500
SETTLE_SECONDS = 0.5  # until those who left are forgotten


def memory(ground: Ground) -> Iterator[Line]:
    """RSS beyond that of the same process before anybody came, a round of pings later."""
    sizes = ground.sizes
    terminals = min(sizes.idle_terminals, getrlimit(RLIMIT_NOFILE)[1] - SPARE_DESCRIPTORS)
    if terminals < sizes.idle_terminals:
        ground.skip(f"more than {terminals} idle terminals", "a process may not open more files (ulimit -Hn)")
    found: dict[str, tuple[float, ...]] = {}
    with ExitStack() as stack:
        for server in _servers(ground, stack):
            ground.tell(f"memory: {server.name}")
            empty = server.resident_bytes()
            with crowd(server.port, terminals, *server.options, path=server.path, first=server.first):
                pause(sizes.idle_seconds if server.is_relay else 1.0)
                found[server.name] = ((server.resident_bytes() - empty) / terminals / 1024,)
            if server.is_relay:
                yield Line("memory", "MiB of the empty relay", (empty / 1024**2,))
    for name in found:
        if name != "relay":
            what = f"KiB per idle terminal ({terminals:,})"
            yield Line("memory", what, found["relay"], name, found[name], Reach(14))


def handshakes(ground: Ground) -> Iterator[Line]:
    """Terminals that connect; those of the relay also sync."""
    count = ground.sizes.handshakes
    cpu: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        beside = _servers(ground, stack)
        for number in range(ground.sizes.rounds):
            for server in beside:
                ground.tell(f"handshakes: {server.name}, round {number + 1} of {ground.sizes.rounds}")
                before = server.cpu_seconds()
                with crowd(server.port, count, *server.options, path=server.path, first=server.first) as terminals:
                    cpu[server.name].append(server.cpu_seconds() - before)
                    seconds[server.name].append(terminals.connected.seconds)
                pause(SETTLE_SECONDS)
    for name in cpu:
        if name != "relay":
            what = f"CPU s for {count:,}"
            yield Line("handshakes", what, tuple(cpu["relay"]), name, tuple(cpu[name]), Reach(2))
    for name in seconds:
        if name != "relay":
            yield Line("handshakes", f"s for {count:,}", tuple(seconds["relay"]), name, tuple(seconds[name]))


def _servers(ground: Ground, stack: ExitStack) -> list[Server]:
    conninfo = stack.enter_context(ground.database())
    beside = [stack.enter_context(servers.relay(conninfo))]
    try:
        beside.append(stack.enter_context(servers.c(conninfo)))
    except NotBuilt as why:
        ground.skip("the C reference", why)
    beside.append(stack.enter_context(servers.plain(conninfo)))
    beside.append(stack.enter_context(servers.send_text(conninfo)))
    if ground.peers:
        beside += [stack.enter_context(peer) for peer in peers.servers(ground.peers, conninfo)]
    return beside
