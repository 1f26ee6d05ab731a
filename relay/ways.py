"""The ways of recent changes: when each was received, committed, heard of, read and written on this instance.

What /board shows. Written once a batch, never once a terminal, and bounded: the last changes of the restaurants that
changed last. Times are seconds since 1970 by this machine's clock, but for `given`, which is the database's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from . import metrics
from .answers import Answer
from .logrows import ChangeRow
from .protocol import Mutation

WAYS = 50  # changes kept of each restaurant,
RESTAURANTS = 100  # of those that changed last: with the longest ids 8 MiB in all
CHANGING = frozenset({"UPDATE_TABLE", "UPDATE_MENU", "UPDATE_ORDER", "UPDATE_SETTINGS"})  # what has a revision
SECONDS = 120  # in which changes are counted one by one


class Sent(NamedTuple):
    """A change's first part, known where its mutation came in: taken from the terminal, begun, and committed."""

    client_id: str
    received: float
    begun: float  # when the attempt began that committed it
    committed: float  # when the database's answer came


class Reading(NamedTuple):
    """The second part, which all changes of one read share: heard of, read, and written to this instance's terminals.

    `heard` is when the doorbell rang that led to the read; it may have rung before the change was there.
    """

    heard: float
    read: float
    written: float
    terminals: int


class Way(NamedTuple):
    """A change, and when it passed here. `given` is sync_log.created_at: when its statement got the revision."""

    revision: int
    type: str
    action: str
    row_id: str | None
    client_id: str
    given: float
    reading: Reading


class Second(NamedTuple):
    """The changes that were written within one second: from `given` to `written` all in all, and the slowest."""

    second: int
    changes: int
    seconds: float
    slowest: float


class Trail:
    """What is kept of one restaurant: `sent` by revision."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        self.ways: deque[Way] = deque(maxlen=WAYS)
        self.sent: dict[int, Sent] = {}
        self.seconds: deque[Second] = deque(maxlen=SECONDS)

    def count(self, written: float, late: Sequence[float]) -> None:
        """Count changes that were `late` by so many seconds, each 0 or more."""
        second, total, slowest, changes = int(written), sum(late), max(late), len(late)
        if self.seconds and self.seconds[-1].second == second:
            last = self.seconds.pop()
            changes, total, slowest = changes + last.changes, total + last.seconds, max(slowest, last.slowest)
        self.seconds.append(Second(second, changes, total, slowest))

    def is_new(self, revision: int, begun: float) -> bool:
        """Whether a batch begun then may have made this change.

        One that changes nothing, and one that is repeated, are answered with the revision of an earlier change.
        """
        since = self.ways[-1].revision - revision if self.ways else -1
        return since < 0 or (since < len(self.ways) and self.ways[-1 - since].reading.written >= begun)


class Ways:
    """The trails of this instance, by restaurant: the one that changed last at the end."""

    def __init__(self) -> None:
        self.trails: dict[int, Trail] = {}

    def commit(
        self,
        begun: float,
        committed: float,
        mutations: Sequence[Mutation],
        answers: Sequence[Answer],
        received: Sequence[float],
    ) -> None:
        """Take a batch. When it was `begun`, and each mutation `received`, is of time.monotonic().

        Of a large batch the last ones: more are not kept of one restaurant, and it costs them next to nothing.
        """
        clock = time.time() - time.monotonic()
        for mutation, answer, at in zip(mutations[-WAYS:], answers[-WAYS:], received[-WAYS:], strict=True):
            revision = answer.revision
            if answer.code != "OK" or not revision or mutation.type not in CHANGING:
                continue
            trail = self.trails.get(mutation.restaurant_id) or self._trail(mutation.restaurant_id, "")
            if revision not in trail.sent and trail.is_new(revision, clock + begun):
                trail.sent[revision] = Sent(mutation.client_id, clock + at, clock + begun, committed)
                if len(trail.sent) > WAYS:
                    del trail.sent[next(iter(trail.sent))]

    def take(self, restaurant_id: int, slug: str, changes: Sequence[ChangeRow], reading: Reading) -> None:
        """Take what one read brought of a restaurant, one change at least, and count how late each was."""
        late = [max(0.0, reading.written - row.milliseconds / 1000) for row in changes]
        for seconds in late:
            metrics.DELIVERY.observe(seconds)
        trail = self._trail(restaurant_id, slug)
        if trail.ways and changes[0].revision != trail.ways[-1].revision + 1:
            # Another history, or nobody was here for a while: what was known belongs to neither.
            ended = trail.ways[-1].reading.written
            trail.ways.clear()
            trail.sent = {revision: sent for revision, sent in trail.sent.items() if sent.begun > ended}
        trail.ways.extend(
            Way(row.revision, row.type, row.action, row.row_id, row.client_id, row.milliseconds / 1000, reading)
            for row in changes[-WAYS:]
        )
        trail.count(reading.written, late)

    def _trail(self, restaurant_id: int, slug: str) -> Trail:
        """The restaurant's trail, as the one that changed last."""
        trail = self.trails.pop(restaurant_id, None) or Trail(slug)
        trail.slug = slug or trail.slug
        self.trails[restaurant_id] = trail
        if len(self.trails) > RESTAURANTS:
            del self.trails[next(iter(self.trails))]
        return trail
