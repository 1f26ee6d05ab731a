"""An ordinary terminal that measures how long its heartbeats take."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.terminals import Row, Terminal

PAUSE = 0.005  # seconds between two heartbeats


class Neighbour(Terminal):
    """A terminal whose heartbeats are measured."""

    _beat: asyncio.Future[float] | None = None

    async def measure(self, work: asyncio.Future[Any]) -> list[float]:
        """The round trips of its heartbeats until the work is done, in seconds, sorted."""
        found: list[float] = []
        while not work.done():
            found.append(await self._round_trip())
            await asyncio.wait({work}, timeout=PAUSE)
        return sorted(found)

    async def _round_trip(self) -> float:
        self._beat = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        await self.say("HEARTBEAT")
        async with asyncio.timeout(10.0):
            return await self._beat - started

    def _hear(self, message: Row) -> None:
        if message["type"] != "HEARTBEAT":
            super()._hear(message)
        elif self._beat is not None:  # and not kept: a soak has a million
            self._beat.set_result(time.perf_counter())
