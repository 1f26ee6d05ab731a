"""The one LISTEN connection: hear, prove that it hears, reconnect; and the sweep that finds what was not heard.

A notification says where to look, never what happened.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
from psycopg.rows import TupleRow

from . import metrics
from .database import PROOF, ROLL_CALL, Database, Heads
from .errors import DatabaseUnavailable, Deaf, OnlyStandby
from .hub import Hub
from .logs import fields
from .pools import is_pooled
from .reader import READ_DELAY, Reader
from .settings import Settings
from .versions import complaint

log = logging.getLogger("relay.listener")

FIRST_DELAY, LAST_DELAY = 0.1, 5.0  # seconds between attempts to listen again
DEAF_SECONDS = READ_DELAY  # the sweep's pace while it is deaf
PROOF_GRACE = 2.0  # seconds in which a proof of life must come back
HEAR_SECONDS = 0.5  # the listening task looks up at least this often
QUEUE_ALARM = 0.01  # of the notification queue; it is nearly empty as long as every listener of the cluster hears


class Listener:
    """Hears the doorbell, and has the reader look."""

    def __init__(self, database: Database, hub: Hub, settings: Settings, reader: Reader) -> None:
        self._database = database
        self._hub = hub
        self._settings = settings
        self._reader = reader
        self._instance = secrets.token_hex(8)
        self._ear = 0  # counts the LISTEN connections
        self._server_version = 0  # of the last one, as in server_version_num
        self._heard = 0.0  # when it last heard anything, its own bell first, on this connection; 0 while deaf
        self._proof_heard = False
        self._proof_due = 0.0  # until when the last proof must be heard; 0 when none is under way
        self._prove_now = asyncio.Event()
        self.failed_proofs = 0  # in a row, that the database did not commit
        self._reached = 0.0  # when a sweep last reached the database
        self._away = False  # the last sweep did not reach it
        self._back = asyncio.Event()  # a sweep reached the database again
        self._deaf_since, self._deaf_before = time.monotonic(), 0.0  # seconds: when it began, and all times before
        self.queue_usage = 0.0  # part of the notification queue in use, at the last look
        self._standing: dict[int, tuple[str, int, float]] = {}  # by restaurant behind: epoch, revision, since when
        self.lag = 0  # changes by which the room that is furthest behind was behind its head at the last sweep
        self.on_return: Callable[[], None] = lambda: None
        self.on_roll_call: Callable[[], None] = lambda: None

    # What health asks

    @property
    def hearing(self) -> bool:
        """Whether it listens and has heard its own bell on this connection, and in time."""
        return self._heard > 0

    @property
    def silent_seconds(self) -> float | None:
        """Since it last heard anything; None while it is deaf."""
        return time.monotonic() - self._heard if self._heard else None

    @property
    def database_reached(self) -> bool:
        """Whether the last sweeps reached the database."""
        return time.monotonic() - self._reached < 3 * self._settings.sweep_seconds + READ_DELAY

    @property
    def was_reached(self) -> bool:
        """Whether a sweep has ever reached the database."""
        return self._reached > 0

    @property
    def stuck_seconds(self) -> float:
        """For how long a restaurant has been behind its head and not come nearer; of several the longest."""
        now = time.monotonic()
        return now - min((since for _, _, since in self._standing.values()), default=now)

    @property
    def deaf_seconds(self) -> float:
        """For how long, all in all, nothing could be heard."""
        return self._deaf_before + (0.0 if self._heard else time.monotonic() - self._deaf_since)

    async def run(self) -> None:
        """Listen, sweep and prove until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="listener ear")
            tasks.create_task(self._sweep(), name="listener sweep")
            tasks.create_task(self._prove(), name="listener proof")

    # Hear

    async def _hear(self) -> None:
        attempt = 0
        told: set[type[Exception]] = set()
        while True:
            was_hearing = False
            self._back.clear()
            try:
                async with self._database.listening() as connection:
                    pooled = await is_pooled(connection)
                    self._complain_of(connection.info.server_version)
                    # LISTEN first, and only then read: until now any restaurant may have moved unheard.
                    for restaurant_id in self._hub.rooms:
                        self._reader.ring(restaurant_id)
                    self._ear += 1
                    self._proof_due = 0.0
                    self._prove_now.set()
                    await self._listen(connection, pooled=pooled)
            except (psycopg.Error, OSError, TimeoutError, OnlyStandby, Deaf) as error:
                was_hearing = self.hearing
                if was_hearing:
                    told.clear()
                if type(error) not in told:
                    log.warning("deaf: not ready, and changes arrive by the sweep", extra=fields(error=error))
                told.add(type(error))
            if was_hearing:
                self._deaf_since = time.monotonic()
            self._heard = 0.0
            attempt = 0 if was_hearing else attempt + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(_backoff(attempt)):
                    await self._back.wait()

    def _complain_of(self, server_version: int) -> None:
        said = complaint(server_version)
        if said and server_version != self._server_version:
            log.warning("%s", said)
        self._server_version = server_version

    async def _listen(self, connection: psycopg.AsyncConnection[TupleRow], *, pooled: bool) -> None:
        while True:
            # Looked at first: after a freeze of this process the proof is overdue, and waits to be heard.
            overdue = 0 < self._proof_due < time.monotonic()
            async for notification in connection.notifies(timeout=HEAR_SECONDS):
                self._take(notification)
            if overdue and self._proof_due:
                # A pooler, or a network that swallows everything: nothing else would tell. (A pooler through which it
                # has heard keeps a LISTEN.)
                raise Deaf(pooled=pooled and not self.hearing)

    def _take(self, notification: psycopg.Notify) -> None:
        if self._heard:
            self._heard = time.monotonic()
        if notification.channel == PROOF:
            if notification.payload == self._instance:
                self._proof_heard, self._proof_due = True, 0.0
                if not self._heard:
                    log.info("listening")
                    self._deaf_before = self.deaf_seconds
                    self._heard = time.monotonic()
        elif notification.channel == ROLL_CALL:
            self.on_roll_call()
        # Anybody may notify: a payload is a hint to be checked against our rooms, and nothing else.
        elif notification.payload.isascii() and notification.payload.isdigit() and len(notification.payload) < 20:
            metrics.DOORBELLS.inc()
            self._reader.hear(int(notification.payload), notification.pid)

    async def _prove(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.proof_seconds):
                    await self._prove_now.wait()
            self._prove_now.clear()
            if self._proof_due:
                continue
            self._proof_heard, ear = False, self._ear
            try:
                # On its own: in one transaction with the bell it is lost when the queue is so full that none rings.
                before, self.queue_usage = self.queue_usage, await self._database.queue_usage()
                if before <= QUEUE_ALARM < self.queue_usage:
                    log.warning(
                        "some listener of the cluster does not read its notifications",
                        extra=fields(queue=self.queue_usage),
                    )
                await self._database.prove(self._instance)
            except DatabaseUnavailable:
                self.failed_proofs += 1
                continue  # that says nothing about the ear
            self.failed_proofs = 0
            # It may have been heard before the call returned, and an ear that was not there yet cannot hear it.
            if not self._proof_heard and ear == self._ear:
                self._proof_due = time.monotonic() + PROOF_GRACE

    # Sweep

    async def _sweep(self) -> None:
        while True:
            # At once, for a relay is not ready before it has reached the database; then as often as the settings say.
            await self._look()
            pace = self._settings.sweep_seconds if self._heard else min(DEAF_SECONDS, self._settings.sweep_seconds)
            await asyncio.sleep(pace * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load, keeps no secret

    async def _look(self) -> None:
        self._hub.forget_idle()
        try:
            await self._compare_heads()
        except DatabaseUnavailable as error:
            if not self._away:
                log.error("the database is away", extra=fields(error=error))
            self._away = True
            return
        self._reached = time.monotonic()
        if self._away:
            log.info("the database is back")
            self._away = False
            self._back.set()
        self.on_return()

    def _note_standing(self, heads: Heads) -> None:
        now, before, self._standing = time.monotonic(), self._standing, {}
        for restaurant_id, head in heads.by_restaurant.items():
            room = self._hub.rooms.get(restaurant_id)
            if room is not None and room.window and (head.revision > room.head or heads.epoch != room.epoch):
                epoch, revision, since = before.get(restaurant_id, ("", 0, now))
                stands = (epoch, revision) == (room.epoch, room.head)
                self._standing[restaurant_id] = (room.epoch, room.head, since if stands else now)

    async def _compare_heads(self) -> None:
        heads = await self._database.read_heads(list(self._hub.rooms), live=True)
        self._note_standing(heads)
        self.lag = 0
        for restaurant_id, head in heads.by_restaurant.items():
            room = self._hub.rooms.get(restaurant_id)
            if room is not None and room.window:
                self.lag = max(self.lag, head.revision - room.head)
                if (head, heads.epoch) != ((room.head, room.messages, room.staff), room.epoch):
                    self._reader.sweep(restaurant_id)


def _backoff(attempt: int) -> float:
    """Seconds to wait: doubling to a ceiling, never two relays in step."""
    # The exponent is capped too: 2.0 ** 1024 overflows after one night.
    ceiling = min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
