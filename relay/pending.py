"""A mutation on its way into the database, until it is answered; and the name of the batch that it goes in."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from .answers import Answer
from .errors import Refusal
from .protocol import Mutation

log = logging.getLogger("relay.pending")

# A mutation without an id is not repeated by its terminal. It waits for a database that is away, or short of space, as
# long as that takes (the queue has a bound, and then its terminal is not read from), and this long for a locked row.
UNREPEATED_SECONDS = 120.0


@dataclass(slots=True, eq=False)
class Pending:
    """A mutation that waits for its answer."""

    mutation: Mutation
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)
    held: bool = False  # by a lock, or for want of space, at its last attempt
    span: Any = None  # of Tracing.received, where that is on

    @property
    def terminal(self) -> tuple[int, str]:
        """Whose mutations keep their order."""
        return self.mutation.restaurant_id, self.mutation.client_id

    def waited(self, seconds: float, failed_at: float) -> bool:
        """Whether it has waited longer than it may; `seconds` are for a terminal that repeats.

        For one that does not, what came before `failed_at`, when the database last failed, does not count.
        """
        if self.mutation.id:
            return time.monotonic() - self.since > seconds
        return time.monotonic() - max(self.since, failed_at) > max(seconds, UNREPEATED_SECONDS)

    def settle(self, answer: Answer) -> None:
        """Answer with what it came to, unless it is to be tried again."""
        if answer.code in ("LOCKED", "APART") or self.answer.done():
            return
        if answer.applied:
            self.answer.set_result(answer)
        elif not answer.short or self.mutation.id:
            self.answer.set_exception(answer.refusal())
        elif not self.held:
            log.error("a mutation waits for memory or space: %s: %s", answer.code, answer.message)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal."""
        if not self.answer.done():
            self.answer.set_exception(refusal)


def new_batch_id() -> uuid.UUID:
    """An id that no batch has, a UUID of version 7 (RFC 9562, section 5.7).

    They begin with the time: the index of a day of them grows at its end, and is not written all over.
    """
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))


def away() -> Refusal:
    """Of what could not be tried."""
    return Refusal("UNAVAILABLE", "the database is away; try again")


def closing() -> Refusal:
    """Of what comes, or still waits, when the relay leaves."""
    return Refusal("UNAVAILABLE", "this relay is restarting; connect again and repeat")
