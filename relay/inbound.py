"""Reads what a terminal sends: bytes into whole messages and control frames (RFC 6455, section 5). No I/O."""

from __future__ import annotations

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # its part in C is not built everywhere
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA  # opcodes (section 11.8)
OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
CONTROL = 0x8  # the bit that makes an opcode one of a control frame
CONTROL_BYTES = 125  # the most that a control frame holds (section 5.5)
FRAGMENTS = 1024  # of one message, kept apart before they are joined
IDLE_FRAMES = 10_000  # without the end of a message; whoever reads sets `idle` back now and then


class Illegal(Exception):
    """What came breaks the RFC or the size limit; `code` (section 7.4.1) and `reason` are for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Inbound:
    """The bytes of one connection, fed as they come, taken out message by message.

    Nothing is held between two messages. After `Illegal` nothing more may be taken out.
    """

    __slots__ = ("_at", "_data", "_most", "_opcode", "_parts", "_size", "idle")

    def __init__(self, most: int) -> None:
        self._most = most  # payload bytes of a message
        self._data: bytes | bytearray = b""
        self._at = 0  # where the next frame begins
        self._opcode = CONTINUATION  # of the message that is being put together; CONTINUATION: none is
        self._parts: list[bytes] | None = None
        self._size = 0  # of its parts
        self.idle = 0  # frames that were no end of a message

    @property
    def waiting(self) -> int:
        """Bytes that were not taken out yet."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._at == len(self._data):
            self._data, self._at = data, 0
            return
        # A bytearray grows in place: whoever sends a large message byte by byte must not have it copied every time.
        if not isinstance(self._data, bytearray):
            self._data = bytearray(memoryview(self._data)[self._at :])
        else:
            del self._data[: self._at]
        self._at = 0
        self._data += data

    def take(self) -> tuple[int, bytes] | None:
        """The next whole message (TEXT, BINARY) or control frame, as opcode and payload; None until it is complete.

        The payload of a CLOSE has been checked. Raises Illegal.
        """
        while (frame := self._frame()) is not None:
            opcode, fin, payload = frame
            if opcode & CONTROL:
                self._idle()
                return opcode, payload
            if self._parts is None:
                if fin:
                    return opcode, payload
                self._idle()
                self._opcode, self._parts, self._size = opcode, [payload], len(payload)
                continue
            self._parts.append(payload)
            self._size += len(payload)
            if fin:
                whole = self._opcode, b"".join(self._parts)
                self._opcode, self._parts, self._size = CONTINUATION, None, 0
                return whole
            self._idle()
            if len(self._parts) >= FRAGMENTS:  # empty ones count towards no size, so their number has no other limit
                self._parts = [b"".join(self._parts)]
        return None

    def _idle(self) -> None:
        # They cost time and count as no message: pings and empty pieces by the million would be a relay's whole work.
        self.idle += 1
        if self.idle > IDLE_FRAMES:
            raise Illegal(CloseCode.POLICY_VIOLATION, "too many frames that carry no message")

    def _frame(self) -> tuple[int, bool, bytes] | None:
        data, at = self._data, self._at
        there = len(data) - at
        if there < 2:
            return None
        first, length = data[at], data[at + 1] & 0x7F
        opcode, fin = first & 0x0F, first >= 0x80
        self._check(first, opcode, masked=data[at + 1] >= 0x80)
        start = at + 2
        if opcode & CONTROL:
            if length > CONTROL_BYTES or not fin:
                raise Illegal(CloseCode.PROTOCOL_ERROR, "a control frame is short and whole")
        else:
            if length > CONTROL_BYTES:
                start += 2 if length == 126 else 8
                if len(data) < start:
                    return None
                length = int.from_bytes(data[at + 2 : start])
            if self._size + length > self._most:
                raise Illegal(CloseCode.MESSAGE_TOO_BIG, f"a message has {self._most} bytes at most")
        end = start + 4 + length
        if len(data) < end:
            return None
        payload = apply_mask(data[start + 4 : end], data[start : start + 4]) if length else b""
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        if opcode == CLOSE:
            _check_close(payload)
        return opcode, fin, payload

    def _check(self, first: int, opcode: int, *, masked: bool) -> None:
        if first & 0x70:
            raise Illegal(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        if opcode not in OPCODES:
            raise Illegal(CloseCode.PROTOCOL_ERROR, f"there is no opcode {opcode}")
        if not masked:
            raise Illegal(CloseCode.PROTOCOL_ERROR, "a frame is not masked")
        if not opcode & CONTROL and (opcode == CONTINUATION) != (self._parts is not None):
            wrong = "nothing to continue" if opcode == CONTINUATION else "the message before it is not complete"
            raise Illegal(CloseCode.PROTOCOL_ERROR, wrong)


def _check_close(payload: bytes) -> None:
    try:
        Close.parse(payload)
    except ProtocolError as error:
        raise Illegal(CloseCode.PROTOCOL_ERROR, str(error)) from None
    except UnicodeDecodeError:
        raise Illegal(CloseCode.INVALID_DATA, "a reason that is not UTF-8") from None
