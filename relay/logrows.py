"""What is read of restaurants' logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec


class Head(NamedTuple):
    """A restaurant's newest revision and message number, and the count of its staff's changes."""

    revision: int = 0
    messages: int = 0
    staff: int = 0


class ChangeRow(msgspec.Struct, frozen=True):
    """A committed change, its row as JSON text."""

    revision: int
    type: str
    action: str
    row_id: str | None
    data: str
    client_id: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What one restaurant's log holds after a revision: contiguous, perhaps not yet all up to `head.revision`."""

    restaurant_id: int
    head: Head
    rows: tuple[ChangeRow, ...]


class LogRead(NamedTuple):
    """What was read of several restaurants at once; the epoch is None when none of them is there."""

    epoch: str | None
    by_restaurant: dict[int, Changes]


def read_of(rows: Sequence[tuple[Any, ...]]) -> LogRead:
    """What pos.read_changes returned."""
    grouped: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        grouped.setdefault(row[1], []).append(row)
    changes = {
        restaurant_id: Changes(
            restaurant_id,
            head=Head(*found[0][2:5]),
            rows=contiguous([ChangeRow(*row[5:]) for row in found if row[5] is not None]),
        )
        for restaurant_id, found in grouped.items()
    }
    return LogRead(rows[0][0] if rows else None, changes)


def contiguous(rows: list[ChangeRow]) -> tuple[ChangeRow, ...]:
    """The rows up to the first hole: behind it begins what somebody deleted by hand, and it is never skipped."""
    return tuple(row for place, row in enumerate(rows) if row.revision == rows[0].revision + place)
