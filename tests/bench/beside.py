"""The relay and every reference that hands on what NOTIFY carries: started once, and shared by the rows."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.bench import peers, servers
from tests.bench.ground import Ground
from tests.bench.programs import NotBuilt, build
from tests.bench.servers import Beside, Server


def beside(ground: Ground) -> Beside:
    """All of them, the relay first, on a database of theirs; they run until the ground is left."""
    if ground.beside is None:
        conninfo = ground.stack.enter_context(ground.database())
        starting: list[AbstractContextManager[Server]] = [servers.relay(conninfo)]
        try:
            build("fanout")
            starting += [servers.c(conninfo), servers.c(conninfo, joined=True)]
        except NotBuilt as why:
            ground.skip("the C reference", why)
        starting += [servers.plain(conninfo), servers.send_text(conninfo)]
        if ground.peers:
            starting += peers.servers(ground.peers, conninfo)
        ground.beside = Beside(conninfo, servers.together(ground.stack, *starting))
    return ground.beside
