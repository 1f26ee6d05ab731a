"""Frames and upgrade requests as bytes, right or wrong (RFC 6455, sections 4.1 and 5.2)."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
CONTROL = 0x8  # the bit that makes an opcode one of a control frame
MASK = b"\x37\xfa\x21\x3d"  # of the RFC's own examples
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as a terminal sends it; every field may be wrong."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0  # the three reserved bits as a number
    mask: bytes | None = MASK  # None: not masked
    length_bytes: int | None = None  # 0, 2 or 8 for the extended length; None: the fewest that hold it
    claims: int | None = None  # what the header says the payload has, where that is not so

    @property
    def length(self) -> int:
        """What the header says."""
        return len(self.payload) if self.claims is None else self.claims

    @property
    def minimal(self) -> bool:
        """Whether the length is written with the fewest bytes (section 5.2)."""
        return self.length_bytes is None or self.length_bytes == shortest(self.length)

    @property
    def is_control(self) -> bool:
        return bool(self.opcode & CONTROL)

    def __bytes__(self) -> bytes:
        extra = shortest(self.length) if self.length_bytes is None else self.length_bytes
        first = self.fin << 7 | self.rsv << 4 | self.opcode
        second = (self.mask is not None) << 7 | {0: self.length, 2: 126, 8: 127}[extra]
        return bytes((first, second)) + self.length.to_bytes(8)[8 - extra :] + (self.mask or b"") + self._masked

    @property
    def _masked(self) -> bytes:
        if self.mask is None:
            return self.payload
        size = len(self.payload)
        key = int.from_bytes((self.mask * (size // 4 + 1))[:size])
        return (int.from_bytes(self.payload) ^ key).to_bytes(size)


def shortest(length: int) -> int:
    """The fewest bytes of extended length that hold it."""
    return 0 if length < 126 else 2 if length < 1 << 16 else 8


def text(payload: str | bytes, **fields: object) -> Frame:
    return _made(TEXT, payload, fields)


def more(payload: str | bytes, **fields: object) -> Frame:
    """A continuation."""
    return _made(CONTINUATION, payload, fields)


def binary(payload: bytes, **fields: object) -> Frame:
    return _made(BINARY, payload, fields)


def ping(payload: str | bytes = b"", **fields: object) -> Frame:
    return _made(PING, payload, fields)


def pong(payload: str | bytes = b"", **fields: object) -> Frame:
    return _made(PONG, payload, fields)


def close(code: int | None = None, reason: str | bytes = b"", **fields: object) -> Frame:
    """A close; without a code, an empty one."""
    return _made(CLOSE, b"" if code is None else code.to_bytes(2) + _bytes(reason), fields)


def _made(opcode: int, payload: str | bytes, fields: dict[str, object]) -> Frame:
    return Frame(opcode, _bytes(payload), **fields)  # type: ignore[arg-type]


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def fragments(opcode: int, payload: bytes, cuts: Sequence[int], **fields: object) -> list[Frame]:
    """A message in pieces, cut before these bytes of it; two equal cuts have an empty fragment between them."""
    borders = [0, *sorted(cuts), len(payload)]
    pieces = [payload[start:end] for start, end in itertools.pairwise(borders)]
    made = []
    for number, piece in enumerate(pieces):
        kind = CONTINUATION if number else opcode
        made.append(_made(kind, piece, {"fin": number == len(pieces) - 1, **fields}))
    return made


# Segments: how bytes are handed to the kernel


def cut(data: bytes, borders: Iterable[int]) -> list[bytes]:
    """The data in pieces, cut before these bytes of it; no piece is empty."""
    places = [0, *sorted({border for border in borders if 0 < border < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places) if end > start]


def cut_at_random(rng: Random, data: bytes, most: int) -> list[bytes]:
    return cut(data, [rng.randint(0, len(data)) for _ in range(rng.randint(1, most))])


# The upgrade


def headers_of(**changed: str | None) -> list[tuple[str, str]]:
    """The headers of a right upgrade; `Name_of_one=value` puts another value in, None leaves it out."""
    right: dict[str, str | None] = {
        "Host": "relay",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    right |= {name.replace("_", "-"): value for name, value in changed.items()}
    return [(name, value) for name, value in right.items() if value is not None]


def request(
    headers: Sequence[tuple[str, str]] | None = None,
    *,
    line: str = "GET /ws HTTP/1.1",
    more: Sequence[tuple[str, str]] = (),
) -> bytes:
    """An upgrade request; characters above 0xFF cannot be sent."""
    lines = [line, *(f"{name}: {value}" for name, value in (*(headers_of() if headers is None else headers), *more))]
    return "".join(f"{one}\r\n" for one in [*lines, ""]).encode("latin-1")


def accept_of(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + ACCEPT_GUID).digest()).decode()
