"""Where a terminal keeps what must survive it: its outbox, its name, and the state it held last."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from .replica import Batch


class Store(Protocol):
    """A place for values by key. It is used by one thread at a time, and never by two terminals at once."""

    def load(self) -> dict[str, Any]:
        """Everything that was written."""

    def write(self, batch: Batch) -> None:
        """Write all of a batch or nothing; and if it is `urgent`, on the disk before it returns."""

    def close(self) -> None:
        """Let go of what is open."""


class MemoryStore:
    """For a terminal that only looks, such as `relay tail`: it forgets everything with the process."""

    def load(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def write(self, batch: Batch) -> None:
        """Forget it."""

    def close(self) -> None:
        """There is nothing to close."""


class SqliteStore:
    """An SQLite file, made if it is not there."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def load(self) -> dict[str, Any]:
        """Everything that was written. Raises sqlite3.Error where the file is none of SQLite's."""
        database = self._open()
        return {key: decode(text) for key, text in database.execute("select key, value from kept order by key")}

    def write(self, batch: Batch) -> None:
        """Write all of a batch or nothing; if it is `urgent`, to the disk itself. Raises sqlite3.Error."""
        database = self._open()
        gone = [(key,) for key, value in batch.values.items() if value is None]
        put = [(key, encode(value)) for key, value in batch.values.items() if value is not None]
        # Of the state alone a power cut may take back the end, in order: it is sent again. Of the outbox it may not
        # (SQLite, "PRAGMA synchronous").
        database.execute(f"pragma synchronous = {'full' if batch.urgent else 'normal'}")
        with database:
            if batch.clear:
                database.execute("delete from kept where key glob 'row/*'")
            database.executemany("delete from kept where key = ?", gone)
            database.executemany(
                "insert into kept values (?, ?) on conflict (key) do update set value = excluded.value", put
            )

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            # Opened in one thread and closed in another, never used in two at once.
            self._database = sqlite3.connect(self._path, check_same_thread=False)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("create table if not exists kept (key text primary key, value text) without rowid")
        return self._database


def decode(text: str | bytes) -> Any:
    """JSON to values; fractions become Decimal, so that a price keeps its digits. Raises ValueError."""
    return json.loads(text, parse_float=Decimal)


def encode(value: Any) -> str:
    """Values to JSON; a Decimal becomes a number with its digits. Raises TypeError, ValueError."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{encode(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no number in JSON")
        return str(value)
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
