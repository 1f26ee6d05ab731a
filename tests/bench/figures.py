"""What was measured, beside what it is measured against: medians, ratios and the one table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TIE = 0.2  # two figures of one run that differ by less say nothing
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
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"


def table(lines: Sequence[Line]) -> str:
    """All lines, as Markdown that can be read as it is."""
    rows = [HEADINGS, *(line.cells() for line in _without_repeats(lines))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    right = {2, 4, 5}

    def written(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(cells)} |"

    rule = "| " + " | ".join("-" * (width - 1) + (":" if c in right else "-") for c, width in enumerate(widths)) + " |"
    return "\n".join((written(rows[0]), rule, *map(written, rows[1:])))


def _without_repeats(lines: Iterable[Line]) -> list[Line]:
    """The row's name only where it begins."""
    shown: list[Line] = []
    last = ""
    for line in lines:
        shown.append(Line(**{**vars(line), "row": "" if line.row == last else line.row}))
        last = line.row
    return shown
