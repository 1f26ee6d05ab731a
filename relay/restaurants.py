"""The restaurants of a database, for who begins one at the command line."""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from . import schema
from .errors import NotAllowed, RelayError, UnknownRestaurant

SECONDS = 10.0


class Listed(NamedTuple):
    """A restaurant; `complete` says whether the database holds all of its lists."""

    slug: str
    name: str
    revision: int
    complete: bool


async def add(conninfo: str, slug: str, name: str, *, empty: bool) -> None:
    """Make a restaurant; an empty one is complete. Raises RelayError where it cannot be, DatabaseUnavailable."""
    async with schema.connected(conninfo, SECONDS) as connection:
        try:
            await connection.execute("select pos.add_restaurant(%s, %s, %s)", (slug, name, empty))
        except psycopg.errors.UniqueViolation:
            raise RelayError(f"there is a restaurant {slug!r} already") from None
        except psycopg.errors.CheckViolation as error:
            allowed = {
                "restaurants_slug": "a slug has letters, digits, dots, dashes and underscores, 63 at most",
                "restaurants_name": "a name has 1 to 200 characters",
            }
            raise RelayError(allowed[str(error.diag.constraint_name)]) from None


async def listed(conninfo: str) -> list[Listed]:
    """Every restaurant, by slug. Raises NotAllowed, DatabaseUnavailable."""
    async with schema.connected(conninfo, SECONDS) as connection:
        cursor = await connection.execute(
            """select r.slug, r.name, h.revision, r.complete
               from pos.restaurants as r join pos.heads as h on h.restaurant_id = r.restaurant_id order by r.slug"""
        )
        rows = await cursor.fetchall()
        if not rows:
            await _check_sight(connection)
        return [Listed(*row) for row in rows]


async def find(connection: AsyncConnection[TupleRow], slug: str) -> int:
    """The id of a restaurant. Raises UnknownRestaurant; NotAllowed for a role that is not shown any."""
    cursor = await connection.execute("select r.restaurant_id from pos.restaurants as r where r.slug = %s", (slug,))
    if row := await cursor.fetchone():
        return int(row[0])
    await _check_sight(connection)
    raise UnknownRestaurant(slug)


async def _check_sight(connection: AsyncConnection[TupleRow]) -> None:
    """Raise NotAllowed where row-level security leaves nothing to be seen: it does so without a word."""
    cursor = await connection.execute(
        "select not exists (select from pos.restaurants) and row_security_active('pos.restaurants')"
    )
    row = await cursor.fetchone()
    if row and row[0]:
        raise NotAllowed(connection.info.user, "it is shown the restaurant that pos.restaurant_id names, and no other")
