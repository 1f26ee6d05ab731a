"""Reads `sql/`, applies it, and checks which version of the schema a database has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from .errors import DatabaseUnavailable, NotAllowed, OnlyStandby, SchemaError
from .pools import is_standby

VERSION = 3
ENTRY = "schema.sql"
SEED = "seed.sql"
ROLES = "roles.sql"
HOW_TO_APPLY = "run `relay schema apply`, or `psql -d DATABASE -f sql/schema.sql` as the schema's owner"
HOW_TO_FOLLOW = "use a newer relay"  # where the schema is the newer one
HOW_TO_CREATE = "createdb --encoding=UTF8 --template=template0 minipos_db"
CONNECT_SECONDS = 3
CHECK_SECONDS = 5.0
APPLY_SECONDS = 300.0  # an upgrade of a large database; the installers before it in the queue included

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
    return "".join(text for _, text in parts(name))


def parts(name: str = ENTRY) -> list[tuple[str, str]]:
    """The same, cut where an include begins and ends: the name of each file, and the text. Raises as `script` does."""
    return [(file, "".join(lines)) for file, lines in _parts(folder() / name)]


def _parts(path: Path) -> Iterator[tuple[str, list[str]]]:
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.startswith("\\"):
            lines.append(line)
        elif include := _INCLUDE.fullmatch(line):
            if lines:
                yield path.name, lines
            yield from _parts(path.parent / include[1])
            lines = []
        elif not _STOP.fullmatch(line):
            raise SchemaError(f"{path.name}: the loader does not know {line.strip()!r}; use psql")
    if lines:
        yield path.name, lines


async def apply(conninfo: str, step: Callable[[int, str], None] | None = None) -> None:
    """Install or upgrade the schema, in one transaction. Raises SchemaError, DatabaseUnavailable.

    `step` is told how many of its `parts` are done, and which one is next.
    """
    await _run(conninfo, ENTRY, step)


async def seed(conninfo: str) -> None:
    """Fill the default restaurant with the built-in data, unless its lists are complete already."""
    await _run(conninfo, SEED)


async def install_roles(conninfo: str) -> None:
    """Make the roles of a least-privilege install and give them their rights. Raises as `apply` does."""
    await _run(conninfo, ROLES)


async def installed_version(conninfo: str) -> int | None:
    """The version of the schema in a database; None where there is none. Raises DatabaseUnavailable."""
    async with connected(conninfo, CHECK_SECONDS) as connection:
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
            f"the database's schema has version {installed}, this relay speaks {VERSION}; {HOW_TO_FOLLOW}"
        )
    if installed is not None and not upgrade:
        raise SchemaError(f"the database's schema has version {installed}, this relay needs {VERSION}; {HOW_TO_APPLY}")
    await apply(conninfo)


async def _run(conninfo: str, name: str, step: Callable[[int, str], None] | None = None) -> None:
    async with connected(conninfo, APPLY_SECONDS) as connection:
        # guard.sql says it too, but here the server converts the whole script before it runs the first line of it.
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise SchemaError(f"the relay needs a database in UTF8, this one is in {encoding} ({HOW_TO_CREATE})")
        try:
            for number, (file, text) in enumerate(parts(name)):
                if step is not None:
                    step(number, file)
                await connection.execute(text.encode())
        except psycopg.Error as error:
            if connection.closed or isinstance(error, psycopg.errors.InsufficientPrivilege):
                raise
            if name != ENTRY and isinstance(error, psycopg.errors.UndefinedTable):
                raise  # there is no schema yet
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise SchemaError(f"{name} cannot be applied: {error.diag.message_primary or error}{hint}") from error


@asynccontextmanager
async def connected(conninfo: str, seconds: float) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A connection for so long. Raises DatabaseUnavailable when there is none or it breaks; SchemaError, NotAllowed."""
    role = ""
    try:
        async with (
            asyncio.timeout(seconds),
            await AsyncConnection.connect(
                conninfo,
                autocommit=True,
                client_encoding="UTF8",
                connect_timeout=CONNECT_SECONDS,
                target_session_attrs="read-write",
            ) as connection,
        ):
            role = connection.info.user  # a closed one cannot say it any more
            yield connection
    except TimeoutError as error:
        raise DatabaseUnavailable(f"the database did not answer within {seconds:.0f} s") from error
    except psycopg.OperationalError as error:
        if await is_standby(conninfo):
            raise OnlyStandby("DATABASE_URL") from error
        raise DatabaseUnavailable(str(error), sent=False) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotAllowed(role, error.diag.message_primary or str(error)) from error
    except psycopg.Error as error:
        raise SchemaError(
            f"the database's schema cannot be used: {error.diag.message_primary or error}; {HOW_TO_APPLY}"
        ) from error
