"""What was measured, beside what it is measured against: medians, ratios and the one table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SAID_ONCE = 3  # headings
TO_THE_RIGHT = {2, 4, 5}
HEADINGS = ("row", "measured", "relay", "reference", "its figure", "ratio", "reach")


@dataclass(frozen=True)
class Reach:
    """What is wanted of a figure or, with `ratio`, of its ratio to the reference."""

    bound: float
    at_most: bool = True
    ratio: bool = False

    def is_reached(self, figure: float, ratio: float | None) -> bool | None:
        """Whether it is; None where there is no reference to tell."""
        found = ratio if self.ratio else figure
        if found is None:
            return None
        return found <= self.bound if self.at_most else found >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {number(self.bound)}{' times' if self.ratio else ''}"


@dataclass(frozen=True)
class Line:
    """One figure of the relay, and that of one reference beside it; every run of each, in the order of the rounds."""

    row: str
    what: str  # with its unit
    relay: tuple[float, ...]
    against: str = ""
    reference: tuple[float, ...] = ()
    reach: Reach | None = None

    @property
    def figure(self) -> float:
        """The relay's median."""
        return statistics.median(self.relay)

    @property
    def ratio(self) -> float | None:
        """Median of the rounds' ratios: what drifts while the rounds go on does not count. None without a reference."""
        pairs = list(zip(self.relay, self.reference, strict=False))
        if not pairs or any(reference == 0 for _, reference in pairs):
            return None
        return statistics.median(relay / reference for relay, reference in pairs)

    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        reached = self.reach.is_reached(self.figure, self.ratio) if self.reach else None
        return (
            self.row,
            self.what,
            number(self.figure),
            self.against,
            number(statistics.median(self.reference)) if self.reference else "",
            number(self.ratio) if self.ratio is not None else "",
            f"{self.reach}{ {True: ' yes', False: ' **no**', None: ''}[reached] }" if self.reach else "",
        )

    def as_json(self) -> dict[str, Any]:
        """Every run of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Line:
        """The line that `as_json` was made from."""
        reach = Reach(**found["reach"]) if found["reach"] else None
        runs = {name: tuple(found[name]) for name in ("relay", "reference")}
        return cls(row=found["row"], what=found["what"], against=found["against"], reach=reach, **runs)


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    size = abs(rounded)
    return f"{rounded:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def table(lines: Sequence[Line]) -> str:
    """All lines, as Markdown that can be read as it is."""
    rows = [HEADINGS, *_without_repeats(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]

    def written(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(w) if c in TO_THE_RIGHT else cell.ljust(w)
            for c, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (width - 1)) + (":" if column in TO_THE_RIGHT else "-") for column, width in enumerate(widths)]
    return "\n".join(map(written, (rows[0], rule, *rows[1:])))


def _without_repeats(rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The row's name, what was measured and the relay's figure only where they begin."""
    last: tuple[str, ...] = ("",) * len(HEADINGS)
    for row in rows:
        same = next((place for place in range(SAID_ONCE) if row[place] != last[place]), SAID_ONCE)
        yield ("",) * same + row[same:]
        last = row
