"""A restaurant where next to nothing happens: what is missed there is not made good by the next change."""

from __future__ import annotations

import asyncio
from functools import partial

import psycopg

from tests.chaos.world import QUIET, Place
from tests.load import synced
from tests.terminals import Terminal, agree, state_in_database
from tests.waiting import until

LATE_SECONDS = 10.0  # by which a change may be late, after every relay is ready: the sweep comes once a second
DESCRIBE = """
    insert into pos.menu_items as m (restaurant_id, id, name, price, category, description)
    select r.restaurant_id, 'board', 'board', 1, 'psql', %(said)s from pos.restaurants as r where r.slug = %(slug)s
    on conflict (restaurant_id, id) do update set price = m.price + 1, description = excluded.description
"""


def describe(conninfo: str, said: str) -> None:
    """Change the one dish that changes."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(DESCRIBE, {"said": said, "slug": QUIET})


class Quiet:
    """A terminal at each relay that does nothing but look."""

    def __init__(self, world: Place) -> None:
        self._world = world
        self._terminals = [
            Terminal(f"{relay.url}?restaurant={QUIET}", f"watcher-{number}")
            for number, relay in enumerate(world.relays)
        ]

    async def change(self) -> None:
        """Change something, while the relays may still be deaf."""
        await asyncio.to_thread(describe, self._world.conninfo, "")

    async def is_shown(self, within: float = LATE_SECONDS, *, by_all: bool = True) -> None:
        """Wait until every terminal shows that; who loses its relay meanwhile comes back.

        Without `by_all`, those that have no relay now are not waited for.
        """
        asked = [one for one in self._terminals if by_all or one.close_code is None]
        revision, _ = await asyncio.to_thread(state_in_database, self._world.conninfo, QUIET)
        await asyncio.gather(
            *(until(partial(_holds, one, revision), within, f"revision {revision} at {one.url}") for one in asked)
        )
        await agree(self._world.conninfo, *asked, slug=QUIET)

    async def close(self) -> None:
        for one in self._terminals:
            await one.cut()


async def _holds(one: Terminal, revision: int) -> bool:
    if not one.connected:
        await synced(one)
    return one.revision >= revision
