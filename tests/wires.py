"""Changes, and a wire to write them to: it remembers all, and stops and goes when it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from relay.frames import encode
from relay.window import Change


class HandMadeWire:
    """A relay.wire.Wire. It takes `takes` more writes (None: any number), then it is full until `go`."""

    def __init__(self, takes: int | None = None) -> None:
        self.on_writable: Callable[[], None] | None = None
        self.takes = takes
        self.closed = False
        self.close_code: int | None = None
        self.writes: list[bytes] = []

    @property
    def writable(self) -> bool:
        return not self.closed and self.takes != 0

    @property
    def buffered(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.writes.append(data)
            if self.takes:
                self.takes -= 1

    def close(self, code: int, reason: str = "") -> None:  # noqa: ARG002
        self.closed, self.close_code = True, self.close_code or code

    def abort(self) -> None:
        self.closed = True

    def stop(self) -> None:
        self.takes = 0

    def go(self, takes: int | None = None) -> None:
        """Take so many writes from now on, and say so if it was full."""
        was_full, self.takes = self.takes == 0, takes
        if was_full and self.writable and self.on_writable is not None:
            self.on_writable()

    @property
    def texts(self) -> list[str]:
        """Every message written so far, as a terminal reads them; an illegal or interleaved frame fails the test."""
        terminal = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        terminal.receive_data(b"".join(self.writes))
        if terminal.parser_exc is not None:
            raise terminal.parser_exc
        texts: list[bytes] = []
        for frame in terminal.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.CONT:
                texts[-1] += frame.data
            else:
                texts.append(bytes(frame.data))
        return [text.decode() for text in texts]

    @property
    def messages(self) -> list[Any]:
        return [json.loads(text) for text in self.texts]


def change(revision: int, size: int = 20) -> Change:
    return Change(revision, encode(json.dumps(revision).ljust(size)))


def changes(first: int, last: int, size: int = 20) -> list[Change]:
    return [change(revision, size) for revision in range(first, last + 1)]
