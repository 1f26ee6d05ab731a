"""The SQL functions that say which tokens are good; who comes at the same time is looked up in one read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .auth import NOT_KNOWN, Identity
from .database import QUICK_SECONDS, Database
from .errors import Unauthorized
from .gathering import Gathering

LOOKED_UP = 500  # tokens in one read


class Enrolments:
    """The enrolled terminals. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathering = Gathering(self._look_up, LOOKED_UP, "tokens")

    async def find(self, token_hash: bytes) -> Identity:
        """Whose token this is, looked up with all that are asked for meanwhile. Raises Unauthorized."""
        identity = await self._gathering.find(token_hash)
        if identity is None:
            raise Unauthorized(NOT_KNOWN)
        return identity

    async def standing(self, restaurant_ids: Collection[int]) -> dict[tuple[int, bytes], str]:
        """The role of every good token of these restaurants, by restaurant and hash."""
        rows = await self._database.read(
            "select restaurant_id, token_hash, role from pos.read_terminals(%s)",
            (list(restaurant_ids),),
            QUICK_SECONDS,
            live=True,
        )
        return {(restaurant_id, token_hash): role for restaurant_id, token_hash, role in rows}

    async def _look_up(self, token_hashes: Sequence[bytes]) -> dict[bytes, Identity]:
        rows = await self._database.read(
            "select token_hash, restaurant_id, slug, name, role, staff from pos.find_terminals(%s)",
            (list(token_hashes),),
            QUICK_SECONDS,
        )
        return {row[0]: Identity(row[2], row[4], row[3], row[0], row[1], row[5]) for row in rows}
