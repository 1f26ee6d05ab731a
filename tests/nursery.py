"""Relays that are forked by a process that has imported all of it: most of what it costs to start one.

The tests of a session start hundreds. Each is a process like any other; only the files were not read again.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

from relay.__main__ import main as relay_main

MOST_BYTES = 1 << 20  # of an environment
WORD = 4  # bytes


class Forked:
    """A relay, as subprocess.Popen shows a child."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._end = end

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        if self.returncode is None and select.select([self._end], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(_word(self._end))
            self._end.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """A process that forks relays for this one; it begins with the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def relay(self, environment: Mapping[str, str], log: IO[bytes]) -> Forked:
        """`relay serve` with nothing else in its environment, in a process group of its own."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.nursery"]
            self._process = subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, stdin=self._theirs.fileno())
            self._theirs.close()
        end, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._asked, [json.dumps(environment).encode()], [log.fileno(), theirs.fileno()])
        return Forked(_word(self._asked), end)

    def close(self) -> None:
        """End it. Its relays are to have ended."""
        self._asked.close()
        self._theirs.close()
        if self._process is not None:
            self._process.wait()


def _word(said: socket.socket) -> int:
    found = said.recv(WORD)
    assert found, "the nursery has ended"
    return int.from_bytes(found)


def main() -> None:
    """Fork who is asked for on standard input, a socket, and say how each has ended."""
    gc.collect()
    gc.freeze()  # so that a collection in a relay copies no page of what is shared
    asked = socket.socket(fileno=0)
    ended, ends = socket.socketpair()
    ends.setblocking(False)
    signal.set_wakeup_fd(ends.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    relays: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([asked, ended], [], [])
        if ended in ready:
            ended.recv(MOST_BYTES)
            for pid in list(relays):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    with relays.pop(pid) as end:
                        end.send(status.to_bytes(WORD))
        if asked in ready:
            said, numbers, _, _ = socket.recv_fds(asked, MOST_BYTES, 2)
            if not said:
                return
            log, end_number = numbers
            if not (pid := os.fork()):
                _become_a_relay(json.loads(said), log)
            os.close(log)
            relays[pid] = socket.socket(fileno=end_number)
            asked.send(pid.to_bytes(WORD))


def _become_a_relay(environment: dict[str, str], log: int) -> None:
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(number, place)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)
    relay_main(["serve"], prog_name="relay")  # which ends the process


if __name__ == "__main__":
    main()
