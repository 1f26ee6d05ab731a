"""Conversations with a name, each with what must come of it, after the sections of RFC 6455 that they are about.

The outcomes are written down here by hand; `frame_rules` must come to the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzz.conversations import Conversation
from tests.fuzz.frame_rules import (
    GOODBYE,
    ILLEGAL,
    LIMIT,
    NO_CODE,
    NO_MESSAGE,
    REFUSED,
    TOO_BIG,
    Answer,
    Outcome,
)
from tests.fuzz.raw_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    binary,
    close,
    fragments,
    more,
    ping,
    pong,
    text,
)


@dataclass(frozen=True, slots=True)
class Named:
    """A conversation and its outcome; `end_at`, `unfinished` and `crowded` of the outcome are left to the rules."""

    name: str
    talk: Conversation
    outcome: Outcome


def named(name: str, frames: Sequence[Frame], outcome: Outcome, **how: object) -> Named:
    return Named(name, Conversation(tuple(frames), **how), outcome)  # type: ignore[arg-type]


def said(id_: str, size: int = 0) -> bytes:
    """A message that is answered with `answer(id_)`, of this many bytes."""
    return f'{{"type":"FUZZ","id":"{id_}"}}'.encode().ljust(size)


def answer(id_: str) -> Answer:
    return Answer("ERROR", REFUSED, id_)


def served(*answers: Answer, pongs: Sequence[bytes] = ()) -> Outcome:
    return Outcome(answers=answers, pongs=tuple(pongs))


def ended(*codes: int, after: Sequence[Answer] = (), pongs: Sequence[bytes] = ()) -> Outcome:
    return Outcome(answers=tuple(after), pongs=tuple(pongs), ends=frozenset(codes))


def echoed(payload: bytes, *codes: int, pongs: Sequence[bytes] = ()) -> Outcome:
    """The close comes back, or one with any of these codes."""
    code = int.from_bytes(payload[:2]) if payload else NO_CODE
    return Outcome(pongs=tuple(pongs), ends=frozenset({code, *codes}), echo=payload)


HEARD = served(answer("a"))
WRONG = ended(ILLEGAL)
BEGUN = text(said("a")[:10], fin=False)
NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
LEGAL = {
    TEXT: text(said("a")),
    BINARY: binary(b"\x01"),
    CLOSE: close(1000),
    PING: ping("x"),
    PONG: pong("x"),
    CONTINUATION: more("x"),
}


def lengths() -> Iterator[Named]:
    """Section 5.2: lengths, and what they are written with."""
    for size in (25, 125, 126, 127, 128, 4096, 65535, 65536, 65537, LIMIT - 1, LIMIT):
        yield named(f"a text of {size} bytes", [text(said("a", size))], HEARD)
    yield named("an empty text", [text("")], served(NO_MESSAGE))
    for size in (0, 1, 125, 126, 65535, 65536, LIMIT):
        yield named(f"{size} bytes that are no text", [binary(b"\xff" * size)], served(NO_MESSAGE))
    for size in (0, 1, 2, 4, 124, 125):
        payload = bytes(range(size))
        yield named(f"a ping of {size} bytes", [ping(payload)], served(pongs=[payload]))
        yield named(f"a pong of {size} bytes that nobody asked for", [pong(payload)], served())
    for width in (2, 8):
        wide: dict[str, Any] = {"length_bytes": width}
        yield named(f"a text with {width} bytes of length", [text(said("a"), **wide)], or_ends(HEARD))
        yield named(f"an empty text with {width} bytes of length", [text("", **wide)], or_ends(served(NO_MESSAGE)))
        yield named(f"a ping with {width} bytes of length", [ping("x", **wide)], or_ends(served(pongs=[b"x"])))
        yield named(f"a close with {width} bytes of length", [close(1000, **wide)], or_ends(echoed(b"\x03\xe8")))
    yield named("126 bytes with 8 bytes of length", [text(said("a", 126), length_bytes=8)], or_ends(HEARD))
    for name, mask in {"of zeros": b"\0" * 4, "of ones": b"\xff" * 4, "like a frame": b"\x81\x80\x00\x00"}.items():
        yield named(
            f"a mask {name}", [text(said("a"), mask=mask), ping("x", mask=mask)], served(answer("a"), pongs=[b"x"])
        )


def or_ends(outcome: Outcome) -> Outcome:
    """The same where the relay may also find fault."""
    return replace(outcome, may_end=frozenset({ILLEGAL}))


def reserved() -> Iterator[Named]:
    """Section 5.2: reserved bits and opcodes; section 5.1: masks."""
    for opcode, frame in LEGAL.items():
        within = [BEGUN] if opcode == CONTINUATION else []
        yield named(f"a {NAMES[opcode]} without a mask", [*within, replace(frame, mask=None)], WRONG)
        for bits in range(1, 8):
            yield named(
                f"a {NAMES[opcode]} with the reserved bits {bits:03b}", [*within, replace(frame, rsv=bits)], WRONG
            )
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield named(f"the opcode {opcode}", [Frame(opcode)], WRONG)
        yield named(f"the opcode {opcode} with a payload", [Frame(opcode, b"x" * 20)], WRONG)
        yield named(f"the opcode {opcode} within a message", [BEGUN, Frame(opcode, b"x")], WRONG)
        yield named(
            f"the opcode {opcode} after an answer",
            [text(said("a")), ping("x"), Frame(opcode)],
            ended(ILLEGAL, after=[answer("a")], pongs=[b"x"]),
            settled=True,
        )


def control() -> Iterator[Named]:
    """Section 5.5: control frames are short and whole, and may come within a message."""
    for opcode in (CLOSE, PING, PONG):
        name = NAMES[opcode]
        for size in (126, 127, 1000, 65535, 65536):
            yield named(f"a {name} of {size} bytes", [Frame(opcode, b"\x03\xe8".ljust(size))], WRONG)
        yield named(f"a {name} in pieces", [replace(LEGAL[opcode], fin=False), more("x")], WRONG)
        yield named(f"a {name} in pieces within a message", [BEGUN, replace(LEGAL[opcode], fin=False)], WRONG)
        yield named(f"a long {name} within a message", [BEGUN, Frame(opcode, b"\x03\xe8".ljust(126))], WRONG)
    rest = more(said("a")[10:])
    yield named("a ping within a message", [BEGUN, ping("x"), rest], served(answer("a"), pongs=[b"x"]))
    yield named("a pong within a message", [BEGUN, pong("x"), rest], HEARD)
    yield named(
        "pings before, within and after a message",
        [ping("1"), BEGUN, ping("2"), ping("3"), rest, ping("4")],
        served(answer("a"), pongs=[b"1", b"2", b"3", b"4"]),
    )
    yield named(
        "twenty pings at once", [ping(bytes([n])) for n in range(20)], served(pongs=[bytes([n]) for n in range(20)])
    )
    yield named("a ping at the end of the limit", [text(said("a", LIMIT), fin=False), ping("x"), more("")],
                 replace(served(answer("a"), pongs=[b"x"]), may_end=frozenset({TOO_BIG})))  # fmt: skip
    yield named("a ping that is not text", [ping(b"\xff\xfe\x00")], served(pongs=[b"\xff\xfe\x00"]))


def pieces() -> Iterator[Named]:
    """Section 5.4: fragmentation."""
    message = said("ဟင်း-😀")
    heard = served(answer("ဟင်း-😀"))
    for cut in range(0, len(message) + 1, 3):
        yield named(f"a message in two pieces, cut at {cut}", fragments(TEXT, message, [cut]), heard)
    yield named("a message in bytes", fragments(TEXT, message, range(1, len(message))), heard)
    yield named("the same, byte by byte", fragments(TEXT, message, range(1, len(message))), heard, segments="bytes")
    yield named("empty pieces all over", fragments(TEXT, message, [0, 0, 0, 9, 9, 9, len(message)]), heard)
    yield named("only empty pieces", fragments(TEXT, b"", [0, 0, 0]), served(NO_MESSAGE))
    yield named("2,000 empty pieces", fragments(TEXT, message, [5] * 2000), heard)
    yield named("a binary in pieces", fragments(BINARY, b"\xff" * 9, [3, 6]), served(NO_MESSAGE))
    yield named("a continuation of nothing", [more(message)], WRONG)
    yield named("an unfinished continuation of nothing", [more(message, fin=False)], WRONG)
    yield named(
        "a continuation after a message",
        [text(said("a")), more("x")],
        ended(ILLEGAL, after=[answer("a")]),
        settled=True,
    )
    yield named("a continuation after a message in pieces", [*fragments(TEXT, said("a"), [5]), more("x")],
                 ended(ILLEGAL, after=[answer("a")]), settled=True)  # fmt: skip
    for frame in (text("x"), text("x", fin=False), binary(b"x"), binary(b"x", fin=False)):
        last = "a" if frame.fin else "an unfinished"
        yield named(f"{last} {NAMES[frame.opcode]} within a message", [BEGUN, frame], WRONG)
        yield named(f"{last} {NAMES[frame.opcode]} within a binary", [binary(b"x", fin=False), frame], WRONG)
    yield named("a message that never ends", [BEGUN, more("x", fin=False), ping("x")], served(pongs=[b"x"]))
    yield named("a message after one in pieces", [*fragments(TEXT, said("a"), [7]), text(said("b"))],
                 served(answer("a"), answer("b")))  # fmt: skip


def sizes() -> Iterator[Named]:
    """Section 7.4.1: 1009; section 5.2: the highest bit of a length of 8 bytes is 0."""
    for claims in (LIMIT + 1, 1 << 20, (1 << 32) - 1, 1 << 32, 1 << 48, (1 << 63) - 1):
        yield named(f"a text that says it has {claims} bytes", [text("", claims=claims)], ended(TOO_BIG))
        yield named(f"a piece that says it has {claims} bytes", [BEGUN, more("", claims=claims)], ended(TOO_BIG))
    for claims in (1 << 63, (1 << 63) + 5, (1 << 64) - 1):
        yield named(f"a length of {claims}", [text("", claims=claims)], ended(ILLEGAL, TOO_BIG))
        yield named(f"a ping with a length of {claims}", [ping("", claims=claims)], ended(ILLEGAL, TOO_BIG))
    yield named("one byte too many", [text(said("a", LIMIT + 1))], ended(TOO_BIG))
    yield named("ten times too many", [text(said("a", LIMIT * 10))], ended(TOO_BIG))
    yield named("one byte too many, not text", [binary(bytes(LIMIT + 1))], ended(TOO_BIG))
    for count in (2, 3, 50):
        cuts = [LIMIT * n // count for n in range(1, count)]
        yield named(f"the limit in {count} pieces", fragments(TEXT, said("a", LIMIT), cuts), HEARD)
        yield named(f"one byte too many in {count} pieces", fragments(TEXT, said("a", LIMIT + 1), cuts), ended(TOO_BIG))
    yield named("too much after an answer", [text(said("a")), text("", claims=LIMIT + 1)],
                 ended(TOO_BIG, after=[answer("a")]), settled=True)  # fmt: skip
    yield named("two messages of which each is small enough", [text(said("a", LIMIT)), text(said("b", LIMIT))],
                 served(answer("a"), answer("b")))  # fmt: skip
    yield named(
        "fifty messages at once", [text(said(str(n))) for n in range(50)], served(*(answer(str(n)) for n in range(50)))
    )
    yield named(
        "a farewell", [text(said("a")), text('{"type":"CLIENT_DISCONNECTED"}')], ended(GOODBYE, after=[answer("a")])
    )
