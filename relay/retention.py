"""What of the log and of the ledger is kept, and for how long; the rest is let go in small transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from .database import Database
from .settings import Settings

ROWS = 5000  # in one transaction


class Kept(NamedTuple):
    """How much of the log stays: what is younger than so many days, and at most the newest rows of each restaurant."""

    days: int
    rows: int


async def prune_log(database: Database, kept: Kept) -> int:
    """Let go of every restaurant's changes beyond what is kept; how many went. Raises DatabaseUnavailable.

    Nothing goes where another relay is at it. A restaurant whose head is held by somebody's transaction keeps its
    changes until the next time, and what a connected terminal still needs is kept for a while (pos.prune_log).
    """
    gone, restaurant_id = 0, 0
    while True:
        started = time.monotonic()
        found = await database.read(
            "select restaurant_id, changes from pos.prune_log(%s, %s, %s, %s)",
            (restaurant_id, timedelta(days=kept.days), kept.rows, ROWS),
        )
        if not found:
            return gone
        # A full batch has left more: then its restaurant has another turn.
        restaurant_id = found[0][0] - (found[0][1] == ROWS)
        gone += found[0][1]
        # There is no hurry: half of the time is the terminals'.
        await asyncio.sleep(time.monotonic() - started)


async def prune_rest(database: Database, settings: Settings) -> dict[str, int]:
    """Let go of old mutation ids, tombstones, messages and batches; how many went. Raises DatabaseUnavailable."""
    total: dict[str, int] = {}
    while True:
        gone = await database.prune(settings.keep_days, ROWS)
        total = {kind: total.get(kind, 0) + count for kind, count in gone.items()}
        if max(gone.values()) < ROWS:
            return total


async def prune(settings: Settings, kept: Kept) -> dict[str, int]:
    """Let go of all that is old, the log first; how many went, by kind. Raises DatabaseUnavailable."""
    database = Database(settings)
    await database.open()
    try:
        return {"changes": await prune_log(database, kept), **await prune_rest(database, settings)}
    finally:
        await database.close()


async def note_lagging(database: Database, instance_id: str, cursors: Mapping[int, int]) -> None:
    """Say what this instance's slowest terminals hold, by restaurant, where they lag. Raises DatabaseUnavailable."""
    await database.read("select pos.note_lagging(%s, %s, %s)", (instance_id, list(cursors), list(cursors.values())))
