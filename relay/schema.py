"""Reads `sql/`, applies it, and checks which version of the schema a database has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from .errors import DatabaseUnavailable, SchemaError

VERSION = 1
ENTRY = "schema.sql"
SEED = "seed.sql"
HOW_TO_APPLY = "run `relay schema apply`, or `psql -d DATABASE -f sql/schema.sql` as the schema's owner"
CONNECT_SECONDS = 3

_INCLUDE = re.compile(r"\\ir\s+(\S+)\s*")
_STOP = re.compile(r"\\set\s+ON_ERROR_STOP\s+on\s*")


def folder() -> Path:
    """Where the SQL files are: in an installed package inside it, in a checkout beside it."""
    packaged = Path(__file__).parent / "sql"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "sql"


def script(name: str = ENTRY) -> str:
    """A file of `sql/` as one text for the simple query protocol, its includes in place.

    Of psql's backslash commands it knows the two that these files use. Raises SchemaError for any other.
    """
    return "".join(_lines(folder() / name))


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.startswith("\\"):
            yield line
        elif include := _INCLUDE.fullmatch(line):
            yield from _lines(path.parent / include[1])
        elif not _STOP.fullmatch(line):
            raise SchemaError(f"{path.name}: the loader does not know {line.strip()!r}; use psql")


async def apply(conninfo: str) -> None:
    """Install or upgrade the schema, in one transaction. Raises SchemaError, DatabaseUnavailable."""
    await _run(conninfo, ENTRY)


async def seed(conninfo: str) -> None:
    """Fill the default restaurant with the built-in data, unless its lists are complete already."""
    await _run(conninfo, SEED)


async def installed_version(conninfo: str) -> int | None:
    """The version of the schema in a database; None where there is none. Raises DatabaseUnavailable."""
    async with await _connect(conninfo) as connection:
        cursor = await connection.execute("select to_regclass('pos.installation') is not null")
        if not (row := await cursor.fetchone()) or not row[0]:
            return None
        cursor = await connection.execute("select version from pos.installation")
        row = await cursor.fetchone()
        return int(row[0]) if row else None


async def ensure(conninfo: str, *, upgrade: bool) -> None:
    """See to it that the database has this version: an empty one is installed, an old one only with `upgrade`.

    Raises SchemaError that names both versions and the command to run; DatabaseUnavailable.
    """
    installed = await installed_version(conninfo)
    if installed == VERSION:
        return
    if installed is not None and installed > VERSION:
        raise SchemaError(
            f"the database's schema has version {installed}, this relay speaks {VERSION}; use a newer relay"
        )
    if installed is not None and not upgrade:
        raise SchemaError(f"the database's schema has version {installed}, this relay needs {VERSION}; {HOW_TO_APPLY}")
    await apply(conninfo)


async def _run(conninfo: str, name: str) -> None:
    async with await _connect(conninfo) as connection:
        try:
            await connection.execute(script(name).encode())
        except psycopg.Error as error:
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise SchemaError(f"{name} cannot be applied: {error.diag.message_primary or error}{hint}") from error


async def _connect(conninfo: str) -> AsyncConnection[TupleRow]:
    try:
        return await AsyncConnection.connect(conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(str(error), sent=False) from error
