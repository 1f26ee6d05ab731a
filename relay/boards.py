"""The boards of all relays together: this one's, and what the others answer by way of the database."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, LiteralString

import psycopg

from .board import Board
from .database import QUICK_SECONDS, Database
from .errors import DatabaseUnavailable
from .presence import Presence

ANSWER_SECONDS = 1.0  # for every relay that is not silent to answer
POLL_SECONDS = 0.05
OUTSIDE = ("id", "name", "here", "known", "version", "unheardSeconds", "silent")  # what others tell of a relay
KEPT_SECONDS = 0.5  # an answer serves all who ask so soon after it


class Boards:
    """What /api/board answers with."""

    def __init__(self, database: Database, presence: Presence, board: Board) -> None:
        self._database = database
        self._presence = presence
        self._board = board
        self._asking: dict[int | None, asyncio.Task[list[dict[str, Any]]]] = {}
        self._asked_at: dict[int | None, float] = {}
        self._others: list[dict[str, Any]] = []  # without their boards, as they were known last
        self._known_at = 0.0  # when that was

    async def all(self, restaurant_id: int | None) -> list[dict[str, Any]]:
        """Every relay, this one first, with what belongs to one restaurant, or to all (None).

        Of a relay that does not answer only its name and since when it was not heard of; nothing is `known` of the
        others where this one does not reach the database.
        """
        self._forget()
        asking = self._asking.get(restaurant_id)
        if asking is None:
            asking = asyncio.create_task(self._ask(restaurant_id), name="boards")
            self._asking[restaurant_id], self._asked_at[restaurant_id] = asking, time.monotonic()
        others = await asyncio.shield(asking)
        own = self._presence.instance_id
        here = {"id": own, "name": self._presence.name, "here": True, "known": True, "silent": False, "answered": True}
        return [{**here, **await self._board.here(restaurant_id)}, *(one for one in others if one["id"] != own)]

    def _forget(self) -> None:
        for key, task in list(self._asking.items()):
            if task.done() and time.monotonic() - self._asked_at[key] > KEPT_SECONDS:
                del self._asking[key], self._asked_at[key]

    async def _ask(self, restaurant_id: int | None) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(QUICK_SECONDS):
                found = await self._gather(restaurant_id)
        except (DatabaseUnavailable, TimeoutError, psycopg.Error):  # also where the schema is an older one now
            return [{**one, "known": False, "unheardSeconds": self._unheard(one)} for one in self._others]
        self._known_at = time.monotonic()
        self._others = [{key: one[key] for key in OUTSIDE} | {"answered": False} for one in found]
        return found

    def _unheard(self, one: dict[str, Any]) -> float:
        """For how long nothing was heard of a relay that was known last when the database was there."""
        before: float = one["unheardSeconds"]
        return round(before + time.monotonic() - self._known_at, 1)

    async def _gather(self, restaurant_id: int | None) -> list[dict[str, Any]]:
        [(call_id,)] = await self._read("select pos.call_boards(%s)", restaurant_id)
        boards: dict[str, dict[str, Any]] = {self._presence.instance_id: {}}
        until = time.monotonic() + (ANSWER_SECONDS if call_id else 0.0)
        while True:
            found = await self._rows(call_id, boards)
            if time.monotonic() > until or all(one["answered"] or one["silent"] for one in found):
                return found
            await asyncio.sleep(POLL_SECONDS)

    async def _rows(self, call_id: uuid.UUID | None, boards: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Every relay as the database knows it; `boards` are their answers, and get those that are new."""
        rows = await self._read(
            """select instance_id, host, port, version, silent_seconds, silent, board
               from pos.read_boards(%s, %s)""",
            call_id,
            list(boards),
        )
        found = []
        for instance_id, host, port, version, seconds, silent, board in rows:
            if board is not None:
                boards[instance_id] = board
            one = {"id": instance_id, "name": f"{host}:{port}", "here": False, "known": True, "version": version}
            one |= {"unheardSeconds": round(seconds, 1), "silent": silent, "answered": instance_id in boards}
            found.append({**one, **boards.get(instance_id, {})})
        return found

    async def _read(self, query: LiteralString, *parameters: object) -> list[Any]:
        return await self._database.read(query, parameters, QUICK_SECONDS)
