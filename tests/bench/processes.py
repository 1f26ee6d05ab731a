"""What a process and its children have used, from /proc (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


def children(pid: int) -> list[int]:
    """The child processes, whichever of its threads made them."""
    try:
        return [
            int(child)
            for each in Path(f"/proc/{pid}/task").iterdir()
            for child in (each / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, of its children, and of those that have ended.

    A child that ends between two looks moves from its own line to its parent's (cutime, cstime): nothing is counted
    twice or lost, as long as its parent waits for it.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # utime, stime, cutime and cstime are the fields 14 to 17; the name that was cut off is the second.
    return sum(map(int, fields[11:15])) * TICK + sum(map(cpu_seconds, children(pid)))


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children that is in RAM, shared pages included."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return own + sum(map(resident_bytes, children(pid)))
