"""Enrolled terminals, for who lets one in, or shuts one out, at the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from . import schema
from .auth import digest, new_token
from .errors import TerminalError, UnknownRestaurant

SECONDS = 10.0

FIND: LiteralString = """
    select t.restaurant_id, r.slug
    from pos.terminals as t join pos.restaurants as r on r.restaurant_id = t.restaurant_id
    where t.name = %s and r.slug = coalesce(%s, r.slug) and t.revoked_at is null
    order by r.slug for update of t"""
REVOKE: LiteralString = """
    update pos.terminals as t set revoked_at = now() where t.restaurant_id = %(restaurant_id)s and t.name = %(name)s
    returning t.name"""
ROTATE: LiteralString = """
    update pos.terminals as t set token_hash = %(token_hash)s, rotated_at = now()
    where t.restaurant_id = %(restaurant_id)s and t.name = %(name)s
    returning t.name"""


class Enrolled(NamedTuple):
    """A terminal; `given_at` is when it got the token that it has, `revoked_at` since when that is refused."""

    slug: str
    name: str
    role: str
    given_at: datetime
    revoked_at: datetime | None


async def add(conninfo: str, slug: str, name: str, role: str) -> str:
    """Enrol a terminal, also one of a name that was revoked; its token.

    Raises TerminalError, UnknownRestaurant, DatabaseUnavailable.
    """
    token = new_token()
    async with schema.connected(conninfo, SECONDS) as connection:
        try:
            rows = await _rows(
                connection,
                """insert into pos.terminals as t (restaurant_id, name, role, token_hash)
                   select r.restaurant_id, %s, %s, %s from pos.restaurants as r where r.slug = %s
                   on conflict (restaurant_id, name) do update
                     set role = excluded.role, token_hash = excluded.token_hash, rotated_at = now(), revoked_at = null
                     where t.revoked_at is not null
                   returning t.name""",
                (name, role, digest(token), slug),
            )
            there = rows or await _rows(connection, "select from pos.restaurants as r where r.slug = %s", (slug,))
        except psycopg.errors.CheckViolation:
            raise TerminalError("a name has 1 to 100 characters, no control characters, no space at its ends") from None
        if not there:
            raise UnknownRestaurant(slug)
        if not rows:
            raise TerminalError(f"{slug} has a terminal {name!r} already; relay terminal rotate gives it another token")
    return token


async def listed(conninfo: str, slug: str | None) -> list[Enrolled]:
    """The terminals of a restaurant, or all of them. Raises UnknownRestaurant, DatabaseUnavailable."""
    async with schema.connected(conninfo, SECONDS) as connection:
        rows = await _rows(
            connection,
            """select r.slug, t.name, t.role, coalesce(t.rotated_at, t.created_at), t.revoked_at
               from pos.terminals as t join pos.restaurants as r on r.restaurant_id = t.restaurant_id
               where r.slug = coalesce(%s, r.slug) order by r.slug, t.name""",
            (slug,),
        )
        known: LiteralString = "select from pos.restaurants as r where r.slug = %s"
        if slug is not None and not rows and not await _rows(connection, known, (slug,)):
            raise UnknownRestaurant(slug)
        return [Enrolled(*row) for row in rows]


async def revoke(conninfo: str, slug: str | None, name: str) -> str:
    """Refuse a terminal's token from now on; its restaurant. Raises TerminalError, DatabaseUnavailable."""
    return await _change(conninfo, REVOKE, slug, name)


async def rotate(conninfo: str, slug: str | None, name: str) -> tuple[str, str]:
    """Give a terminal another token; its restaurant, and the token. Raises TerminalError, DatabaseUnavailable."""
    token = new_token()
    return await _change(conninfo, ROTATE, slug, name, digest(token)), token


async def _change(
    conninfo: str, statement: LiteralString, slug: str | None, name: str, token_hash: bytes | None = None
) -> str:
    async with schema.connected(conninfo, SECONDS) as connection, connection.transaction():
        found = await _rows(connection, FIND, (name, slug))
        slugs = ", ".join(str(row[1]) for row in found)
        if not found:
            raise TerminalError(f"there is no terminal {name!r}, or it is revoked; relay terminal list shows them")
        if len(found) > 1:
            raise TerminalError(f"several restaurants have a terminal {name!r}: {slugs}; name --restaurant")
        await _rows(connection, statement, {"restaurant_id": found[0][0], "name": name, "token_hash": token_hash})
        return slugs


async def _rows(
    connection: AsyncConnection[TupleRow], query: LiteralString, parameters: Sequence[object] | Mapping[str, object]
) -> list[TupleRow]:
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall()
