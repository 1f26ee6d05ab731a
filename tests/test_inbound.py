"""Frames of a terminal, in any segments, into messages; what is illegal is told from what is not there yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from relay.inbound import BINARY, FRAGMENTS, PING, TEXT, Illegal, Inbound
from tests.served import masked

MOST = 1000


def taken(inbound: Inbound) -> list[tuple[int, bytes]]:
    found = []
    while (frame := inbound.take()) is not None:
        found.append(frame)
    return found


def code_of(data: bytes) -> int:
    """The code with which it is refused."""
    inbound = Inbound(MOST)
    inbound.feed(data)
    with pytest.raises(Illegal) as illegal:
        taken(inbound)
    return illegal.value.code


MESSAGES = st.lists(
    st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), st.binary(max_size=300), st.integers(1, 4), st.booleans()),
    max_size=6,
)


@given(MESSAGES, st.lists(st.integers(1, 200), min_size=1, max_size=5))
def test_messages_in_whatever_parts_and_segments_come_out_whole_and_in_order(
    messages: list[tuple[Opcode, bytes, int, bool]], steps: list[int]
) -> None:
    sent, expected = b"", list[tuple[int, bytes]]()
    for opcode, payload, parts, pinged in messages:
        size = -(-len(payload) // parts) or 1
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for number, piece in enumerate(pieces):
            kind = Opcode.CONT if number else opcode
            sent += masked(kind, piece, fin=number == len(pieces) - 1)
            if pinged and number == 0 and len(pieces) > 1:
                sent += masked(Opcode.PING, piece[:125])
                expected.append((PING, piece[:125]))
        expected.append((int(opcode), payload))
    inbound = Inbound(MOST)
    found, at, number = [], 0, 0
    while at < len(sent):
        step = steps[number % len(steps)]
        inbound.feed(sent[at : at + step])
        at, number = at + step, number + 1
        if number % 3:  # what was fed may wait for more than one segment
            found += taken(inbound)
    assert found + taken(inbound) == expected
    assert inbound.waiting == 0


def test_nothing_is_held_between_two_messages() -> None:
    inbound = Inbound(MOST)
    inbound.feed(masked(Opcode.TEXT, b"one") + masked(Opcode.TEXT, b"two", fin=False))
    assert taken(inbound) == [(TEXT, b"one")]
    inbound.feed(masked(Opcode.PING, b"between")[:3])
    inbound.feed(masked(Opcode.PING, b"")[:0])
    assert taken(inbound) == []
    assert inbound.waiting == 3
    fresh = Inbound(MOST)
    fresh.feed(masked(Opcode.BINARY, bytes(300)))
    assert taken(fresh) == [(BINARY, bytes(300))]
    assert (fresh.waiting, fresh._data, fresh._parts) == (0, b"", None)


def test_control_frames_come_out_between_the_parts_of_a_message() -> None:
    inbound = Inbound(MOST)
    inbound.feed(
        masked(Opcode.TEXT, b"be", fin=False) + masked(Opcode.PING, b"p") + masked(Opcode.CONT, b"gun") + b"\x81"
    )
    assert taken(inbound) == [(PING, b"p"), (TEXT, b"begun")]


def test_parts_count_together_towards_the_limit_and_in_number_are_joined() -> None:
    inbound = Inbound(MOST)
    inbound.feed(masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.CONT, b"", fin=False) * (3 * FRAGMENTS))
    assert taken(inbound) == []
    assert len(inbound._parts or ()) <= FRAGMENTS
    inbound.feed(masked(Opcode.CONT, bytes(MOST - 1)))
    assert taken(inbound) == [(TEXT, b"x" + bytes(MOST - 1))]
    assert code_of(masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.CONT, bytes(MOST))) == 1009


def test_a_message_that_is_too_big_is_refused_before_it_has_come() -> None:
    assert code_of(masked(Opcode.TEXT, bytes(MOST + 1))[:8]) == 1009
    assert code_of(b"\x81\xff" + (1 << 62).to_bytes(8)) == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),
        (b"\xc1\x80", 1002),
        (b"\x83\x80", 1002),
        (b"\x09\x80", 1002),
        (b"\x89\xfe", 1002),
        (masked(Opcode.CONT, b"x"), 1002),
        (masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.TEXT, b"x"), 1002),
        (b"\x88\x81\0\0\0\0x", 1002),
        (b"\x88\x82\0\0\0\0\x03\xed", 1002),
        (b"\x88\x83\0\0\0\0\x03\xe8\xff", 1007),
    ],
    ids=["not masked", "a reserved bit", "no opcode", "a ping in parts", "a long ping", "nothing to continue",
         "two at once", "half a code", "a code that is not sent", "a reason that is not text"],
)  # fmt: skip
def test_what_breaks_the_rfc_is_refused_with_the_code_for_it(data: bytes, code: int) -> None:
    assert code_of(data) == code
