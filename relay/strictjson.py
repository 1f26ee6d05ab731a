r"""JSON text to Python, refusing what jsonb or another terminal could not hold.

PostgreSQL's jsonb has no NaN, no \u0000, no half surrogate pairs, and keeps one of two equal keys without saying so; a
browser reads 1e999 as Infinity and sends it back as null. Such a text is refused before anything is done with it.

The ordinary text is read by the standard library's C scanner alone. Only where a fault is certain or possible is it
read a second time, token by token, for the path of the fault.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import NoReturn

from .errors import Refusal

MAX_DEPTH = 64
MAX_VALUES = 20_000  # a megabyte may hold half a million, and each is a step in Python while nobody is served
MAX_NUMBER_LENGTH = 400
SAFE_DIGITS = 308  # a browser reads a number into a double
MAX_EXPONENT = 40  # jsonb writes 1e300 out in full: 5 bytes that came in would go out as 301 to everybody
MAX_PATH_LENGTH = 200  # the sender chooses the keys, and the path is sent back

_TOO_DEEP = f"objects and arrays may be nested {MAX_DEPTH} levels deep, not deeper"
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
# A string without an end counts as one: looked for anew at each of its quotes, it would cost time by the square.
_TEXT = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_STRING = re.compile(_TEXT, re.DOTALL)
_TOKEN = re.compile(
    _TEXT + r"|[\[\]{},]|NaN|-?Infinity|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?",
    re.DOTALL,
)


def parse(text: str) -> object:
    """Return what a JSON text says, with integers as int and other numbers as float.

    Raises Refusal: VALIDATION with the path of the fault (`data.items.2.price`), or INVALID_MESSAGE without a field
    where it is the whole text's.
    """
    if _has_too_many(text):
        raise _fault(f"a message may hold {MAX_VALUES} values, not more")
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Refusal("INVALID_MESSAGE", f"this is not JSON: {error}") from None
    except RecursionError:
        _name_fault(text)
        raise _fault(_TOO_DEEP) from None
    except Refusal:
        _name_fault(text)
        raise
    if _SUSPECT_ESCAPE.search(text) or not _is_unicode(text) or _is_too_deep(text, value):
        _name_fault(text)
    return value


def _fault(sentence: str) -> Refusal:
    return Refusal("INVALID_MESSAGE", sentence)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _fault("a key appears twice")
    return made


def _has_too_many(text: str) -> bool:
    """Whether there are more values than MAX_VALUES, by what stands between them. A picture has commas too."""
    if _separators(text) <= MAX_VALUES:
        return False
    return text.count('"') > 4 * MAX_VALUES or _separators(_STRING.sub("", text)) > MAX_VALUES


def _separators(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _constant(name: str) -> NoReturn:
    raise _fault(f"{name} is not a JSON number")


def _int(literal: str) -> int:
    if len(literal) > SAFE_DIGITS:
        _float(literal)
    return int(literal)


def _float(literal: str) -> float:
    # First the length: an exponent of 5,000 digits would trip over Python's own limit for int().
    if len(literal) > MAX_NUMBER_LENGTH:
        raise _fault(f"a number may have {MAX_NUMBER_LENGTH} characters, not more")
    value = float(literal)
    exponent = literal.lower().partition("e")[2]
    if math.isinf(value) or (exponent and abs(int(exponent)) > MAX_EXPONENT):
        raise _fault(f"a number must fit a double, and its exponent be within ±{MAX_EXPONENT}")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_int, parse_float=_float)


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _children(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_too_deep(text: str, value: object) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if isinstance(child, (dict, list))]
    return bool(level)


def _name_fault(text: str) -> None:
    """Raise for the first fault in reading order, with its path; return if there is none.

    The text is JSON at least up to that fault.
    """
    place = _Place()
    for token in _TOKEN.findall(text):
        try:
            place.take(token)
        except Refusal as fault:
            raise place.refusal(fault.message) from None


class _Place:
    """Where in a text the reading is, and which keys it has met there."""

    def __init__(self) -> None:
        # One segment and one set for each open container. None: an object whose next string is a key.
        self._path: list[str | int | None] = []
        self._keys: list[set[str]] = []

    def refusal(self, sentence: str) -> Refusal:
        path = ".".join(str(segment) for segment in self._path if segment is not None)
        if not path:
            return _fault(sentence)
        # A key may be what is at fault, and the answer must be valid UTF-8 all the same.
        return Refusal("VALIDATION", sentence, field=path.encode(errors="replace").decode()[:MAX_PATH_LENGTH])

    def take(self, token: str) -> None:
        match token[0]:
            case "[" | "{":
                self._open(token)
            case "]" | "}":
                self._path.pop()
                self._keys.pop()
            case ",":
                last = self._path[-1]
                self._path[-1] = last + 1 if isinstance(last, int) else None
            case '"':
                self._text(json.loads(token))
            case _ if token[-1].isdigit():
                _float(token)
            case _:
                _constant(token)

    def _open(self, bracket: str) -> None:
        if len(self._path) == MAX_DEPTH:
            raise _fault(_TOO_DEEP)
        self._path.append(0 if bracket == "[" else None)
        self._keys.append(set())

    def _text(self, text: str) -> None:
        if self._path and self._path[-1] is None:
            self._path[-1] = text
            if text in self._keys[-1]:
                raise _fault(f"the key {text[:MAX_PATH_LENGTH]!r} appears twice")
            self._keys[-1].add(text)
        if "\0" in text:
            raise _fault("text may not contain \\u0000")
        if not _is_unicode(text):
            raise _fault("text may not contain half of a surrogate pair")
