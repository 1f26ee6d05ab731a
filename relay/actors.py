"""Says who is about to change something, so that a row of the log need not."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import psycopg

from .database import QUICK_SECONDS, Database
from .errors import DatabaseUnavailable
from .protocol import Actor, Mutation

log = logging.getLogger("relay.actors")

NOTED_SECONDS = 600.0  # a note holds so long; pos.history_of looks a quarter of an hour back
MOST = 20_000  # actors remembered here


class Actors:
    """The actors that the database knows of, under their client ids."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[tuple[int, str, Actor], float] = {}

    async def note(self, mutations: Sequence[Mutation]) -> None:
        """Note whoever is not noted lately. Raises DatabaseUnavailable: then the mutations were not sent either."""
        now = time.monotonic()
        found = {(m.restaurant_id, m.client_id, m.actor) for m in mutations}
        new = [one for one in found if now - self._noted.get(one, -NOTED_SECONDS) >= NOTED_SECONDS]
        if not new:
            return
        try:
            await self._database.read(
                "select pos.note_actors(%s, %s, %s, %s, %s)",
                (
                    [restaurant_id for restaurant_id, _, _ in new],
                    [client_id for _, client_id, _ in new],
                    [actor.terminal for _, _, actor in new],
                    [actor.role for _, _, actor in new],
                    [actor.address for _, _, actor in new],
                ),
                QUICK_SECONDS,
                live=True,  # snapshots that wait for somebody's lock hold up no sale
            )
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable(str(error), sent=False) from error
        except psycopg.Error:
            log.exception("it could not be noted who changes things")  # no sale waits for that
            return
        if len(self._noted) + len(new) > MOST:
            self._noted = {one: at for one, at in self._noted.items() if now - at < NOTED_SECONDS}
        self._noted.update(dict.fromkeys(new, now))
