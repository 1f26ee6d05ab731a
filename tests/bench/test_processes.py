"""What a process and its children have used is counted, and counted once."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench import processes

# A child of it works and ends; another works and stays.
PARENT = """
import subprocess, sys
work = "import sys, time\\nwhile time.process_time() < 0.3: pass\\n"
stay = work + "print(flush=True)\\nsys.stdin.read()"
subprocess.run([sys.executable, "-c", work])
with subprocess.Popen([sys.executable, "-c", stay], stdin=-1, stdout=-1) as child:
    child.stdout.readline()
    print(flush=True)
    sys.stdin.read()
    child.stdin.close()
"""


@contextmanager
def parent() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_children_count_whether_they_have_ended_or_not_and_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with parent() as pid:
        found = processes.cpu_seconds(pid)
        memory = processes.resident_bytes(pid)
        (child,) = processes.children(pid)
        assert memory > processes.resident_bytes(child) > 0
        assert 0.25 < processes.cpu_seconds(child) < found
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # the kernel's own count, of all three
    assert 0.5 < found <= used + 6 * processes.TICK


def test_a_process_that_is_gone_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        pid = process.pid
    assert processes.cpu_seconds(pid) == processes.resident_bytes(pid) == 0
