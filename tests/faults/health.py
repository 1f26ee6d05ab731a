"""What the health of a relay is held against: the table of docs/operations.md, and what a relay says of itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import TestCluster
from tests.proxy import Proxy
from tests.relays import LocalRelay, Reachable
from tests.terminals import Terminal
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"^\| (.+?) \| (200|none) \| (200|503|none) \| (healthy|degraded|down|none) \|", flags=re.MULTILINE)
NO_STANDBY = "`READ_DATABASE_URL` leads to a standby that is away, far behind, or no standby"  # test_reading_standby.py
GREEN = ("200", "200", "healthy")
SHORT = 15.0  # seconds for a fault to show
LONG = 30.0  # and for the way back: a connection that is dead without a word takes some time to find out

State = tuple[str, str, str]


def rows() -> dict[str, State]:
    """The page's table: by fault, what live, ready and health say."""
    return {fault: (live, ready, health) for fault, live, ready, health in ROW.findall(PAGE.read_text())}


async def said(relay: Reachable) -> State:
    """What a relay says of itself; `none` where it says nothing."""
    try:
        live, ready = [(await relay.get(f"/health/{name}"))[0] for name in ("live", "ready")]
        status, _, body = await relay.get("/health")
    except OSError:
        return "none", "none", "none"
    assert status == (503 if body["status"] == "down" else 200), body
    assert bool(body["problems"]) == (body["status"] != "healthy"), body
    if body["ready"] != (ready == 200):
        return await said(relay)  # it changed in between
    return str(live), str(ready), str(body["status"])


async def says(relay: Reachable, state: State, within: float) -> None:
    """Wait until a relay says this."""

    async def does() -> bool:
        found = await said(relay)
        assert found[0] == state[0], found
        return found == state

    await until(does, within=within, what=f"{state}")


@dataclass(frozen=True)
class World:
    """A relay that reaches its database, and listens, through a proxy each."""

    cluster: TestCluster
    conninfo: str
    reads: Proxy
    listens: Proxy
    relay: LocalRelay
    terminal: Terminal

    def lead_to(self, port: int) -> None:
        """Everything goes to another server from here on."""
        for proxy in (self.reads, self.listens):
            proxy.lead_to(port)
            proxy.reset()

    async def change(self, **row: Any) -> None:
        """A change that a terminal asks for, whatever comes of it."""
        await self.terminal.ask("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", **row}}, within=30.0)


Fault = Callable[[World], AbstractAsyncContextManager[None]]


class Faults(dict[str, Fault]):
    """Faults by the names that they have on the page. Each begins before the yield and is over after it."""

    def __call__(self, name: str) -> Callable[[Callable[[World], AsyncIterator[None]]], Fault]:
        """Say under which name a fault stands."""

        def registered(happening: Callable[[World], AsyncIterator[None]]) -> Fault:
            self[name] = asynccontextmanager(happening)
            return self[name]

        return registered


async def suffer(world: World, name: str, fault: Fault) -> None:
    """See a fault turn red what the page says, nothing else, and all green again when it is over."""
    assert await said(world.relay) == GREEN
    expected = rows()[name]
    failed = None
    async with fault(world):
        try:
            if expected != GREEN:
                await says(world.relay, expected, SHORT)
            else:
                for _ in range(20):
                    assert await said(world.relay) == GREEN
        except AssertionError as error:
            failed = error  # raised when the fault is over, or it would be the next test's too
    if failed is not None:
        raise failed
    await says(world.relay, GREEN, LONG)
