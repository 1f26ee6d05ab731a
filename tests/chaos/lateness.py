"""How late this process is itself: on a busy machine its own terminals wait for their turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.waiting import slow_down

LOOK_SECONDS = 0.02


class Lateness:
    """By how many seconds it came late, each time that it looked."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def forget(self) -> None:
        self.found = [0.0]

    @property
    def most(self) -> float:
        return max(self.found, default=0.0)

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await slow_down(LOOK_SECONDS)
            self.found.append(time.monotonic() - began - LOOK_SECONDS)


@asynccontextmanager
async def watched() -> AsyncIterator[Lateness]:
    """It looks meanwhile."""
    made = Lateness()
    watching = asyncio.create_task(made.watch())
    try:
        yield made
    finally:
        watching.cancel()
