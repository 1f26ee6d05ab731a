"""Finds the restaurant that a slug names, and asks the database once for all who come together."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

from .database import Database
from .errors import DatabaseUnavailable, UnknownRestaurant
from .hub import Hub, Room

DEFAULT_SLUG = "default"
SLUG_SECONDS = 2.0  # a restaurant may be given another slug, and its old one to another restaurant


class Slugs:
    """The rooms by the slugs of their restaurants; None stands for the default one's."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._database = database
        self._hub = hub
        self._finding: dict[str | None, asyncio.Task[Room]] = {}

    def known(self, slug: str | None) -> Room | None:
        """The room of the restaurant with this slug, where that is known without asking the database."""
        room = self._hub.room_of(slug or DEFAULT_SLUG)
        return room if room is not None and time.monotonic() - room.named_at < SLUG_SECONDS else None

    async def room(self, slug: str | None) -> Room:
        """The room of the restaurant with this slug. Raises UnknownRestaurant, DatabaseUnavailable."""
        if slug and "\0" in slug:  # PostgreSQL cannot even be asked for it
            raise UnknownRestaurant(slug)
        if (known := self.known(slug)) is not None:
            return known
        room = self._hub.room_of(slug or DEFAULT_SLUG)
        if room is not None:
            room.named_at = room.idle_since = time.monotonic()  # whoever comes meanwhile need not ask too
            try:
                return await self._find(slug)
            except DatabaseUnavailable:
                return room
            except UnknownRestaurant:
                self._hub.forget_name(room)  # or the next who come would be let in
                raise
        if (asked := self._finding.get(slug)) is not None:
            with suppress(UnknownRestaurant):  # it may have been made since that was asked
                return await asyncio.shield(asked)
        finding = self._finding[slug] = asyncio.create_task(self._find(slug), name="find restaurant")
        finding.add_done_callback(partial(self._found, slug))
        return await asyncio.shield(finding)

    async def _find(self, slug: str | None) -> Room:
        return self._hub.open(*await self._database.find_restaurant(slug))

    def _found(self, slug: str | None, finding: asyncio.Task[Room]) -> None:
        if self._finding.get(slug) is finding:
            del self._finding[slug]
        if not finding.cancelled():
            finding.exception()  # whoever asked may be gone
