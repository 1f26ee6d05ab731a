"""Keeps what is said again and again from filling the log: whoever comes, or fails, a thousand times."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST, SECONDS = 20, 10.0  # lines from one place of the code within so long
MORE = f"more like this, for {SECONDS:.0f} s"


@dataclass(slots=True)
class _Place:
    since: float
    said: int = 0


class Repeats(logging.Filter):
    """Lets through so many lines of each place; the last of them, and the next, tell in `left_out` what is missing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[tuple[str, int], _Place] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        now = self._clock()
        place = self._places.setdefault((record.pathname, record.lineno), _Place(now))
        if now - place.since > SECONDS:
            if place.said > MOST:
                _add(record, place.said - MOST)
            place.since, place.said = now, 0
        place.said += 1
        if place.said == MOST:
            _add(record, MORE)
        return place.said <= MOST


def _add(record: logging.LogRecord, left_out: object) -> None:
    record.fields = {**getattr(record, "fields", {}), "left_out": left_out}
