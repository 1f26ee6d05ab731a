"""Looks for card numbers in the free text of messages: they have no place in an order (PCI DSS 4.0.1, requirement 3).

A number of 13 to 19 digits (ISO/IEC 7812-1) that begins as cards do and passes the check of Luhn. One in ten
numbers passes that check alone, so ids, numbers and pictures are not looked at, nor what is named as an order's number.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from . import metrics
from .logs import fields
from .protocol import Message, Relayed, Update

log = logging.getLogger("relay.cards")

LEAST, MOST = 13, 19  # digits
SHORTEST = 3  # digits of a group that is not the last one
CANDIDATES = 2000  # that are looked at in one message: each takes time, and a hostile one may have half a million
NAME, TEXT = 100, 20_000  # characters of a field's name that are looked at, and of a text
SHOWN = 5  # fields that a line names
# A number is not part of a word, an id or a telephone number (+95 …); its digits may stand in groups.
RUN = re.compile(r"(?<![\w+/=.-])\d+(?:[ \u00a0-]\d+)*")
GAP = re.compile(r"[ \u00a0-]")
# How the numbers of each network begin, and how many digits they have.
NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|095|[689]\d)\d{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover
    r"|(?:62|81)\d{14,17}"  # UnionPay
    r"|(?:5[0678]|6[0-9])\d{11,17}"  # Maestro, RuPay
    r"|220[0-4]\d{12,15}"  # Mir
    r"|(?:9503|9792)\d{12}"  # MPU, Troy
)
ID = re.compile(r"(?:^|_)ids?$|(?<=[a-z])I[dD]s?$")
NUMBER_OF = re.compile(r"(?:order|receipt|invoice|ticket|bill|table|phone|mobile)_?(?:no|number|code)?$", re.I)
PICTURES = frozenset({"image", "logo", "photo", "picture", "avatar", "icon"})
DIGITS = re.compile(r"\d{4,}")


def warn(message: Message, restaurant: str | None) -> None:
    """Say in the log where a message has what looks like a card's number; never the number."""
    if isinstance(message, Update):
        found = places(message.row)
    elif isinstance(message, Relayed):
        found = places(message.data)
    else:
        return
    if found:
        metrics.CARDS.inc()
        log.warning(
            "a text looks like it holds a card number; tell the staff not to write them down",
            extra=fields(restaurant=restaurant or "default", type=message.type, fields=", ".join(found[:SHOWN])),
        )


def places(data: object) -> list[str]:
    """The paths of the texts in a message's data that hold a card number."""
    try:
        return list(dict.fromkeys(_Search().places(data)))
    except RecursionError:  # of JSON in a text: nothing a person wrote, and no reason to lose the message
        return []


def holds_card(text: str) -> bool:
    """Whether a text holds what looks like a card number."""
    return _Search().holds_card(text)


class _Search:
    """Looks through one message, with an end to how much of it."""

    def __init__(self) -> None:
        self._left = CANDIDATES

    def places(self, value: object, path: str = "", *, inside: bool = False) -> Iterator[str]:
        """See above; `inside`: of a text that is JSON itself."""
        if self._left < 0:
            return
        if isinstance(value, Mapping):
            for name, one in value.items():
                if len(name) >= LEAST and self.holds_card(name):
                    yield _shown(path) or "a name"
                if len(name) > NAME or not _is_exempt(name):
                    yield from self.places(one, f"{path}.{name}" if path else name, inside=inside)
        elif isinstance(value, list):
            for one in value:
                yield from self.places(one, path, inside=inside)
        elif isinstance(value, str) and len(value) >= LEAST and not value.startswith("data:"):
            parsed = _parsed(value) if not inside and value[0] in "[{" else None
            if parsed is not None:  # an order's lines may be JSON text, with ids in them
                yield from self.places(parsed, path, inside=True)
            elif self.holds_card(value):
                yield _shown(path)

    def holds_card(self, text: str) -> bool:
        """See above."""
        return any(is_card(digits) for digits in self._candidates(text))

    def _candidates(self, text: str) -> Iterator[str]:
        for run in RUN.finditer(text[:TEXT]):
            groups = GAP.split(run[0])
            for first in range(len(groups)):
                digits, last = "", first
                while last < len(groups) and (last == first or len(groups[last - 1]) >= SHORTEST):
                    digits += groups[last]
                    last += 1
                    if len(digits) > MOST:
                        break
                    if len(digits) >= LEAST:
                        self._left -= 1
                        if self._left < 0:
                            return
                        yield digits


def is_card(digits: str) -> bool:
    """Whether digits are those of a card number."""
    plain = [int(digit) for digit in digits]
    if len(set(plain)) == 1 or not NETWORKS.fullmatch("".join(map(str, plain))):
        return False
    doubled = (2 * digit - 9 * (digit > 4) for digit in plain[-2::-2])
    return (sum(plain[-1::-2]) + sum(doubled)) % 10 == 0


@lru_cache(4096)
def _is_exempt(name: str) -> bool:
    return bool(ID.search(name) or NUMBER_OF.search(name)) or name in PICTURES


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _shown(path: str) -> str:
    return DIGITS.sub("…", path)[:100]
