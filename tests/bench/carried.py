"""Row `library`: what an author who builds on the terminal library gets, with and without an outbox on the disk."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay.terminal import MemoryStore, SqliteStore, Store, Terminal
from tests.bench import servers
from tests.bench.beside import beside
from tests.bench.figures import Line
from tests.bench.ground import Ground
from tests.bench.publishing import TABLE

IN_MEMORY = "an outbox in memory"


def library(ground: Ground) -> Iterator[Line]:
    """One terminal's changes, one after the other, on another's screen."""
    port = next(server.port for server in beside(ground).servers if server.name == servers.RELAY)
    kept: list[list[float]] = []
    forgotten: list[list[float]] = []
    for number in range(ground.sizes.rounds):
        ground.tell(f"library: round {number + 1} of {ground.sizes.rounds}")
        with tempfile.TemporaryDirectory(prefix="bench-outbox-") as folder:
            for found, store in ((kept, SqliteStore(Path(folder) / "outbox.db")), (forgotten, MemoryStore())):
                found.append(asyncio.run(_milliseconds(f"ws://127.0.0.1:{port}/ws", store, ground.sizes.rest_changes)))
    yield Line("library", "p50 ms until another shows it", _medians(kept), IN_MEMORY, _medians(forgotten))


async def _milliseconds(url: str, store: Store, changes: int) -> list[float]:
    """How long each of so many changes took."""
    found: list[float] = []
    async with Terminal(url, store=store) as waiter, Terminal(url) as kitchen:
        seen = asyncio.Event()
        kitchen.on("view", lambda _: seen.set())
        await waiter.answered(await waiter.table("add", TABLE))
        for number in range(changes + 1):
            began = time.perf_counter()
            await waiter.table("update", {"id": TABLE["id"], "n": number})
            while kitchen.tables.get(str(TABLE["id"]), {}).get("n") != number:
                await seen.wait()
                seen.clear()
            found.append((time.perf_counter() - began) * 1000)
    return found[1:]  # the first one waited until the other was synced


def _medians(rounds: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(statistics.median(one) for one in rounds)
