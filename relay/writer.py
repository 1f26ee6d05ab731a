"""Gathers pending mutations into transactions and hands each its answer.

While one transaction is on its way, what arrives waits and goes into the next: no added delay, one commit, one flush
and one NOTIFY for all of it. A restaurant in which somebody holds a lock leaves the batches for a lane of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .database import Answer, Database, LockedOut
from .errors import DatabaseUnavailable, Refusal
from .logs import fields
from .protocol import Mutation
from .settings import Settings

log = logging.getLogger("relay.writer")

RESTAURANTS = 48  # in one batch; each costs a subtransaction, and 64 are what PostgreSQL keeps in memory
LANE_BATCH = 32
LANE_FIRST_DELAY, LANE_LAST_DELAY = 0.02, 0.4  # seconds between attempts at a locked restaurant
UNKNOWN_SECONDS = 15.0  # to find out what became of a batch whose connection broke
AWAY_DELAY = 0.2  # seconds before the next attempt at a database that is away
# A mutation without an id is not repeated by its terminal: it waits this long for a database that is away, or a locked
# row, before it is given up.
UNREPEATED_SECONDS = 20.0


@dataclass(slots=True, eq=False)
class Pending:
    """A mutation that waits for its answer."""

    mutation: Mutation
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)

    @property
    def terminal(self) -> tuple[int, str]:
        """Whose mutations keep their order."""
        return self.mutation.restaurant_id, self.mutation.client_id

    def waited(self, seconds: float) -> bool:
        """Whether it has waited longer than it may; `seconds` are for a terminal that repeats."""
        return time.monotonic() - self.since > (seconds if self.mutation.id else max(seconds, UNREPEATED_SECONDS))

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal."""
        if not self.answer.done():
            self.answer.set_exception(refusal)


class Writer:
    """The way of every mutation into the database. `ring` is called with each restaurant that was committed to."""

    def __init__(self, database: Database, settings: Settings, ring: Callable[[int], None]) -> None:
        self._database = database
        self._settings = settings
        self._ring = ring
        self._queue: deque[Pending] = deque()
        self._lane: deque[Pending] = deque()
        self._parked: set[int] = set()
        self._busy = 0  # taken out of a queue and not answered yet
        self._queued = asyncio.Event()
        self._lane_queued = asyncio.Event()
        self._lane_size = LANE_BATCH
        self._closing = False
        self._idle = asyncio.Event()

    @property
    def pending(self) -> int:
        """Mutations that wait for their answer."""
        return len(self._queue) + len(self._lane) + self._busy

    def submit(self, mutation: Mutation) -> asyncio.Future[Answer]:
        """Queue a mutation; the future brings its Answer (applied) or a Refusal. Raises Refusal when all is full."""
        if self._closing:
            raise Refusal("UNAVAILABLE", "this relay is restarting; connect again and repeat")
        if self.pending >= self._settings.pending:
            raise Refusal("BUSY", "too many mutations are waiting; try again")
        pending = Pending(mutation, asyncio.get_running_loop().create_future())
        if mutation.restaurant_id in self._parked:
            self._lane.append(pending)
            self._lane_queued.set()
        else:
            self._queue.append(pending)
            self._queued.set()
        return pending.answer

    async def drain(self) -> None:
        """Take no more, and return when everything is answered."""
        self._closing = True
        if self.pending:
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_batches(), name="writer batches")
            tasks.create_task(self._run_lane(), name="writer lane")

    # Batches

    async def _run_batches(self) -> None:
        while True:
            await self._queued.wait()
            batch = self._take_batch()
            if not batch:
                self._queued.clear()
                continue
            await self._write(batch, isolate=False)
            self._done(batch)

    def _take_batch(self) -> list[Pending]:
        batch: list[Pending] = []
        restaurants: set[int] = set()
        while self._queue and len(batch) < self._settings.batch:
            restaurant_id = self._queue[0].mutation.restaurant_id
            if restaurant_id not in restaurants and len(restaurants) == RESTAURANTS:
                break
            restaurants.add(restaurant_id)
            batch.append(self._queue.popleft())
        self._busy += len(batch)
        return batch

    def _done(self, batch: list[Pending]) -> None:
        self._busy -= len(batch)
        if not self.pending:
            self._idle.set()

    # The lane

    async def _run_lane(self) -> None:
        delay = LANE_FIRST_DELAY
        while True:
            await self._lane_queued.wait()
            batch = self._take_lane()
            if not batch:
                self._parked.clear()
                self._lane_queued.clear()
                continue
            held = await self._write(batch, isolate=True)
            self._done(batch)
            self._parked = {p.mutation.restaurant_id for p in self._lane}
            delay = min(delay * 2, LANE_LAST_DELAY) if held else LANE_FIRST_DELAY
            if held:
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, keeps no secret

    def _take_lane(self) -> list[Pending]:
        # One of each terminal at a time: whoever is held up must not be overtaken by its own next mutation.
        batch: list[Pending] = []
        rest: deque[Pending] = deque()
        terminals: set[tuple[int, str]] = set()
        for pending in self._lane:
            if pending.waited(self._settings.busy_seconds) and pending.terminal not in terminals:
                pending.refuse(Refusal("BUSY", "another transaction holds this row; try again"))
            elif pending.terminal in terminals or len(batch) >= self._lane_size:
                terminals.add(pending.terminal)
                rest.append(pending)
            else:
                terminals.add(pending.terminal)
                batch.append(pending)
        self._lane = rest
        self._busy += len(batch)
        return batch

    def _park(self, held: Sequence[Pending], *, first: bool) -> None:
        """Put what is held up into the lane, `first` or last; what is queued of its restaurants follows."""
        restaurants = {p.mutation.restaurant_id for p in held}
        for restaurant_id in restaurants - self._parked:
            log.info("a restaurant is held up and goes its own way", extra=fields(restaurant=restaurant_id))
        self._parked |= restaurants
        if first:
            self._lane.extendleft(reversed(held))
        else:
            self._lane.extend(held)
            self._lane.extend(p for p in self._queue if p.mutation.restaurant_id in restaurants)
            self._queue = deque(p for p in self._queue if p.mutation.restaurant_id not in restaurants)
        self._lane_queued.set()

    # One transaction

    async def _write(self, batch: list[Pending], *, isolate: bool) -> bool:
        """Apply a batch and answer it; whether some of it was held up and waits in the lane."""
        try:
            answers = await self._apply([p.mutation for p in batch], isolate=isolate)
        except LockedOut:
            # The sum of its waits was too long. Nobody can say for whom, so each restaurant is tried on its own.
            self._lane_size = max(1, self._lane_size // 2) if isolate else self._lane_size
            self._park(batch, first=isolate)
            return True
        except DatabaseUnavailable as error:
            await self._put_off(batch, isolate=isolate, sent=error.sent)
            return False
        except Exception:
            log.exception("a batch failed", extra=fields(mutations=len(batch)))
            self._refuse(batch, Refusal("INTERNAL", "the mutation failed; the relay's log says why"))
            return False
        self._lane_size = LANE_BATCH
        held = [p for p, a in zip(batch, answers, strict=True) if a.code in ("LOCKED", "APART")]
        for pending, answer in zip(batch, answers, strict=True):
            self._settle(pending, answer)
        for restaurant_id in {p.mutation.restaurant_id for p in batch}:
            self._ring(restaurant_id)
        if held:
            self._park(held, first=isolate)
        return any(answer.code == "LOCKED" for answer in answers)

    async def _apply(self, mutations: list[Mutation], *, isolate: bool) -> list[Answer]:
        """Apply once, whatever happens to the connection: the batch's id tells whether it was committed."""
        batch_id = uuid.uuid4()
        started = time.monotonic()
        sent = False
        while True:
            try:
                answers = await self._database.apply(batch_id, mutations, isolate=isolate)
            except DatabaseUnavailable as error:
                sent = sent or error.sent
                if not sent or time.monotonic() - started > UNKNOWN_SECONDS:
                    raise DatabaseUnavailable(str(error), sent=sent) from error
                log.warning(
                    "the connection broke in a batch; asking what became of it", extra=fields(mutations=len(mutations))
                )
                await asyncio.sleep(AWAY_DELAY)
            else:
                log.debug(
                    "committed",
                    extra=fields(mutations=len(mutations), milliseconds=round((time.monotonic() - started) * 1000, 1)),
                )
                return answers

    async def _put_off(self, batch: list[Pending], *, isolate: bool, sent: bool) -> None:
        """The database is away: say so to those who repeat, keep for a while what nobody would repeat."""
        kept = [p for p in batch if not (sent or p.mutation.id or p.waited(0))]
        self._refuse((p for p in batch if p not in kept), Refusal("UNAVAILABLE", "the database is away; try again"))
        (self._lane if isolate else self._queue).extendleft(reversed(kept))
        if kept:
            await asyncio.sleep(AWAY_DELAY)

    @staticmethod
    def _settle(pending: Pending, answer: Answer) -> None:
        if answer.code in ("LOCKED", "APART") or pending.answer.done():
            return
        if answer.applied:
            pending.answer.set_result(answer)
        else:
            pending.answer.set_exception(answer.refusal())

    @staticmethod
    def _refuse(batch: Iterable[Pending], refusal: Refusal) -> None:
        for pending in batch:
            pending.refuse(refusal)
