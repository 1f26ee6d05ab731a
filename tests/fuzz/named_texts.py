"""Texts and closes with a name: RFC 6455, section 8.1 (UTF-8) and section 7 (closing)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.fuzz.conversations import BAD_CODES, GOOD_CODES
from tests.fuzz.conversations import NOT_UTF8 as BROKEN
from tests.fuzz.frame_rules import ILLEGAL, NO_MESSAGE, NOT_UTF8
from tests.fuzz.named_frames import BEGUN, WRONG, Named, answer, echoed, ended, named, said, served
from tests.fuzz.raw_frames import CLOSE, TEXT, Frame, close, fragments, more, ping, text

# From Markus Kuhn's "UTF-8 decoder capability and stress test": the borders of every length.
LETTERS = (
    "\u0001", "\u007f", "\u0080", "\u07ff", "\u0800", "\u1000", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff",
    "\U00010000", "\U0001f600", "\U0010fffe", "\U0010ffff", "κόσμε", "ဟင်း", "e\u0301", "\u202e", "\ufeff",
)  # fmt: skip


def texts() -> Iterator[Named]:
    """Section 8.1: what is not UTF-8 fails, wherever the borders of fragments fall."""
    for letter in LETTERS:
        data, name = letter.encode(), ascii(letter)
        heard = served(NO_MESSAGE) if letter < " " else served(answer(letter))
        message = said("?").replace(b"?", data)
        at = message.index(data)
        yield named(f"the text {name}", [text(message)], heard)
        for border in range(1, len(data)):
            cut = fragments(TEXT, message, [at + border])
            yield named(f"the text {name} cut after {border} bytes", [cut[0], ping(""), cut[1]],
                         served(*heard.answers, pongs=[b""]))  # fmt: skip
    for data in BROKEN:
        yield named(f"not UTF-8: {data.hex()}", [text(data)], ended(NOT_UTF8))
        yield named(f"not UTF-8: {data.hex()} in a message", [text(b'{"id":"' + data + b'"}')], ended(NOT_UTF8))
        cuts = fragments(TEXT, b"x" + data + b"x", range(1, len(data) + 2))
        yield named(f"not UTF-8: {data.hex()} in pieces", cuts, ended(NOT_UTF8))
    yield named("a letter that its message cuts off", [text("a", fin=False), more(b"\xc3")], ended(NOT_UTF8))
    yield named("a letter in two messages", [text(b"\xc3"), text(b"\xa9")], ended(NOT_UTF8))
    yield named(
        "not UTF-8 after an answer",
        [text(said("a")), text(b"\xff")],
        ended(NOT_UTF8, after=[answer("a")]),
        settled=True,
    )


def closes() -> Iterator[Named]:
    """Sections 5.5.1 and 7.4: the closing handshake and its codes."""
    yield named("an empty close", [close()], echoed(b""))
    for code in GOOD_CODES:
        yield named(f"a close with {code}", [close(code)], echoed(code.to_bytes(2)))
    for code in BAD_CODES:
        yield named(f"a close with {code}", [close(code)], WRONG)
        yield named(f"a close with {code} and a reason", [close(code, "because")], WRONG)
    yield named("a close of one byte", [Frame(CLOSE, b"\x03")], WRONG)
    for name, reason in {"a reason": "bye", "a Burmese reason": "ဟင်း", "123 bytes of reason": "x" * 123}.items():
        yield named(f"a close with {name}", [close(1000, reason)], echoed(b"\x03\xe8" + reason.encode()))
    for data in BROKEN:
        yield named(f"a reason that is not UTF-8: {data.hex()}", [close(1000, data)], ended(NOT_UTF8))
    yield named("a wrong code and a wrong reason", [close(999, b"\xff")], ended(ILLEGAL, NOT_UTF8))
    yield named("a close within a message", [BEGUN, close(1000)], echoed(b"\x03\xe8", ILLEGAL))
    yield named("a wrong close within a message", [BEGUN, close(1005)], WRONG)
    goodbye = b"\x03\xe8"
    for name, rest in {
        "a text": text(said("a")),
        "a ping": ping("x"),
        "another close": close(1001),
        "an illegal frame": Frame(3),
        "not UTF-8": text(b"\xff"),
        "too much": text("", claims=1 << 40),
    }.items():
        yield named(f"{name} after the close", [close(1000), rest], echoed(goodbye))
        yield named(
            f"{name} after the close, in a segment of its own", [close(1000), rest], echoed(goodbye), segments="frames"
        )
    yield named("a ping before the close", [ping("x"), close(1000)], echoed(goodbye, pongs=[b"x"]))
    for name, first in {
        "illegal": Frame(3),
        "unmasked": text("x", mask=None),
        "too big": text("", claims=1 << 40),
    }.items():
        code = 1009 if name == "too big" else ILLEGAL
        yield named(f"a close after what is {name}", [first, close(1000)], ended(code))
        yield named(f"a text after what is {name}", [first, text(said("a"))], ended(code))
    yield named(
        "an answer and then a close",
        [text(said("a")), close(1000)],
        replace(echoed(goodbye), answers=(answer("a"),)),
        settled=True,
    )
