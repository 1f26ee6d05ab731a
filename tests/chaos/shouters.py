"""Terminals that give their mutations no id: each is done once, or not at all where its socket or its relay died."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import psycopg

from tests.load import GONE, synced
from tests.terminals import Terminal
from tests.waiting import slow_down, until

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
        """Until told to stop; then it is synced, and reads on."""
        while not self.stopping:
            if self.terminal.connected or await synced(self.terminal):
                self.said += 1
                with contextlib.suppress(*GONE):
                    await self.terminal.say("UPDATE_ORDER", {"action": "clear"})
            await slow_down(PAUSE_SECONDS)
        await until(lambda: synced(self.terminal), within=60.0, what="the shouter to be synced")


def check_shouters(conninfo: str, shouters: Mapping[str, Shouter]) -> int:
    """Nothing was done that was not said, and nothing twice. How much was done."""
    with psycopg.connect(conninfo) as connection:
        done: dict[str, int] = dict(connection.execute(CLEARS).fetchall())
    for slug, shouter in shouters.items():
        assert done.get(slug, 0) <= shouter.said, f"{slug}: {done[slug]} done, {shouter.said} said"
    return sum(done.values())
