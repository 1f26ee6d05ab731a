"""A terminal on a raw socket: it sends what it is told and takes down what the relay says, strictly."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterable
from types import TracebackType

from tests.fuzz.frame_rules import CODES, NO_CODE, REFUSED, UNREADABLE, Answer
from tests.fuzz.raw_frames import (
    CLOSE,
    CONTINUATION,
    CONTROL,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    accept_of,
    ping,
    request,
    shortest,
    text,
)

PATIENCE = 10.0  # seconds without a word from the relay, after which it hangs
BARRIER = "barrier"  # the payload and the id of what asks whether all is answered


class RawTerminal:
    """One connection, and what was heard on it since `forget`."""

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        self._parts: list[bytes] = []
        self.status: int | None = None  # of the answer to the upgrade; 0: closed without one
        self.head = ""
        self.ended = False  # nothing more can come
        self.answers_close = True
        self.acks: set[str] = set()
        self._acked: set[str] = set()  # before: what was asked for twice is acknowledged twice
        self.forget()

    def forget(self) -> None:
        self._acked |= self.acks
        self.answers: list[Answer] = []
        self.acks = set()
        self.pongs: list[bytes] = []
        self.close: bytes | None = None  # the payload of the relay's close
        self.faults: list[str] = []  # what a server must not send

    def __enter__(self) -> RawTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # Speaking

    def send(self, segments: Iterable[bytes], pace: Callable[[], None] | None = None) -> None:
        """Send them, with `pace` called between two; a relay that has closed meanwhile is no fault here."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for number, segment in enumerate(segments):
                if number and pace is not None:
                    pace()
                self._socket.sendall(segment)

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def upgrade(self) -> None:
        """Ask for the upgrade and wait for the answer; AssertionError unless it is granted."""
        self.send([request()])
        self.hear_status()
        assert self.status == 101, f"the upgrade was answered with {self.head!r}"

    def round_trip(self) -> None:
        """Have the relay answer a ping; what other sockets sent before has then been read by it."""
        self.send([bytes(ping(BARRIER))])
        self.hear(lambda: BARRIER.encode() in self.pongs)
        self.forget()

    def ask_whether_all_is_answered(self, *, message: bool) -> None:
        """Send a ping and, where a message may be sent now, one that is answered; `all_is_answered` awaits both."""
        last = text(json.dumps({"type": "FUZZ", "id": BARRIER}))
        self.send([bytes(ping(BARRIER)) + (bytes(last) if message else b"")])

    # Listening

    def hear(self, enough: Callable[[], bool]) -> None:
        """Read until there is enough or the relay has ended the connection; TimeoutError if it hangs."""
        while self._frame():
            pass
        while not enough() and not self.ended:
            self._receive()
            while self._frame():
                pass
            if self.ended and self._data:
                self.faults.append(f"ended within a frame: {bytes(self._data[:20]).hex()}")

    def hear_end(self) -> None:
        """Read until the relay has ended the connection."""
        self.hear(lambda: False)

    def hear_status(self) -> None:
        """Read the answer to the upgrade."""
        while b"\r\n\r\n" not in self._data and not self.ended:
            self._receive()
        head, found, rest = bytes(self._data).partition(b"\r\n\r\n")
        self.head, self._data = head.decode("latin-1"), bytearray(rest)
        self.status = int(self.head.split(" ", 2)[1]) if found else 0

    @property
    def granted_rightly(self) -> bool:
        """Whether a granted upgrade answers the key of `request()` and grants nothing that was not offered."""
        lines = [line.partition(":") for line in self.head.lower().split("\r\n")[1:]]
        headers = {name: value.strip() for name, _, value in lines}
        return (
            headers.get("sec-websocket-accept") == accept_of(KEY).lower()
            and headers.get("upgrade") == "websocket"
            and headers.get("connection") == "upgrade"
            and "sec-websocket-extensions" not in headers
            and "sec-websocket-protocol" not in headers
        )

    @property
    def close_code(self) -> int | None:
        if self.close is None:
            return None
        return int.from_bytes(self.close[:2]) if self.close else NO_CODE

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:  # it closed with something of ours unread
            data = b""
        self.ended = not data
        self._data += data

    def _frame(self) -> bool:
        """Take one frame; False where it is not there yet."""
        data = self._data
        if len(data) < 2:
            return False
        extra = {126: 2, 127: 8}.get(data[1], 0)
        if len(data) < 2 + extra:
            return False
        size = int.from_bytes(data[2 : 2 + extra]) if extra else data[1]
        if len(data) < 2 + extra + size:
            return False
        payload = bytes(data[2 + extra : 2 + extra + size])
        first, second = data[0], data[1]
        del data[: 2 + extra + size]
        if first & 0x70 or second & 0x80 or extra != shortest(size):
            self.faults.append(f"not a server's frame: {first:#x} {second:#x}")
        if self.close is not None and not first & CONTROL:
            self.faults.append(f"a data frame after its close: {first:#x}")
        self._take(first & 0x0F, bool(first & 0x80), payload)
        return True

    def _take(self, opcode: int, fin: bool, payload: bytes) -> None:
        if opcode in (PING, PONG, CLOSE) and (len(payload) > 125 or not fin):
            self.faults.append(f"a control frame of {len(payload)} bytes")
        if opcode == PONG:
            self.pongs.append(payload)
        elif opcode == CLOSE:
            self.close = payload
            if self.answers_close:
                self.send([bytes(Frame(CLOSE, payload))])
            if len(payload) == 1 or (payload and self.close_code not in CODES):
                self.faults.append(f"closed with {payload[:20].hex()}")
        elif opcode in (TEXT, CONTINUATION) and (opcode == CONTINUATION) == bool(self._parts):
            self._parts.append(payload)
            if fin:
                self._hear(b"".join(self._parts))
                self._parts.clear()
        elif opcode != PING:
            self.faults.append(f"an unexpected frame with the opcode {opcode}")

    def _hear(self, data: bytes) -> None:
        message = json.loads(data)
        kind, ref = message["type"], message.get("ref")
        if kind == "ACK" or (kind == "ERROR" and message["data"]["retryable"]):  # a busy database is an answer too
            self.acks |= {ref} - self._acked
        elif kind == "ERROR":
            code = message["data"]["code"]
            self.answers.append(Answer(kind, code if code == UNREADABLE else REFUSED, ref))
        elif "revision" not in message:  # no change made by another terminal
            self.answers.append(Answer(kind, None, ref))
