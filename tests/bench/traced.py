"""A relay that notes when a change passes which of its parts, to show where the time goes.

    python -m tests.bench.traced FILE FIRST    (then as `relay serve`)

The notes are written to FILE when it ends: for each stage, the milliseconds every change took, but the FIRST ones.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from relay.__main__ import main
from relay.database import Applied, Database
from relay.hub import Hub
from relay.writer import Writer

STAGES = ("receive", "batch", "commit", "read", "write")
MARK = re.compile(r'"t":\s*(\d{16,})')


class Note(NamedTuple):
    """Something that happened."""

    what: str
    at: int  # nanoseconds since 1970
    mark: int = 0  # the terminal's, when it sent the change


notes: list[Note] = []


def note(what: str, mark: int = 0) -> None:
    notes.append(Note(what, time.time_ns(), mark))


def trace_apply() -> None:
    """Note when a batch is sent, when it is committed, and when what is behind it was read."""
    original = Database.apply

    async def apply(self: Database, *args: Any, **more: Any) -> Applied:
        note("applying")
        applied = await original(self, *args, **more)
        notes.append(Note("committed", int(applied.at * 1e9)))
        if applied.read is not None:
            note("read")
        return applied

    Database.apply = apply  # type: ignore[method-assign]


def trace_take() -> None:
    """Note when a change has been written to every terminal."""
    original = Hub.take

    def take(self: Hub, *args: Any) -> None:
        original(self, *args)
        note("written")

    Hub.take = take  # type: ignore[assignment, method-assign]


def trace_submit() -> None:
    """Note what the terminal said of when it sent a change, too."""
    original = Writer.submit

    def submit(self: Writer, mutation: Any) -> Any:
        found = MARK.search(mutation.body)
        note("submitted", int(found[1]) if found else 0)
        return original(self, mutation)

    Writer.submit = submit  # type: ignore[method-assign]


def stages(noted: list[Note], first: int) -> dict[str, list[float]]:
    """Milliseconds of each stage, of every change that passed alone, but so many at first."""
    found: dict[str, list[float]] = {name: [] for name in STAGES}
    starts = [place for place, one in enumerate(noted) if one.what == "submitted" and one.mark]
    for place, end in list(zip(starts, [*starts[1:], len(noted)], strict=True))[first:]:
        part = noted[place:end]
        times = [part[0].mark, part[0].at]
        times += [_first(part, what) for what in ("applying", "committed", "read", "written")]
        if all(times):
            for name, begun, done in zip(STAGES, times, times[1:], strict=False):
                found[name].append((done - begun) / 1e6)
    return found


def _first(part: list[Note], what: str) -> int:
    return next((one.at for one in part if one.what == what), 0)


if __name__ == "__main__":
    trace_submit()
    trace_apply()
    trace_take()
    try:
        main(["serve"])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(stages(notes, int(sys.argv[2]))))
