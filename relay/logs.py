"""Log lines: one event is one line on stderr, as text or as JSON, whatever the values hold."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from datetime import UTC, datetime

from .repeats import Repeats

VALUE_CHARACTERS = 200
MESSAGE_CHARACTERS = 1000  # psycopg's account of several hosts that did not answer is longer than a value
TRACEBACK_CHARACTERS = 8000
HIDDEN = "(not logged)"
PLAIN = re.compile(r'[^\s"=\\]+')

Value = str | int | float | None


def fields(**values: object) -> dict[str, object]:
    """Named values to show behind the message: `log.info("listening again", extra=fields(attempt=3))`."""
    return {"fields": values}


def configure(level: str, format: str) -> None:
    """Send all logging to stderr: `level` is debug, info, warning or error, `format` text or json.

    uvicorn must be started with `log_config=None, log_level=None`: it sets levels of its own otherwise.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler.formatter, LineFormatter)]:
        root.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(as_json=format == "json"))
    if least > logging.DEBUG:
        handler.addFilter(Repeats())
    root.addHandler(handler)
    root.setLevel(max(least, logging.WARNING))
    logging.getLogger("relay").setLevel(least)
    logging.getLogger("psycopg").setLevel(max(least, logging.WARNING))
    # It warns at every attempt; the listener says once that the database is away, and once that it is back.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    _configure_uvicorn(least)


def _configure_uvicorn(least: int) -> None:
    # Without handlers, uvicorn does not even build its access lines.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    # Never below INFO: uvicorn hands this logger to websockets, which writes the text of every frame at DEBUG.
    error = logging.getLogger("uvicorn.error")
    error.setLevel(max(least, logging.INFO))
    for old in [one for one in error.filters if isinstance(one, ConnectionNoise)]:
        error.removeFilter(old)
    if least > logging.DEBUG:
        error.addFilter(ConnectionNoise())


class ConnectionNoise(logging.Filter):
    """Drops what uvicorn and websockets say of each connection: `[accepted]` with path and query, `connection open`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        # By where it was said, not by its words: both packages keep this in files under a folder `websockets`.
        return record.levelno > logging.INFO or "websockets" not in record.pathname


class LineFormatter(logging.Formatter):
    """A record as one line, as text for people or as one JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line break."""
        head = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "part": record.name.removeprefix("relay.").removesuffix(".error"),
            "message": _cut(record.getMessage().strip(), MESSAGE_CHARACTERS),
        }
        # A field named as one of the head's must not pass for it.
        values = {f"{key}_" if key in head else key: _value(value) for key, value in _fields(record).items()}
        if record.exc_info and record.exc_info[0]:
            text = _without_rows(self.formatException(record.exc_info), record.exc_info[1])
            values["traceback"] = _middle_cut(text, TRACEBACK_CHARACTERS)
        return _escaped(_json({**head, **values}) if self.as_json else _text(head, values))


def _without_rows(text: str, error: BaseException | None) -> str:
    """A traceback without what PostgreSQL quotes of rows and values: a DETAIL holds the whole row that failed."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
        if (diag := getattr(each, "diag", None)) is not None:
            quoted = [diag.message_detail]
            if (diag.sqlstate or "").startswith("22"):  # a data exception quotes the value itself, and JSON its line
                quoted += [diag.message_primary, diag.context]
            lines = {line for part in quoted if part for line in part.splitlines() if line.strip()}
            for line in sorted(lines, key=len, reverse=True):  # each by itself: a group's traceback indents them
                text = text.replace(line, HIDDEN)
    return text


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = getattr(record, "fields", {})
    return found


def _value(value: object) -> Value:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _cut(str(value), VALUE_CHARACTERS)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _middle_cut(text: str, limit: int) -> str:
    # Both ends of a traceback tell something: where it began, and what was raised.
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(head: dict[str, str], values: dict[str, Value]) -> str:
    line = f"{head['time']} {head['level']:<7} {head['part']:<8}  {head['message']}"
    return line + "".join(f"  {key}={_readable(value)}" for key, value in values.items())


def _readable(value: Value) -> str:
    # Quoted where it could pass for two fields, or for none.
    return value if isinstance(value, str) and PLAIN.fullmatch(value) else _json(value)


def _escaped(line: str) -> str:
    """The line without line breaks, control, bidi or invisible characters: they are written as JSON writes them.

    Such characters stand only inside JSON's strings, where the escape means the same, so this serves both formats.
    """
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)
