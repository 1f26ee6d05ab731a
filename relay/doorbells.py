"""Which doorbells a relay's own batches ring: what those tell, the writer has told already."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import NamedTuple

OWN_SECONDS = 1.0  # after a batch in which its doorbells may still be heard; then its backend may be another's


class _Batch(NamedTuple):
    restaurants: Set[int]
    until: float  # time.monotonic(); inf while a backend has it


class Doorbells:
    """The batches that ring now, by the process id of their backend."""

    def __init__(self) -> None:
        self._ringing: dict[int, _Batch] = {}

    @contextmanager
    def ring(self, backend_pid: int, restaurants: Set[int]) -> Iterator[None]:
        """While a batch is with a backend, and a moment longer where all went well, its doorbells are our own."""
        now = time.monotonic()
        self._ringing = {pid: one for pid, one in self._ringing.items() if one.until > now}
        self._ringing[backend_pid] = _Batch(restaurants, math.inf)
        try:
            yield
        except BaseException:
            # What becomes of it now, nobody else tells of. (A proxy may show one number for all its backends.)
            self._ringing.pop(backend_pid, None)
            raise
        self._ringing[backend_pid] = _Batch(restaurants, time.monotonic() + OWN_SECONDS)

    def is_own(self, backend_pid: int, restaurant_id: int) -> bool:
        """Whether one is of a batch's own mutations. What a trigger of somebody's did elsewhere, only it tells of."""
        batch = self._ringing.get(backend_pid)
        return batch is not None and restaurant_id in batch.restaurants and time.monotonic() < batch.until

    def will_ring(self, restaurant_id: int) -> bool:
        """Whether a backend has a batch with mutations of this restaurant."""
        return any(restaurant_id in batch.restaurants and batch.until == math.inf for batch in self._ringing.values())
