"""Snapshots: a restaurant's state encoded once for all who ask, and the newest ones held up to a number of bytes."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict

from . import protocol
from .database import State
from .frames import Frames, closing, middle, opening


class Snapshot:
    """A state as the frames of a SYNC_RESPONSE: encoded once, whatever the reason and whoever asks."""

    def __init__(self, state: State, read_at: float) -> None:
        self.state = state
        self.read_at = read_at  # when the read began: it holds all that was committed before (time.monotonic)
        self.epoch, self.revision = state.epoch, state.revision
        # UTF-8 for the terminals beside the texts for the API.
        self._middle = middle(self._members())
        self._frames: dict[str, Frames] = {}
        texts = (state.tables, state.menu_items, state.categories, state.settings, state.orders)
        self.size = sum(map(len, self._middle)) + sum(map(sys.getsizeof, texts))  # bytes held, but for what is small

    def frames(self, reason: str, ref: str | None) -> Frames:
        """The SYNC_RESPONSE that carries it."""
        if ref is not None:
            return self._encode(reason, ref)
        if reason not in self._frames:
            self._frames[reason] = self._encode(reason, None)
        return self._frames[reason]

    def text(self) -> str:
        """Its data as GET /api/sync returns it."""
        return f'{{{self._members()},"mode":"snapshot","epoch":"{self.epoch}","revision":{self.revision}}}'

    def _members(self) -> str:
        state = self.state
        return protocol.state(
            tables=state.tables,
            menu_items=state.menu_items,
            categories=state.categories,
            settings=state.settings,
            order_history=state.orders,
        )

    def _encode(self, reason: str, ref: str | None) -> Frames:
        head, tail = protocol.snapshot_parts(
            reason, self.epoch, self.revision, ref=ref, now_ms=time.time_ns() // 1_000_000
        )
        return self.inside(head, tail)

    def inside(self, head: str, tail: str) -> Frames:
        """A message with the members of its data between these two texts."""
        frames = (opening(head), *self._middle, closing(tail))
        return frames if len(self._middle) > 1 else (b"".join(frames),)


class Snapshots:
    """The newest snapshot of each restaurant; beyond `max_bytes` the one that was not asked for longest is let go."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, Snapshot] = OrderedDict()

    def get(self, restaurant_id: int) -> Snapshot | None:
        """The restaurant's, if it is held."""
        if restaurant_id in self._held:
            self._held.move_to_end(restaurant_id)
        return self._held.get(restaurant_id)

    def drop(self, restaurant_id: int) -> None:
        """Let go of a restaurant's."""
        if (old := self._held.pop(restaurant_id, None)) is not None:
            self.bytes -= old.size

    def keep(self, restaurant_id: int, snapshot: Snapshot) -> None:
        """Hold a restaurant's newest; one alone is held whatever its size."""
        self.drop(restaurant_id)
        self._held[restaurant_id] = snapshot
        self.bytes += snapshot.size
        while self.bytes > self._max_bytes and len(self._held) > 1:
            self.bytes -= self._held.popitem(last=False)[1].size
