"""A mutation on its way into the database, until it is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from .answers import Answer
from .errors import Refusal
from .protocol import Mutation

# A mutation without an id is not repeated by its terminal. It waits for a database that is away as long as that takes
# (the queue has a bound, and then its terminal is not read from), and this long for a locked row.
UNREPEATED_SECONDS = 120.0


@dataclass(slots=True, eq=False)
class Pending:
    """A mutation that waits for its answer."""

    mutation: Mutation
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)
    held: bool = False  # by a lock, at its last attempt
    span: Any = None  # of Tracing.received, where that is on

    @property
    def terminal(self) -> tuple[int, str]:
        """Whose mutations keep their order."""
        return self.mutation.restaurant_id, self.mutation.client_id

    def waited(self, seconds: float) -> bool:
        """Whether it has waited longer than it may; `seconds` are for a terminal that repeats."""
        return time.monotonic() - self.since > (seconds if self.mutation.id else max(seconds, UNREPEATED_SECONDS))

    def settle(self, answer: Answer) -> None:
        """Answer with what it came to, unless it is to be tried again."""
        if answer.code in ("LOCKED", "APART") or self.answer.done():
            return
        if answer.applied:
            self.answer.set_result(answer)
        else:
            self.answer.set_exception(answer.refusal())

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal."""
        if not self.answer.done():
            self.answer.set_exception(refusal)
