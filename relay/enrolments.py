"""The SQL functions that say which tokens are good; who comes at the same time is looked up in one read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from .auth import NOT_KNOWN, Identity
from .database import QUICK_SECONDS, Database
from .errors import Unauthorized

LOOKED_UP = 500  # tokens in one read


class Enrolments:
    """The enrolled terminals. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted: dict[bytes, asyncio.Future[Identity | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, token_hash: bytes) -> Identity:
        """Whose token this is. Raises Unauthorized.

        While one read is on its way, what is asked waits for the next: however many ask, and however much of it is
        rubbish, the database is asked one question at a time.
        """
        answer = self._wanted.get(token_hash)
        if answer is None:
            answer = self._wanted[token_hash] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_up(), name="tokens")
        identity = await asyncio.shield(answer)
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

    async def _look_up(self) -> None:
        while self._wanted:
            asked = dict(list(self._wanted.items())[:LOOKED_UP])
            for token_hash in asked:
                del self._wanted[token_hash]  # who asks from now on may know of a newer token
            found: dict[bytes, Identity] = {}
            error: Exception | None = None
            try:
                rows = await self._database.read(
                    "select token_hash, restaurant_id, slug, name, role, staff from pos.find_terminals(%s)",
                    (list(asked),),
                    QUICK_SECONDS,
                )
                found = {row[0]: Identity(row[2], row[4], row[3], row[0], row[1], row[5]) for row in rows}
            except Exception as fault:
                error = fault
            for token_hash, answer in asked.items():
                if answer.done():
                    continue
                if error is None:
                    answer.set_result(found.get(token_hash))
                else:
                    answer.set_exception(error)
                    answer.exception()  # whoever waits is told; perhaps nobody does any more
