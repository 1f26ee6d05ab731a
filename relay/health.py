"""What this relay says of itself: what is wrong, whether terminals are served all the same, and what to do."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import psycopg

from . import schema
from .connections import Connections
from .database import QUICK_SECONDS
from .errors import DatabaseUnavailable
from .listener import Listener
from .logs import fields
from .standby import Reads
from .trials import Trials
from .writer import FAILING

log = logging.getLogger("relay.health")

LOOK_SECONDS = 2.0  # between two looks at the version of the schema
STUCK_SECONDS = 5.0  # for which a restaurant may be behind its head and not come nearer
QUEUE_FULL = 0.9  # of the notification queue, from which a commit may be refused any moment

Status = Literal["healthy", "degraded", "down"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, in a sentence that says what to do.

    `down`: nobody is served. `serves`: terminals are served as well as ever, so they may be sent here.
    """

    message: str
    down: bool = False
    serves: bool = False


AWAY = Problem(
    "the database does not answer: look whether PostgreSQL runs and takes connections (relay doctor)", down=True
)
STARTING = Problem("this relay has not reached its database yet", down=True)
NO_SCHEMA = Problem(f"the database has no schema any more: {schema.HOW_TO_APPLY}", down=True)
DEAF = Problem("no notifications are heard, changes arrive late, by looking for them: run relay doctor")
STUCK = Problem("a restaurant is behind its log and comes no nearer: its changes cannot be read; run relay doctor")
NOT_WRITING = Problem(
    "nothing can be changed: the database refuses what is written; run relay doctor, look at its disk"
)
QUEUE = Problem("the notification queue is full, so nothing can be changed: relay doctor names who fills it")


def wrong_schema(installed: int) -> Problem:
    """That another version of the schema came while this relay runs."""
    if installed > schema.VERSION:
        # Upgrades are made so that running relays go on: a deploy puts the schema in first.
        message = (
            f"the schema has version {installed} now, this relay speaks {schema.VERSION}: restart it with a newer one"
        )
        return Problem(message, serves=True)
    return Problem(f"the schema has version {installed} now, this relay needs {schema.VERSION}: {schema.HOW_TO_APPLY}")


def refused(complaint: str) -> Problem:
    """That the database answers, and refuses what every terminal asks for."""
    return Problem(f"the database refuses what terminals ask for: {complaint}; run relay doctor, which says the mend")


def unreadable(complaint: str) -> Problem:
    """That it refuses some of it: to one restaurant perhaps, and the others are served."""
    return Problem(f"something cannot be read: {complaint}; the log says what, run relay doctor", serves=True)


class Health:
    """The state of one relay, from its parts."""

    def __init__(self, connections: Connections, listener: Listener, reads: Reads) -> None:
        self._connections = connections
        self._reads = reads
        self._listener = listener
        self._trials = Trials(connections.database)
        self._looked = False
        self.installed: int | None = None  # version of the schema at the last look; None: there is none

    def problems(self) -> list[Problem]:
        """All that is wrong now."""
        listener, writer = self._listener, self._connections.writer
        if self._looked and self.installed is None:
            return [NO_SCHEMA]
        complaint = self._trials.complaint
        if not listener.database_reached:
            if complaint is not None:
                return [replace(refused(complaint), down=True)]
            return [AWAY if listener.was_reached else STARTING]
        found = [refused(complaint)] if complaint is not None else []
        if not found:
            found += map(unreadable, self._connections.database.unreadable.complaints)
        if not listener.hearing:
            found.append(DEAF)
        if listener.stuck_seconds > STUCK_SECONDS:
            found.append(STUCK)
        if listener.queue_usage > QUEUE_FULL:
            found.append(QUEUE)
        elif writer.failing or listener.failed_proofs >= FAILING:
            found.append(NOT_WRITING)
        if self.installed is not None and self.installed != schema.VERSION:
            found.append(wrong_schema(self.installed))
        if (complaint := self._reads.complaint) is not None:
            message = f"READ_DATABASE_URL is of no use: {complaint}; the primary is read instead, look at that standby"
            found.append(Problem(message, serves=True))
        return found

    @property
    def status(self) -> Status:
        """The state in a word: `degraded` as soon as anything is wrong."""
        problems = self.problems()
        if any(problem.down for problem in problems):
            return "down"
        return "degraded" if problems else "healthy"

    @property
    def ready(self) -> bool:
        """Whether a proxy should send terminals here."""
        return not self._connections.draining and all(problem.serves for problem in self.problems())

    async def run(self) -> None:
        """Look at the version of the schema, and at what can be read, until cancelled."""
        while True:
            await self._look_at_schema()
            await self._try()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_schema(self) -> None:
        try:
            installed = await self._installed()
        except (DatabaseUnavailable, psycopg.Error):
            return  # it was not told: the listener says why, and nothing ends for it
        if self._looked and installed != self.installed:
            self._say(installed)
        self.installed, self._looked = installed, True

    async def _try(self) -> None:
        before, database = self._trials.complaint, self._connections.database
        if self.installed is not None and self.installed >= schema.VERSION:  # else that says it all
            await self._trials.run_due()
        if (complaint := self._trials.complaint) != before:
            if complaint is None:
                log.info("the database does what terminals ask for again, or does not answer")
            else:
                log.error("%s", refused(complaint).message)
        for query, parameters in database.unreadable.again:
            with suppress(DatabaseUnavailable, psycopg.Error):  # noted there
                await database.read(query, parameters)

    async def _installed(self) -> int | None:
        try:
            rows = await self._connections.database.read("select version from pos.installation", (), QUICK_SECONDS)
        except DatabaseUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                return None
            raise
        return int(rows[0][0]) if rows else None

    def _say(self, installed: int | None) -> None:
        if installed == schema.VERSION:
            log.info("the schema has the right version again", extra=fields(version=installed))
        else:
            problem = NO_SCHEMA if installed is None else wrong_schema(installed)
            log.log(logging.WARNING if problem.serves else logging.ERROR, "%s", problem.message)
