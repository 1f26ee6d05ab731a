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
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from . import metrics
from .actors import Actors, note_of
from .answers import Answer
from .database import Applied, Database
from .errors import DatabaseUnavailable, LockedOut, Refusal
from .logs import fields
from .pending import Pending, away, closing, new_batch_id
from .protocol import Mutation
from .reader import Behind, Reader
from .settings import Settings
from .ways import Ways

if TYPE_CHECKING:
    from .tracing import Tracing

log = logging.getLogger("relay.writer")

RESTAURANTS = 48  # in one batch; each costs a subtransaction, and 64 are what PostgreSQL keeps in memory
BATCH_CHARACTERS = 1024 * 1024  # of bodies in one batch, so that photographs do not make the others wait
PENDING_CHARACTERS = 256 * 1024 * 1024  # of bodies that wait
LANE_BATCH = 32
LANE_FIRST_DELAY, LANE_LAST_DELAY = 0.02, 0.4  # seconds between attempts at a locked restaurant
UNKNOWN_SECONDS = 15.0  # to find out what became of a batch whose connection broke, where all of it can be repeated
KNOWN_SECONDS = 12 * 3600.0  # the same where it cannot: pos.prune forgets it after a day, and then it is done twice
AWAY_DELAY = 0.2  # seconds before the next attempt at a database that is away
FAILING, FAILING_SECONDS = 2, 10.0  # attempts in a row that the database refused, and for how long they count


class Writer:
    """The way of every mutation into the database. The reader is told of each restaurant that was committed to."""

    def __init__(
        self, database: Database, settings: Settings, reader: Reader, ways: Ways, tracing: Tracing | None = None
    ) -> None:
        self._database = database
        self._ways = ways
        self._tracing = tracing
        self._actors = Actors()
        self._settings = settings
        self._reader = reader
        self._queues: dict[int, deque[Pending]] = {}  # by restaurant; whose turn it is comes first
        self._queued_count = 0
        self._lane: deque[Pending] = deque()
        self._parked: set[int] = set()  # restaurants that are in the lane
        self._taken: set[Pending] = set()  # out of a queue, and on their way
        self._characters = 0  # of the bodies of all that wait
        self._queued = asyncio.Event()
        self._lane_queued = asyncio.Event()
        self._lane_size = LANE_BATCH
        self._failures, self._failed_at = 0, 0.0  # in a row, and when the last was
        self._closing = self._hurried = False
        self._idle = asyncio.Event()

    @property
    def pending(self) -> int:
        """Mutations that wait for their answer."""
        return self._queued_count + len(self._lane) + len(self._taken)

    @property
    def full(self) -> bool:
        """Whether no more can be taken now; while it drains, `submit` says so itself."""
        return (self.pending >= self._settings.pending or self._characters >= PENDING_CHARACTERS) and not self._closing

    @property
    def failing(self) -> bool:
        """Whether the database refuses what is written, whoever writes it. One broken connection is not enough."""
        return self._failures >= FAILING and time.monotonic() - self._failed_at < FAILING_SECONDS

    def submit(self, mutation: Mutation) -> asyncio.Future[Answer]:
        """Queue a mutation; the future brings its Answer (applied) or a Refusal. Raises Refusal when all is full."""
        if self._closing:
            raise closing()
        if self.full:
            raise Refusal("BUSY", "too many mutations are waiting; try again")
        pending = Pending(mutation, asyncio.get_running_loop().create_future())
        self._characters += len(mutation.body)
        pending.answer.add_done_callback(partial(self._forget, len(mutation.body)))
        if self._tracing is not None:
            pending.span = self._tracing.received(mutation)
            pending.answer.add_done_callback(partial(self._tracing.answered, pending.span))
        if mutation.restaurant_id in self._parked:
            self._lane.append(pending)
            self._lane_queued.set()
        else:
            self._enqueue(pending)
        return pending.answer

    async def drain(self) -> None:
        """Take no more, and return when everything is answered."""
        self._closing = True
        while self.pending:
            self._idle.clear()
            await self._idle.wait()

    async def hurry(self) -> None:
        """Refuse what waits, and return when what is with the database is answered: what is refused is never done."""
        self._hurried = True
        self._refuse(self._dequeue(self._queues), closing())
        self._lane_queued.set()
        await self.drain()

    def give_up(self) -> None:
        """Take no more, and refuse what waits: nobody is left without an answer."""
        self._closing = True
        self._refuse((*self._taken, *self._dequeue(self._queues), *self._lane), closing())
        self._lane.clear()
        self._taken.clear()
        self._idle.set()

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._run_batches(), name="writer batches")
                tasks.create_task(self._run_lane(), name="writer lane")
        finally:
            self.give_up()

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

    def _enqueue(self, pending: Pending) -> None:
        self._queues.setdefault(pending.mutation.restaurant_id, deque()).append(pending)
        self._queued_count += 1
        self._queued.set()

    def _dequeue(self, restaurant_ids: Iterable[int]) -> list[Pending]:
        """Everything queued of these restaurants, in order, out of their queues."""
        found = [p for i in tuple(restaurant_ids) for p in self._queues.pop(i, ())]
        self._queued_count -= len(found)
        return found

    def _take_batch(self) -> list[Pending]:
        """A share of each restaurant that waits, so that a burst in one does not delay the others."""
        batch: list[Pending] = []
        characters = 0
        turn = list(self._queues)[:RESTAURANTS]
        share = max(1, self._settings.batch // max(1, len(turn)))

        def is_full() -> bool:
            return bool(batch) and (characters > BATCH_CHARACTERS or len(batch) >= self._settings.batch)

        for restaurant_id in turn:
            if is_full():
                break  # whoever had no turn stays before those who had one
            queue = self._queues.pop(restaurant_id)
            for _ in range(min(share, len(queue))):
                if is_full():
                    break
                batch.append(queue.popleft())
                characters += len(batch[-1].mutation.body)
            if queue:
                self._queues[restaurant_id] = queue  # behind the others
        self._queued_count -= len(batch)
        self._taken.update(batch)
        return batch

    def _done(self, batch: Iterable[Pending]) -> None:
        self._taken.difference_update(batch)
        if not self.pending:
            self._idle.set()

    def _forget(self, size: int, _answer: asyncio.Future[Answer]) -> None:
        self._characters -= size

    # The lane

    async def _run_lane(self) -> None:
        delay, rest_until = LANE_FIRST_DELAY, 0.0
        while True:
            batch = self._take_lane(rested=time.monotonic() >= rest_until)
            if batch:
                retried = batch[0].held
                held = await self._write(batch, isolate=True)
                if held and (retried or time.monotonic() >= rest_until):
                    delay = min(delay * 2, LANE_LAST_DELAY)
                    rest_until = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - keeps no secret
                elif retried:
                    delay, rest_until = LANE_FIRST_DELAY, 0.0
            self._done(batch)
            self._parked = {p.mutation.restaurant_id for p in self._lane}
            if not batch:
                self._lane_queued.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, rest_until - time.monotonic()) if self._lane else None):
                        await self._lane_queued.wait()

    def _take_lane(self, *, rested: bool) -> list[Pending]:
        """What to try next: what a lock held up before, if the lane has `rested` since, or else what is new in it.

        Of one restaurant, for the next one must not wait for its locks; and one of each terminal at a time: whoever is
        held up must not be overtaken by its own next mutation.
        """
        late = (p for p in self._lane if self._hurried or p.waited(self._settings.busy_seconds, self._failed_at))
        self._refuse(late, Refusal("BUSY", "another transaction holds this row; try again"))
        firsts: dict[tuple[int, str], Pending] = {}
        for pending in self._lane:
            if not pending.answer.done():
                firsts.setdefault(pending.terminal, pending)
        held = [p for p in firsts.values() if p.held]
        chosen = held if held and rested else [p for p in firsts.values() if not p.held]
        batch = [p for p in chosen if p.mutation.restaurant_id == chosen[0].mutation.restaurant_id][: self._lane_size]
        self._taken.update(batch)
        self._lane = deque(p for p in self._lane if p not in self._taken and not p.answer.done())
        return batch

    def _park(self, held: Sequence[Pending]) -> None:
        """Put what was held up in a batch into the lane; what is queued of its restaurants follows."""
        restaurants = {p.mutation.restaurant_id for p in held}
        for restaurant_id in restaurants:
            log.info("a restaurant is held up and goes its own way", extra=fields(restaurant=restaurant_id))
        self._parked |= restaurants
        self._lane.extend((*held, *self._dequeue(restaurants)))
        self._lane_queued.set()

    def _put_behind(self, held: Sequence[Pending]) -> None:
        """Put what was held up in the lane behind the others, and behind it what its terminals sent later."""
        terminals = {p.terminal for p in held}
        later = [p for p in self._lane if p.terminal in terminals]
        self._lane = deque(p for p in self._lane if p.terminal not in terminals)
        self._lane.extend((*held, *later))

    # One transaction

    async def _write(self, batch: list[Pending], *, isolate: bool) -> bool:
        """Apply a batch and answer it; whether some of it was held up and waits in the lane."""
        again = self._put_behind if isolate else self._park
        begun = time.monotonic()
        try:
            with self._tracing.batch([p.span for p in batch]) if self._tracing else nullcontext() as traceparents:
                applied, then = await self._apply(batch, traceparents, isolate=isolate)
        except LockedOut:
            # The sum of its waits was too long. Nobody can say for whom, so each restaurant is tried on its own.
            if isolate:
                self._lane_size = max(1, self._lane_size // 2)
            for pending in batch:
                pending.held = isolate
            again(batch)
            return True
        except DatabaseUnavailable as error:
            if error.sent:  # and it cannot be known whether it was committed: done again, it might be done twice
                self._refuse(batch, away())
            else:
                await self._put_off(batch, isolate=isolate)
            return False
        except Exception as error:
            if len(batch) == 1:
                log.exception("a mutation failed", extra=fields(type=batch[0].mutation.type))
                self._refuse(batch, Refusal("INTERNAL", "the mutation failed; the relay's log says why"))
                return False
            # Whose fault it is shows in smaller and smaller parts.
            cause = type(error.__cause__ or error).__name__
            log.warning("a batch failed", extra=fields(mutations=len(batch), error=cause))
            self._lane_size = max(1, len(batch) // 2) if isolate else self._lane_size
            again(batch)
            return False
        if isolate:
            self._lane_size = min(LANE_BATCH, self._lane_size * 2)
        if applied.read is None:  # before the answers go out: while they are written, the database reads already
            self._reader.ring_all(p.mutation for p in batch)
        for pending, answer in zip(batch, applied.answers, strict=True):
            pending.settle(answer)
            pending.held = isolate and not pending.answer.done()
        if left := [p for p in batch if not p.answer.done()]:
            again(left)
        self._count(batch, applied, begun)
        if applied.read is not None:
            self._reader.take(then, applied.read, applied.at)
        return any(p.held for p in batch)

    def _count(self, batch: Sequence[Pending], applied: Applied, begun: float) -> None:
        """Count a batch that is committed and answered; a fault in here must not have it done again."""
        seconds = applied.at - time.time() + time.monotonic() - begun
        metrics.BATCH.observe(len(batch))
        metrics.COMMIT.observe(seconds)
        log.debug("committed", extra=fields(mutations=len(batch), milliseconds=round(seconds * 1000, 1)))
        try:
            self._ways.commit(begun, applied.at, [p.mutation for p in batch], applied.answers, [p.since for p in batch])
        except Exception:
            log.exception("it could not be noted when a batch was committed")

    async def _apply(
        self, batch: list[Pending], traceparents: list[str | None] | None, *, isolate: bool
    ) -> tuple[Applied, Behind]:
        """Apply once, whatever happens to the connection: the batch's id tells whether it was committed."""
        batch_id = new_batch_id()
        mutations = [p.mutation for p in batch]
        new = self._actors.unknown(mutations)
        started, began = time.monotonic(), time.time()  # only the latter goes on while a machine sleeps
        sent = False
        while True:
            then = self._reader.behind(mutations, at_rest=not self._queues and not self._closing)
            try:
                applied = await self._database.apply(
                    batch_id, mutations, isolate=isolate, note=note_of(new), traceparents=traceparents, then=then.asked
                )
            except DatabaseUnavailable as error:
                self._note_failure()
                if error.sent:
                    self._reader.ring_all(mutations)
                else:
                    self._say_away(batch)
                if error.sent and not sent:
                    log.warning(
                        "the connection broke in a batch; asking what became of it",
                        extra=fields(mutations=len(mutations), error=error),
                    )
                sent = sent or error.sent
                if not sent:
                    raise
            except Exception:
                # The attempt whose connection broke may be committed, or come yet: under a new id it is done twice.
                if not sent or await self._is_closed(batch_id):
                    raise
                self._note_failure()
            else:
                if applied.noted:
                    self._actors.know(new)
                if any(answer.short for answer in applied.answers):
                    self._note_failure()
                elif any(answer.applied for answer in applied.answers):
                    self._failures = 0
                return applied, then
            if time.monotonic() - started > UNKNOWN_SECONDS and all(p.mutation.id for p in batch):
                raise DatabaseUnavailable("it cannot be known whether a batch was committed")
            await asyncio.sleep(AWAY_DELAY)
            if time.time() - began > KNOWN_SECONDS:
                log.error("whether a batch was committed will never be known", extra=fields(mutations=len(batch)))
                raise DatabaseUnavailable("it will never be known whether a batch was committed")

    async def _is_closed(self, batch_id: uuid.UUID) -> bool:
        """Whether it is certain that a batch was not applied and will not be."""
        try:
            return await self._database.close_batch(batch_id)
        except DatabaseUnavailable:
            return False

    def _note_failure(self) -> None:
        self._failures += 1
        self._failed_at = time.monotonic()

    def _say_away(self, batch: Sequence[Pending]) -> None:
        """The database is away: who repeats is told so at once, those that wait behind the batch too."""
        queued = self._dequeue(self._queues)
        self._refuse((p for p in (*batch, *queued, *self._lane) if p.mutation.id), away())
        for pending in queued:
            if not pending.answer.done():
                self._enqueue(pending)
        self._lane = deque(p for p in self._lane if not p.answer.done())

    async def _put_off(self, batch: list[Pending], *, isolate: bool) -> None:
        """Nothing could be done: who repeats is told so, what nobody would repeat waits until it can be."""
        kept = [p for p in batch if not p.mutation.id]
        self._refuse((p for p in batch if p.mutation.id), away())
        if isolate:
            self._lane.extendleft(reversed(kept))
        else:
            queued = self._dequeue({p.mutation.restaurant_id for p in kept})
            for pending in (*kept, *queued):
                self._enqueue(pending)
        if kept:
            await asyncio.sleep(AWAY_DELAY)

    @staticmethod
    def _refuse(batch: Iterable[Pending], refusal: Refusal) -> None:
        for pending in batch:
            pending.refuse(refusal)
