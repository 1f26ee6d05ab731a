"""What RFC 6455 and the relay's protocol make of a conversation: the oracle, which never saw the relay's parser.

It judges frames as they were meant, not bytes, so it cannot share a fault of reading them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.fuzz.raw_frames import BINARY, CLOSE, CONTINUATION, OPCODES, PING, Frame

LIMIT = 70_000  # the relay's RELAY_MAX_MESSAGE_BYTES here: above 65,536, where a length takes 8 bytes
CONTROL_BYTES = 125  # the most that a control frame holds (section 5.5)
NO_CODE = 1005  # a close without a code, as the RFC numbers it (section 7.1.5)
ILLEGAL, NOT_UTF8, TOO_BIG, GOODBYE = 1002, 1007, 1009, 1000
# Section 7.4.1 and the IANA registry; 3000-4999 are for libraries and applications.
CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}) | frozenset(
    range(3000, 5000)
)
LASTING = ("UPDATE_TABLE", "NEXT_ORDER_ID")  # acknowledged when they are committed, so in any order

NO_CODES: frozenset[int] = frozenset()


class Answer(NamedTuple):
    """What the relay says to one message."""

    type: str
    code: str | None = None  # of an ERROR: UNREADABLE or REFUSED
    ref: str | None = None


UNREADABLE, REFUSED = "INVALID_MESSAGE", "REFUSED"  # no JSON object, or one that says nothing that can be done
NO_MESSAGE = Answer("ERROR", UNREADABLE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What must come of a conversation."""

    answers: tuple[Answer, ...] = ()  # in this order
    acks: frozenset[str] = frozenset()  # the refs, in any order
    pongs: tuple[bytes, ...] = ()  # in this order
    ends: frozenset[int] = NO_CODES  # the relay closes with any of these; empty: it goes on
    may_end: frozenset[int] = NO_CODES  # it may also close with these, earlier: a choice the RFC leaves
    echo: bytes | None = None  # the terminal's close, which comes back byte for byte
    spare_pongs: tuple[bytes, ...] = ()  # it may answer these too, in this order
    end_at: int | None = None  # the number of the frame that ends it
    unfinished: bool = False  # a fragmented message is not complete …
    crowded: bool = False  # … and leaves no room below the limit


def outcome_of(frames: Sequence[Frame], limit: int = LIMIT) -> Outcome:
    """What must come of these frames on a connection that has just been opened."""
    return _Conversation(limit).judge(frames)


class _Conversation:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: list[Answer] = []
        self._acks: set[str] = set()
        self._pongs: list[bytes] = []
        self._may_end: set[int] = set()
        self._opcode = CONTINUATION  # of the message that is being put together; CONTINUATION: none is
        self._parts: list[bytes] = []
        self._size = 0
        self._echo: bytes | None = None

    def judge(self, frames: Sequence[Frame]) -> Outcome:
        for number, frame in enumerate(frames):
            if not frame.minimal:  # "the minimal number of bytes MUST be used", but who reads may be liberal
                self._may_end.add(ILLEGAL)
            if frame.is_control and self._size + frame.length > self._limit >= frame.length:
                # websockets counts a control frame among the bytes of the message that it interrupts.
                self._may_end.add(TOO_BIG)
            if codes := self._codes(frame):
                return self._outcome(codes, number, echo=self._echo)
            if frame.opcode == PING:
                self._pongs.append(frame.payload)
            elif not frame.is_control and (ends := self._take(frame)):
                # What comes in one segment with such a message may be read before the message is.
                rest = outcome_of(frames[number + 1 :], self._limit)
                return self._outcome(ends | rest.ends | rest.may_end, number, echo=rest.echo, spare=rest.pongs)
        return self._outcome(set(), None)

    def _outcome(
        self, ends: set[int] | frozenset[int], at: int | None, *, echo: bytes | None = None, spare: Sequence[bytes] = ()
    ) -> Outcome:
        return Outcome(
            answers=tuple(self._answers),
            acks=frozenset(self._acks),
            pongs=tuple(self._pongs),
            ends=frozenset(ends),
            may_end=frozenset(self._may_end),
            echo=echo,
            spare_pongs=tuple(spare),
            end_at=at,
            unfinished=self._opcode != CONTINUATION,
            crowded=self._size + CONTROL_BYTES > self._limit,
        )

    def _codes(self, frame: Frame) -> set[int]:
        """The codes of which any may answer this frame; none if it is legal here."""
        codes = set()
        if frame.opcode not in OPCODES or frame.mask is None or frame.rsv:
            codes.add(ILLEGAL)
        if frame.length >= 1 << 63:  # "the most significant bit MUST be 0"; and it is too much in any case
            codes |= {ILLEGAL, TOO_BIG}
        if self._size + frame.length > self._limit and (not frame.is_control or frame.length > CONTROL_BYTES):
            codes.add(TOO_BIG)
        if frame.is_control:
            if frame.length > CONTROL_BYTES or not frame.fin:
                codes.add(ILLEGAL)
            if frame.opcode == CLOSE:
                codes |= self._codes_of_close(frame.payload, illegal=bool(codes))
        elif (frame.opcode == CONTINUATION) != (self._opcode != CONTINUATION):
            codes.add(ILLEGAL)
        return codes

    def _codes_of_close(self, payload: bytes, *, illegal: bool) -> set[int]:
        codes = set()
        code = int.from_bytes(payload[:2]) if payload else NO_CODE
        if len(payload) == 1 or (payload and code not in CODES):
            codes.add(ILLEGAL)
        if not _is_utf8(payload[2:]):
            codes.add(NOT_UTF8)
        if not codes and not illegal:
            codes.add(code)
            if self._opcode != CONTINUATION:
                codes.add(ILLEGAL)  # it is legal, but the message that it cuts off is not
            # Else it may be an answer to this, or to what came before.
            if code not in self._may_end and (self._opcode == CONTINUATION or code != ILLEGAL):
                self._echo = payload
        return codes

    def _take(self, frame: Frame) -> set[int]:
        """Take a data frame; the codes with which the relay then closes."""
        self._opcode = frame.opcode or self._opcode
        self._parts.append(frame.payload)
        self._size += len(frame.payload)
        if not frame.fin:
            return set()
        opcode, message = self._opcode, b"".join(self._parts)
        self._opcode, self._size = CONTINUATION, 0
        self._parts.clear()
        if opcode == BINARY:
            self._answers.append(NO_MESSAGE)
            return set()
        if not _is_utf8(message):
            return {NOT_UTF8}
        return self._hear(message)

    def _hear(self, message: bytes) -> set[int]:
        said = _object(message)
        if said is None:
            self._answers.append(NO_MESSAGE)
            return set()
        kind, ref = said.get("type"), said.get("id")
        ref = ref if isinstance(ref, str) and 0 < len(ref) <= 64 else None
        if kind in LASTING and ref:
            self._acks.add(ref)
        elif kind == "CLIENT_DISCONNECTED":
            return {GOODBYE}
        elif kind == "SYNC_REQUEST":
            self._answers.append(Answer("SYNC_RESPONSE", ref=ref))
        elif kind != "HEARTBEAT":
            self._answers.append(Answer("ERROR", REFUSED, ref))
        elif not said.get("data", {}).get("response"):
            self._answers.append(Answer("HEARTBEAT"))
        return set()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _object(message: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
