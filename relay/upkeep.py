"""Lets go, once a minute, of what the database need not keep any longer."""

from __future__ import annotations

import asyncio
import logging
import random

from .database import Database
from .errors import DatabaseUnavailable
from .logs import fields
from .settings import Settings

log = logging.getLogger("relay.upkeep")

MINUTE = 60.0
ROWS = 5000  # in one transaction, so that nobody waits for it


async def run(database: Database, settings: Settings) -> None:
    """Prune until cancelled. Every instance tries; the database lets one at a time."""
    while True:
        await asyncio.sleep(MINUTE * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, keeps no secret
        try:
            gone = await database.prune(settings.keep_days, settings.keep_log_days, ROWS)
            while max(gone.values()) >= ROWS:
                gone = await database.prune(settings.keep_days, settings.keep_log_days, ROWS)
        except DatabaseUnavailable:
            continue
        except Exception:
            log.exception("nothing could be pruned")  # no terminal waits for it
            continue
        if any(gone.values()):
            log.debug("pruned", extra=fields(**gone))
