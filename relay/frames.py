"""Encodes a text once into the WebSocket frames that all terminals receive (RFC 6455, section 5)."""

from __future__ import annotations

from collections.abc import Iterator

Frames = tuple[bytes, ...]  # of one message or several, in the order they go out

PIECE_BYTES = 64 * 1024  # the most payload in one frame: a slow socket is given a big message piece by piece

# The first byte of a frame (RFC 6455, section 5.2).
FIN, TEXT, CONTINUATION = 0x80, 0x01, 0x00
CLOSE, PING, PONG = 0x08, 0x09, 0x0A


def encode(text: str | bytes) -> tuple[bytes, ...]:
    """The frames of one text message, each complete and unmasked, as a server sends them (RFC 6455, section 5).

    `text` as bytes is UTF-8 already. Beyond PIECE_BYTES it is fragmented (section 5.4): the frames go out in this
    order with no other message, but any ping or close, between them. UnicodeEncodeError for a lone surrogate.
    """
    payload = text.encode() if isinstance(text, str) else text
    if len(payload) <= PIECE_BYTES:
        return (_frame(FIN | TEXT, payload),)
    pieces = [payload[start : start + PIECE_BYTES] for start in range(0, len(payload), PIECE_BYTES)]
    middle = (_frame(CONTINUATION, piece) for piece in pieces[1:-1])
    return (_frame(TEXT, pieces[0]), *middle, _frame(FIN | CONTINUATION, pieces[-1]))


def opening(text: str) -> bytes:
    """The first frame of a message whose `middle` and `closing` follow."""
    return _frame(TEXT, text.encode())


def middle(text: str) -> tuple[bytes, ...]:
    """Frames for the inside of a message, which many messages may share."""
    payload = text.encode()
    pieces = (payload[start : start + PIECE_BYTES] for start in range(0, len(payload), PIECE_BYTES))
    return tuple(_frame(CONTINUATION, piece) for piece in pieces)


def closing(text: str) -> bytes:
    """The last frame of a message."""
    return _frame(FIN | CONTINUATION, text.encode())


def control(opcode: int, payload: bytes) -> bytes:
    """A CLOSE, PING or PONG; its payload has at most 125 bytes (section 5.5)."""
    return _frame(FIN | opcode, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def decode(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """The payloads of frames that `encode` made, joined or not, each with whether it ends its message."""
    at = 0
    while at < len(data):
        size, start = data[at + 1], at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start])
        yield bool(data[at] & FIN), data[start : start + size]
        at = start + size
