"""A relay that notes when a change passes which of its parts, to show where the time goes.

    python -m tests.bench.traced FILE FIRST    (then as `relay serve`)

The notes are written to FILE when it ends: for each stage, the milliseconds every change took, but the FIRST ones.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from relay.__main__ import main
from relay.database import Database
from relay.hub import Hub
from relay.writer import Writer

STAGES = ("receive", "batch", "commit", "doorbell", "read", "write")
MARK = re.compile(r'"t":\s*(\d{16,})')


class Note(NamedTuple):
    """Something that happened."""

    what: str
    at: int  # nanoseconds since 1970
    mark: int = 0  # the terminal's, when it sent the change


notes: list[Note] = []


def note(what: str, mark: int = 0) -> None:
    notes.append(Note(what, time.time_ns(), mark))


def trace(owner: type, name: str, *, before: str = "", after: str = "") -> None:
    """Note when a method is called and when it has done its work. AttributeError where it is no longer there."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    async def waits(*args: Any, **more: Any) -> Any:
        note(before)
        result = await original(*args, **more)
        note(after)
        return result

    @functools.wraps(original)
    def returns(*args: Any, **more: Any) -> Any:
        result = original(*args, **more)
        note(after)
        return result

    setattr(owner, name, waits if before else returns)


def trace_submit() -> None:
    """Note what the terminal said of when it sent a change, too."""
    original = Writer.submit

    def submit(self: Writer, mutation: Any) -> Any:
        found = MARK.search(mutation.body)
        note("submitted", int(found[1]) if found else 0)
        return original(self, mutation)

    Writer.submit = submit  # type: ignore[method-assign]


def stages(noted: list[Note], first: int) -> dict[str, list[float]]:
    """Milliseconds of each stage, of every change that passed alone, but so many at first.

    A stage can be negative: the doorbell may be heard before the commit's answer.
    """
    found: dict[str, list[float]] = {name: [] for name in STAGES}
    starts = [place for place, one in enumerate(noted) if one.what == "submitted" and one.mark]
    for place, end in list(zip(starts, [*starts[1:], len(noted)], strict=True))[first:]:
        part = noted[place:end]
        times = [part[0].mark, part[0].at, *(_first(part, what) for what in ("applying", "applied"))]
        written = _first(part, "written")
        reads = [one for one in part if one.at <= written and one.what in ("reading", "read")]
        times += [_last(reads, "reading"), _last(reads, "read"), written]
        if all(times):
            for name, begun, done in zip(STAGES, times, times[1:], strict=False):
                found[name].append((done - begun) / 1e6)
    return found


def _first(part: list[Note], what: str) -> int:
    return next((one.at for one in part if one.what == what), 0)


def _last(part: list[Note], what: str) -> int:
    return next((one.at for one in reversed(part) if one.what == what), 0)


if __name__ == "__main__":
    trace_submit()
    trace(Database, "apply", before="applying", after="applied")
    trace(Database, "read_changes", before="reading", after="read")
    trace(Hub, "take", after="written")
    try:
        main(["serve"])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(stages(notes, int(sys.argv[2]))))
