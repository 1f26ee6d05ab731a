"""Conversations by the rules of RFC 6455 and against them, each from a seed and a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tests.fuzz.frame_rules import CODES, LIMIT
from tests.fuzz.raw_frames import (
    BINARY,
    CONTROL,
    TEXT,
    Frame,
    binary,
    close,
    cut,
    cut_at_random,
    fragments,
    more,
    ping,
    pong,
    text,
)

TRICKLE_BYTES = 150  # the most that is sent byte by byte
LETTERS = "az09 _-áßñЖ中ဟင်း😀\U0010ffff\ufffd\u0080\u07ff\u0800\uffff"  # of every length that UTF-8 has
NOT_UTF8 = (
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3\x28", b"\xe2\x82", b"\xe0\x80\xaf", b"\xe2\x28\xa1",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xfe", b"\xff", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80",
)  # fmt: skip
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
GOOD_CODES = (*sorted(CODES - set(range(3000, 5000))), 3000, 3999, 4000, 4999)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Frames and how they are handed over."""

    frames: tuple[Frame, ...]
    segments: str | int = "whole"  # whole, frames, random or bytes; a number: two, cut at this byte
    paced: bool = False  # the relay reads each segment before the next is sent
    settled: bool = False  # all is answered before the frame that ends it is sent
    missing: int = 0  # bytes of the last frame that are never sent

    def cut(self, rng: Random, start: int = 0, end: int | None = None) -> list[bytes]:
        """Its frames from `start` to `end` as segments."""
        pieces = [bytes(frame) for frame in self.frames[start:end]]
        data = b"".join(pieces)
        if self.missing and end is None:
            data = data[: -self.missing]
        if self.segments == "bytes":
            return cut(data, range(len(data)))
        if isinstance(self.segments, int):
            return cut(data, [self.segments])
        if self.segments == "random":
            return cut_at_random(rng, data, 6)
        borders = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
        return cut(data, borders if self.segments == "frames" else [])


def conversation(rng: Random) -> Conversation:
    """Some frames that are served, then perhaps an end, then perhaps more."""
    frames: list[Frame] = []
    for _ in range(rng.randint(0, 6)):
        frames += rng.choices(SERVED, SERVED_WEIGHTS)[0](rng)
    if rng.random() < 0.35:
        frames += rng.choice(ENDINGS)(rng)
        if rng.random() < 0.3:
            frames += rng.choice(SERVED)(rng)
    elif rng.random() < 0.2:
        frames = _disturbed(rng, frames)
    frames = frames or [ping()]
    size = sum(len(frame.payload) for frame in frames)
    return Conversation(
        tuple(frames),
        segments=rng.choice(("whole", "frames", "random", "bytes" if size < TRICKLE_BYTES else "random")),
        paced=size < TRICKLE_BYTES * 4 and rng.random() < 0.25,
        settled=rng.random() < 0.5,
        missing=rng.randint(1, len(bytes(frames[-1])) - 1) if rng.random() < 0.02 else 0,
    )


# What is served

Part = Callable[[Random], list[Frame]]


def _mask(rng: Random) -> bytes:
    return b"\0\0\0\0" if rng.random() < 0.1 else rng.randbytes(4)


def _letters(rng: Random, most: int = 12) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(1, most)))


def _message(rng: Random) -> bytes:
    """A message that is answered, with letters that a cut may fall within."""
    roll = rng.random()
    if roll < 0.2:
        return rng.choice((b'{"type":"HEARTBEAT"}', b'{"type":"HEARTBEAT","data":{"response":true}}'))
    if roll < 0.25:
        return (_letters(rng, 60) if rng.random() < 0.8 else "").encode()
    return _said(rng, {"type": "FUZZ"})


def _request(rng: Random) -> bytes:
    """A message that makes the relay ask its database."""
    row = {"id": "fuzzed", "number": 900, "seats": rng.randint(1, 9), "status": "available", "note": _letters(rng)}
    update: dict[str, object] = {"type": "UPDATE_TABLE", "data": {"action": "update", "data": row}}
    messages: list[dict[str, object]] = [update, update, {"type": "NEXT_ORDER_ID"}, {"type": "SYNC_REQUEST"}]
    return _said(rng, rng.choice(messages))


def _said(rng: Random, message: dict[str, object]) -> bytes:
    padding = " " * rng.choice((0, 0, 0, 0, 0, 1, 20, 100, 125, 126, 4000, 8200))
    message = message | {"id": f"{rng.getrandbits(32):x}-{_letters(rng)}"}
    return (json.dumps(message, ensure_ascii=False) + padding).encode()


def _text(rng: Random) -> list[Frame]:
    # Never in pieces: with one of them lost, what it asks for would be anybody's guess.
    return [text((_request if rng.random() < 0.03 else _message)(rng), mask=_mask(rng))]


def _binary(rng: Random) -> list[Frame]:
    return [binary(rng.randbytes(rng.choice((0, 1, 20, 125, 126, 127))), mask=_mask(rng))]


def _ping(rng: Random) -> list[Frame]:
    return [ping(rng.randbytes(rng.choice((0, 1, 4, 20, 124, 125))), mask=_mask(rng))]


def _pong(rng: Random) -> list[Frame]:
    return [pong(rng.randbytes(rng.choice((0, 1, 4, 125))), mask=_mask(rng))]


def _fragmented(rng: Random) -> list[Frame]:
    """A message in pieces, also empty ones, with pings and pongs between them."""
    opcode, payload = (TEXT, _message(rng)) if rng.random() < 0.9 else (BINARY, rng.randbytes(rng.randint(0, 50)))
    cuts = [rng.randint(0, len(payload)) for _ in range(rng.choice((1, 1, 2, 3, 8)))]
    frames = []
    for piece in fragments(opcode, payload, cuts, mask=_mask(rng)):
        frames.append(piece)
        if not piece.fin and rng.random() < 0.4:
            frames += rng.choice((_ping, _pong))(rng)
    return frames


def _long_way(rng: Random) -> list[Frame]:
    """A length with more bytes than it needs."""
    [frame] = rng.choice((_text, _ping, _binary))(rng)
    return [replace(frame, length_bytes=rng.choice((2, 8)) if frame.length < 126 else 8)]


def _at_the_limit(rng: Random) -> list[Frame]:
    said = _message(rng)
    whole = said + b" " * (LIMIT - len(said) - rng.choice((0, 0, 1)))
    cuts = [] if rng.random() < 0.5 else [rng.randint(0, LIMIT) for _ in range(3)]
    return fragments(TEXT, whole, cuts, mask=_mask(rng))


SERVED: tuple[Part, ...] = (_text, _fragmented, _ping, _pong, _binary, _long_way, _at_the_limit)
SERVED_WEIGHTS = (40, 25, 15, 5, 5, 2, 0.3)


# What ends it


def _opened(rng: Random) -> list[Frame]:
    """Sometimes the beginning of a message, for something to come within it."""
    if rng.random() < 0.7:
        return []
    return [text(_message(rng), fin=False), *rng.choice((_ping, lambda _: [], lambda _: [more(b"", fin=False)]))(rng)]


def _any(rng: Random) -> Frame:
    [frame] = rng.choice((_text, _ping, _pong, _binary, lambda _: [close(1000)], lambda _: [more("x")]))(rng)
    return frame


def _unmasked(rng: Random) -> list[Frame]:
    return [*_opened(rng), replace(_any(rng), mask=None)]


def _reserved_bits(rng: Random) -> list[Frame]:
    return [*_opened(rng), replace(_any(rng), rsv=rng.randint(1, 7))]


def _reserved_opcode(rng: Random) -> list[Frame]:
    return [*_opened(rng), replace(_any(rng), opcode=rng.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)))]


def _long_control(rng: Random) -> list[Frame]:
    size = rng.choice((126, 127, 128, 1000, 65535, 65536))
    return [*_opened(rng), Frame(rng.choice((8, 9, 10)), b"\x03\xe8" + b"x" * (size - 2), mask=_mask(rng))]


def _fragmented_control(rng: Random) -> list[Frame]:
    frame = rng.choice((ping("x"), pong("x"), close(1000)))
    rest = [more("y")] if rng.random() < 0.3 else []
    return [*_opened(rng), replace(frame, fin=False), *rest]


def _nothing_to_continue(rng: Random) -> list[Frame]:
    return [more(_message(rng), fin=rng.random() < 0.5, mask=_mask(rng))]


def _message_within_a_message(rng: Random) -> list[Frame]:
    return [text(_message(rng), fin=False), *_ping(rng), replace(rng.choice((_text, _binary))(rng)[0], fin=True)]


def _close(rng: Random) -> list[Frame]:
    reason = _letters(rng, 20) if rng.random() < 0.5 else ""
    return [*_opened(rng), close(rng.choice((None, *GOOD_CODES)), reason, mask=_mask(rng))]


def _bad_close(rng: Random) -> list[Frame]:
    bad = rng.choice((*map(close, BAD_CODES), Frame(8, b"\x03"), close(1000, b"caf\xc3"), close(999, b"\xff")))
    return [*_opened(rng), bad]


def _bad_text(rng: Random) -> list[Frame]:
    payload = _letters(rng).encode() + rng.choice(NOT_UTF8)
    payload += _letters(rng)[:1].encode() if payload[-1] < 0x80 or rng.random() < 0.5 else b""
    cuts = [rng.randint(0, len(payload)) for _ in range(rng.choice((0, 0, 1, 3)))]
    return fragments(TEXT, payload, cuts, mask=_mask(rng))


def _too_big(rng: Random) -> list[Frame]:
    claims = rng.choice((LIMIT + 1, 1 << 20, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1))
    frame = rng.choice((text, binary))(b" " * rng.choice((0, 10, 20_000)), claims=claims)
    return [*_opened(rng), frame if rng.random() < 0.7 else more("", claims=claims)]


def _too_big_in_pieces(rng: Random) -> list[Frame]:
    pieces = rng.randint(2, 5)
    frames = fragments(TEXT, b" " * (LIMIT + pieces), [LIMIT * n // pieces for n in range(1, pieces)])
    return [frames[0], *(_ping(rng) if rng.random() < 0.5 else []), *frames[1:]]


def _farewell(rng: Random) -> list[Frame]:
    return [text('{"type":"CLIENT_DISCONNECTED"}', mask=_mask(rng))]


ENDINGS: tuple[Part, ...] = (
    _unmasked, _reserved_bits, _reserved_opcode, _long_control, _fragmented_control, _nothing_to_continue,
    _message_within_a_message, _close, _close, _bad_close, _bad_text, _bad_text, _too_big, _too_big_in_pieces,
    _farewell,
)  # fmt: skip


def _disturbed(rng: Random, frames: list[Frame]) -> list[Frame]:
    """The frames with one of them changed, lost, repeated or in another place."""
    if not frames:
        return frames
    at = rng.randrange(len(frames))
    frame = frames[at]
    changes: tuple[Callable[[], list[Frame]], ...] = (
        list,
        lambda: [frame, frame],
        lambda: [replace(frame, fin=not frame.fin)],
        lambda: [replace(frame, opcode=rng.randrange(16))],
        lambda: [replace(frame, opcode=frame.opcode ^ CONTROL)],
        lambda: [replace(frame, rsv=1 << rng.randrange(3))],
        lambda: [replace(frame, mask=None)],
        lambda: [replace(frame, length_bytes=8)],
        lambda: [replace(frame, payload=_with_a_high_bit(rng, frame.payload))],
        lambda: [frame, rng.choice(frames)],
        lambda: [frame, *rng.choice(ENDINGS)(rng)],
    )
    return [*frames[:at], *rng.choice(changes)(), *frames[at + 1 :]]


def _with_a_high_bit(rng: Random, payload: bytes) -> bytes:
    at = rng.randrange(len(payload) or 1)
    return payload[:at] + bytes(byte ^ 0x80 for byte in payload[at : at + 1]) + payload[at + 1 :]
