"""The window: recent changes of one restaurant, as the bytes that go out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from .frames import Frames

CHUNK_BYTES = 64 * 1024  # the most that one write carries; the wire's own limit
CHUNK_CHANGES = 128  # no write goes past a multiple of this: however far apart they begin, sessions soon share writes


class Change(msgspec.Struct, frozen=True):
    """A change as the frames that all receive, and what it is about."""

    revision: int
    frames: Frames
    type: str = ""
    action: str = ""
    row_id: str | None = None
    client_id: str = ""

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return sum(map(len, self.frames))


class Window:
    """Recent changes of one restaurant, `base` + 1 to `head` without a hole, as frames.

    It has a ceiling in changes and in bytes; what falls out at the old end is read from the log again if need be.
    """

    def __init__(self, head: int, max_changes: int, max_bytes: int) -> None:
        self.base = self.head = head
        self.out_of_reach = -1  # a cursor, and all before it, to which the log cannot take the window back
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._max_changes, self._max_bytes = max_changes, max_bytes
        self._chunks: dict[int, tuple[Frames, int]] = {}
        self._chunk_bytes = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    @property
    def spare(self) -> int:
        """Bytes that fit in before what is held."""
        return self._max_bytes - self._bytes

    def append(self, changes: Sequence[Change]) -> None:
        """Add the changes that follow `head`."""
        old_head = self.head
        for change in changes:
            # A hole here would be a silent gap at every terminal.
            assert change.revision == self.head + 1, f"revision {change.revision} does not follow {self.head}"
            self._changes.append(change)
            self._bytes += change.size
            self.head = change.revision
        while len(self._changes) > self._max_changes or (self._bytes > self._max_bytes and len(self._changes) > 1):
            self._bytes -= self._changes.popleft().size
            self.base += 1
        # A chunk that ended at the old head goes on now.
        for cursor in [c for c, (_, end) in self._chunks.items() if c < self.base or end == old_head]:
            self._drop(cursor)

    def prepend(self, changes: Sequence[Change]) -> None:
        """Add of the changes that end at `base` as many as fit, the newest of them."""
        for change in reversed(changes):
            if len(self._changes) >= self._max_changes or change.size > self.spare:
                return
            assert change.revision == self.base, f"revision {change.revision} does not end at {self.base}"
            self._changes.appendleft(change)
            self._bytes += change.size
            self.base -= 1

    def chunk(self, cursor: int) -> tuple[Frames, int]:
        """What follows `cursor` (base to below head), at most CHUNK_BYTES of it, and the revision it leads to.

        Built once for all sessions with the same cursor. Small changes are joined into one write; a large one keeps
        its frames apart, so that a slow wire takes it one by one.
        """
        found = self._chunks.get(cursor)
        if found is None:
            found = self._chunks[cursor] = self._join(cursor)
            self._chunk_bytes += len(found[0][0])
            while self._chunk_bytes > self._max_bytes and len(self._chunks) > 1:
                self._drop(next(iter(self._chunks)))
        return found

    def chosen(self, cursor: int, frames_of: Callable[[Change], Frames]) -> tuple[Frames, int]:
        """Like `chunk`, but of each change what one session is sent; perhaps nothing, and then only the revision."""
        found: list[bytes] = []
        size = 0
        for index in range(cursor - self.base, len(self._changes)):
            change = self._changes[index]
            if frames := frames_of(change):
                size += sum(map(len, frames))
                if found and size > CHUNK_BYTES:
                    break
                found += frames
            cursor = change.revision
            if cursor % CHUNK_CHANGES == 0:
                break
        return tuple(found), cursor

    def _drop(self, cursor: int) -> None:
        frames, _ = self._chunks.pop(cursor)
        self._chunk_bytes -= len(frames[0])

    def _join(self, cursor: int) -> tuple[Frames, int]:
        small: list[bytes] = []
        size = 0
        for index in range(cursor - self.base, len(self._changes)):
            frames = self._changes[index].frames
            size += len(frames[0])
            if len(frames) > 1 or size > CHUNK_BYTES:
                break
            small.append(frames[0])
            cursor += 1
            if cursor % CHUNK_CHANGES == 0:
                break
        return ((b"".join(small),), cursor) if small else (frames, cursor + 1)
