"""Terminals that give their mutations no id: each is done once, or not at all where its socket or its relay died."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import psycopg

from tests.load import CONNECT_SECONDS, GONE
from tests.terminals import Terminal
from tests.waiting import slow_down

PAUSE_SECONDS = 2.0
CLEARS = """
    select r.slug, count(*) from pos.sync_log as l join pos.restaurants as r using (restaurant_id)
    where l.client_id = 'shouter' and l.action = 'clear' group by r.slug
"""


class Shouter:
    """Clears the orders again and again, which would show if it were done twice, and never asks what came of it."""

    def __init__(self, url: str, slug: str) -> None:
        self.terminal = Terminal(f"{url}?restaurant={slug}", "shouter")
        self.said = 0
        self.stopping = False

    async def run(self) -> None:
        """Until told to stop; then it is connected, and reads on."""
        connected = False
        while not (self.stopping and connected):
            with contextlib.suppress(*GONE):
                if not connected:
                    await self.terminal.cut()
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await self.terminal.connect()
                self.said += 1
                await self.terminal.say("UPDATE_ORDER", {"action": "clear"})
                connected = True
            connected = connected and self.terminal.close_code is None
            await slow_down(PAUSE_SECONDS)


def check_shouters(conninfo: str, shouters: Mapping[str, Shouter]) -> int:
    """Nothing was done that was not said, and nothing twice. How much was done."""
    with psycopg.connect(conninfo) as connection:
        done: dict[str, int] = dict(connection.execute(CLEARS).fetchall())
    for slug, shouter in shouters.items():
        assert done.get(slug, 0) <= shouter.said, f"{slug}: {done[slug]} done, {shouter.said} said"
    return sum(done.values())
