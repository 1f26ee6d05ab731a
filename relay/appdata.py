"""The SQL functions that only the web app's sessions need; `database` names all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .database import LIVE_SECONDS, QUICK_SECONDS, Database
from .errors import OnlyStandby, UnknownRestaurant
from .gathering import Gathering

MET = 200  # terminals that are noted in one statement


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of a restaurant at one revision, each as JSON text, None where it was not asked for."""

    epoch: str
    revision: int
    tables: str | None
    menu_items: str | None
    categories: str | None
    settings: str | None
    orders: str | None
    complete: bool


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user, `data` as JSON text without the password."""

    id: str
    version: int
    updated_by: str
    data: str
    password: str | None


@dataclass(frozen=True, slots=True)
class StaffRows:
    """A restaurant's users, the count they were read at, and whether the database holds all of its lists."""

    count: int
    complete: bool
    users: tuple[UserRow, ...]


class AppData:
    """What the profile asks the database for. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._meetings = Gathering(self._meet, MET, "meetings")

    async def read_lists(
        self, restaurant_id: int, kinds: Collection[str], order_ids: Collection[str] | None, orders: int
    ) -> Lists:
        """The lists of these kinds (fields of Lists); of the orders those named, or the newest `orders`.

        Raises UnknownRestaurant.
        """
        rows = await self._database.read(
            """select epoch, revision, tables, menu_items, categories, settings, orders, complete
               from pos.read_lists(%s, %s, %s::text[], %s)""",
            (restaurant_id, list(kinds), None if order_ids is None else list(order_ids), orders),
        )
        if not rows:
            raise UnknownRestaurant(str(restaurant_id))
        if rows[0][0] is None:
            raise OnlyStandby("DATABASE_URL")  # a pooler has led there
        return Lists(*rows[0])

    async def read_staff(self, restaurant_id: int) -> StaffRows:
        """The users of a restaurant. Raises UnknownRestaurant."""
        rows = await self._database.read(
            "select staff, complete, id, version, updated_by, data, password from pos.read_staff(%s)",
            (restaurant_id,),
            LIVE_SECONDS,
        )
        if not rows:
            raise UnknownRestaurant(str(restaurant_id))
        count, complete = rows[0][:2]
        return StaffRows(count, complete, tuple(UserRow(*row[2:]) for row in rows if row[2] is not None))

    async def seal_password(self, restaurant_id: int, user_id: str, readable: str, sealed: str) -> None:
        """Put a sealed password in the place of a readable one, unless that was changed meanwhile."""
        await self._database.read(
            "select pos.seal_password(%s, %s, %s, %s)", (restaurant_id, user_id, readable, sealed), QUICK_SECONDS
        )

    async def meet_terminal(self, restaurant_id: int, client_id: str) -> int | None:
        """Note that a terminal is here; a revision that it has certainly seen, None if it was never here."""
        return await self._meetings.find((restaurant_id, client_id))

    async def _meet(self, names: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
        # In one order: two relays that meet the same terminals must not wait for each other.
        rows = await self._database.read(
            """select t.restaurant_id, t.client_id, pos.meet_terminal(t.restaurant_id, t.client_id)
               from (
                 select * from unnest(%s::bigint[], %s::text[]) as n (restaurant_id, client_id) order by 1, 2
               ) as t""",
            ([restaurant_id for restaurant_id, _ in names], [client_id for _, client_id in names]),
            QUICK_SECONDS,
        )
        return {(restaurant_id, client_id): revision for restaurant_id, client_id, revision in rows}

    async def note_terminals(self, revisions: Mapping[tuple[int, str], int]) -> None:
        """Note which revision each terminal, named by restaurant and client id, has certainly seen."""
        await self._database.read(
            "select pos.note_terminals(%s, %s, %s)",
            (
                [restaurant_id for restaurant_id, _ in revisions],
                [client_id for _, client_id in revisions],
                list(revisions.values()),
            ),
            QUICK_SECONDS,
        )
