"""What of the log and of the ledger is kept, and for how long; the rest is let go in small transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

import psycopg

from . import schema
from .database import Database
from .errors import DatabaseUnavailable, SchemaError
from .settings import Settings

ROWS = 5000  # in one transaction
LENGTH = 1000  # of what `step` is told

Step = Callable[[int, str], None]


class Kept(NamedTuple):
    """How much of the log stays: what is younger than so many days, and at most the newest rows of each restaurant."""

    days: int
    rows: int


async def prune_log(database: Database, kept: Kept, step: Step | None = None) -> int:
    """Let go of every restaurant's changes beyond what is kept; how many went. Raises DatabaseUnavailable.

    Nothing goes where another relay is at it. A restaurant whose head is held by somebody's transaction keeps its
    changes until the next time, and what a connected terminal still needs is kept for a while (pos.prune_log). `step`
    is told how far it is, from 0 to LENGTH.
    """
    gone = restaurant_id = at = here = 0
    log: dict[int, int] = {}
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
        if step is not None:
            if not log:
                log = await _log_sizes(database)
                log[found[0][0]] += found[0][1]  # these have gone already
            here = found[0][1] + (here if found[0][0] == at else 0)
            at = found[0][0]
            passed = here + sum(size for other, size in log.items() if other < at)
            step(min(LENGTH, LENGTH * passed // max(1, sum(log.values()))), f"{gone:,} went")
        # There is no hurry: half of the time is the terminals'.
        await asyncio.sleep(time.monotonic() - started)


async def _log_sizes(database: Database) -> dict[int, int]:
    """How many changes each restaurant's log has."""
    rows = await database.read("select h.restaurant_id, h.revision - h.floor + 1 from pos.heads as h", ())
    return dict(rows)


async def prune_rest(database: Database, settings: Settings) -> dict[str, int]:
    """Let go of old mutation ids, tombstones, messages and batches; how many went. Raises DatabaseUnavailable."""
    total: dict[str, int] = {}
    while True:
        gone = await database.prune(settings.keep_days, ROWS)
        total = {kind: total.get(kind, 0) + count for kind, count in gone.items()}
        if max(gone.values()) < ROWS:
            return total


async def prune(settings: Settings, kept: Kept, step: Step | None = None) -> dict[str, int]:
    """Let go of all that is old, the log first; how many went, by kind. `step` is told how far the log is.

    Raises SchemaError where there is no schema, or the role may not; DatabaseUnavailable.
    """
    # A pool says only that it got no connection; this says why.
    if await schema.installed_version(settings.conninfo) is None:
        raise SchemaError(f"there is no schema in this database; {schema.HOW_TO_APPLY}")
    database = Database(settings)
    await database.open()
    try:
        return {"changes": await prune_log(database, kept, step), **await prune_rest(database, settings)}
    except DatabaseUnavailable as error:
        if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise SchemaError(str(error)) from None
        raise
    finally:
        await database.close()


async def note_lagging(database: Database, instance_id: str, cursors: Mapping[int, int]) -> None:
    """Say what this instance's slowest terminals hold, by restaurant, where they lag. Raises DatabaseUnavailable."""
    await database.read("select pos.note_lagging(%s, %s, %s)", (instance_id, list(cursors), list(cursors.values())))
