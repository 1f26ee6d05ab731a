"""Lets go, now and then, of what the database need not keep any longer."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Iterator

from . import retention
from .database import Database
from .errors import DatabaseUnavailable
from .hub import Hub
from .logs import fields
from .settings import Settings

log = logging.getLogger("relay.upkeep")

NOTE_SECONDS = 10.0  # between looks for terminals that lag; pos.prune_log believes a note for a minute
REST_SECONDS = 60.0
LOG_SECONDS = 600.0  # a transaction for each restaurant that has something to let go


class Upkeep:
    """One instance's share of the upkeep. Every instance tries; the database lets one at a time."""

    def __init__(self, database: Database, hub: Hub, settings: Settings) -> None:
        self._database = database
        self._hub = hub
        self._settings = settings
        self._instance_id = secrets.token_hex(8)
        self._noted = False
        self._due = {self._prune_rest: REST_SECONDS, self._prune_log: LOG_SECONDS}

    async def run(self) -> None:
        """Note and prune until cancelled."""
        began = time.monotonic()
        due = {deed: began + _about(seconds) for deed, seconds in self._due.items()}
        while True:
            await asyncio.sleep(_about(NOTE_SECONDS))
            deeds = [self.note, *(deed for deed, at in due.items() if at < time.monotonic())]
            for deed in deeds:
                try:
                    await deed()
                except DatabaseUnavailable:
                    continue
                except Exception:
                    log.exception("the upkeep failed")  # no terminal waits for it
                if deed in due:
                    due[deed] = time.monotonic() + _about(self._due[deed])

    async def note(self) -> None:
        """Say which restaurants have a terminal here that lags; nothing is written where none does, or did."""
        cursors = dict(self._lagging())
        if cursors or self._noted:
            await retention.note_lagging(self._database, self._instance_id, cursors)
        self._noted = bool(cursors)

    def _lagging(self) -> Iterator[tuple[int, int]]:
        for room in self._hub.rooms.values():
            behind = [
                session.cursor
                for session in room.sessions
                # One of another epoch is given the state, whatever the log holds.
                if session.lagging and session.epoch == room.epoch and session.cursor < room.head
            ]
            if behind:
                yield room.restaurant_id, min(behind)

    async def _prune_rest(self) -> None:
        gone = await retention.prune_rest(self._database, self._settings)
        if any(gone.values()):
            log.debug("pruned", extra=fields(**gone))

    async def _prune_log(self) -> None:
        kept = retention.Kept(self._settings.keep_log_days, self._settings.keep_log_rows)
        if gone := await retention.prune_log(self._database, kept):
            log.debug("pruned", extra=fields(changes=gone))


def _about(seconds: float) -> float:
    """Spreads the load of several instances."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - keeps no secret
