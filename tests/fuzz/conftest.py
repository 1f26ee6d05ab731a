"""What the conversations are held with: one relay process for a whole module, which must be left as it was found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from relay.schema import apply
from tests.cluster import TestCluster
from tests.fuzz.driving import Driver
from tests.fuzz.frame_rules import LIMIT
from tests.relays import RelayProcess
from tests.waiting import until

# No ping of the relay's own disturbs a conversation.
SETTINGS = {
    "RELAY_MAX_MESSAGE_BYTES": str(LIMIT),
    "RELAY_HEARTBEAT_SECONDS": "300",
    # A neighbour that measures all the time, beside whoever sends what he likes, would be refused after ten seconds.
    "RELAY_TERMINAL_MESSAGES": "0",
    "RELAY_RESTAURANT_MESSAGES": "0",
    "RELAY_RESTAURANT_BYTES": "0",
}


def complaints(log: str) -> list[str]:
    """What a relay's log must not have, whatever terminals send."""
    return [line for line in log.splitlines() if " ERROR " in line or "traceback=" in line or "Traceback" in line]


@pytest.fixture(scope="module")
def relay(cluster: TestCluster) -> Iterator[RelayProcess]:
    """A relay process on a database of its own; at the end it has no terminals, and its log has no error."""
    cluster.create_database("fuzz")
    asyncio.run(apply(cluster.conninfo("fuzz")))
    process = RelayProcess(cluster.conninfo("fuzz"), **SETTINGS)
    try:
        asyncio.run(process.start())
        yield process
        asyncio.run(alone(process))
    finally:
        asyncio.run(process.stop())
        said = process.log
        process.close()
    assert complaints(said) == []


@pytest.fixture(scope="module")
def driver(relay: RelayProcess) -> Iterator[Driver]:
    with Driver(relay.port) as made:
        yield made


async def alone(process: RelayProcess, clients: int = 0) -> None:
    """Wait until a relay has no more terminals than these."""

    async def counted() -> bool:
        health = await process.health()
        return bool(health["clients"] == clients and health["pending"] == 0 and health["status"] == "healthy")

    await until(counted, within=10.0, what=f"{clients} terminals in the relay's health")
