"""What `relay doctor` finds: one thing that was looked at, and how to mend it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from .settings import Settings

Level = Literal["ok", "advice", "fault"]
Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and how to mend it (nothing where it is well)."""

    level: Level
    name: str
    message: str
    mend: str = ""


Look = Callable[[Connection, Settings], AsyncIterator[Finding]]


async def rows_of(connection: Connection, query: Any, *parameters: object) -> list[dict[str, Any]]:
    """The rows of a query, on a connection whose rows are dictionaries."""
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall()  # type: ignore[return-value]
