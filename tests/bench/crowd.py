"""Many terminals at once: the C program that plays them, and what it counted."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.programs import build

SYNC = '{"type":"SYNC_REQUEST"}'
WAIT_SECONDS = 60.0
GATHER_MICROSECONDS = 500  # a crowd that looks for more only now and then, as many machines would


class Connected(NamedTuple):
    """How the crowd came in."""

    terminals: int
    seconds: float


class Crowd:
    """Terminals on one port, connected and synced."""

    def __init__(self, process: subprocess.Popen[str], connected: Connected) -> None:
        self._process = process
        self.connected = connected

    @property
    def pid(self) -> int:
        """The process that plays them."""
        return self._process.pid

    def begin(self) -> None:
        """Let them send the changes they were made for."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, with all it waited for
            os.write(self._process.stdin.fileno(), b".")

    def result(self, *, end: bool = False) -> dict[str, Any]:
        """What they counted, once all have had what they wait for; `end` sends them home now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if end:
            self._process.stdin.close()
        return dict(json.loads(self._process.stdout.read()))


@contextmanager
def crowd(
    port: int,
    terminals: int,
    *options: str | int | float,
    restaurants: int = 1,
    path: str = "/ws",
    first: Sequence[tuple[str, int]] = (),
    seconds: float = WAIT_SECONDS,
) -> Iterator[Crowd]:
    """So many terminals, connected; `first` is what each says (in turn) and how many texts it then waits for.

    `options` are those of wsload. Raises RuntimeError where some cannot connect and sync.
    """
    said = [word for text, answers in first for word in ("-f", text, "-e", str(answers))]
    command: list[str | Path] = [
        build("wsload"),
        "-p",
        str(port),
        "-u",
        path,
        "-n",
        str(terminals),
        "-q",
        str(restaurants),
        "-w",
        "-t",
        str(seconds),
        *said,
        *map(str, options),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            words = process.stderr.readline().split()
            if words[:1] != ["READY"] or int(words[1]) != terminals:
                raise RuntimeError(f"port {port}: not all of {terminals} terminals came in: {' '.join(words)}")
            yield Crowd(process, Connected(int(words[1]), float(words[3])))
        finally:
            process.kill()
