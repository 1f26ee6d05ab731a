"""The rooms of restaurants by their slugs, while the database is away."""

from __future__ import annotations

import time
from typing import cast

from relay.database import Database
from relay.errors import DatabaseUnavailable
from relay.hub import IDLE_SECONDS, Hub
from relay.slugs import SLUG_SECONDS, Slugs


class Away:
    """A database that cannot be reached, and takes until the rooms were looked at to say so."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def find_restaurant(self, slug: str | None) -> tuple[int, str]:  # noqa: ARG002
        self._hub.forget_idle()
        raise DatabaseUnavailable("away")


async def test_a_room_that_is_given_to_somebody_is_not_forgotten_meanwhile() -> None:
    hub = Hub(10, 1000)
    slugs = Slugs(cast("Database", Away(hub)), hub)
    room = hub.open(1, "default")
    room.idle_since = time.monotonic() - 2 * IDLE_SECONDS
    room.named_at = time.monotonic() - 2 * SLUG_SECONDS
    assert await slugs.room(None) is hub.rooms[1]
