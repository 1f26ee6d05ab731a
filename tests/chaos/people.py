"""People at psql: they change dishes meanwhile, and commit or think better of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg

from tests.waiting import slow_down

DISHES = 4  # of each person in each restaurant
ROLLED_BACK = 0.1  # of all transactions
OPEN_SECONDS = 0.05  # at most, before the end of a transaction
PAUSE_SECONDS = 1.0  # at most, between two
WRITE = """
    insert into pos.menu_items as m (restaurant_id, id, name, price, category, description, extra)
    select r.restaurant_id, %(id)s, %(id)s, 1, 'psql', '', jsonb_build_object('token', %(token)s::text)
    from pos.restaurants as r where r.slug = %(slug)s
    on conflict (restaurant_id, id) do update set extra = excluded.extra
"""
TOKENS = "select data ->> 'token' from pos.sync_log where data ? 'token'"


class Person:
    """One of them, who knows of every transaction how it ended. `conninfo` says where the database is now."""

    def __init__(self, name: str, conninfo: Callable[[], str], slugs: list[str], seed: int) -> None:
        self._name = name
        self._conninfo = conninfo
        self._slugs = slugs
        self._dice = random.Random(f"{seed} {name}")
        self._number = 0
        self.committed: dict[str, int] = {}  # each token with the number of its changes
        self.rolled_back: set[str] = set()
        self.lost: set[str] = set()  # committed, and in no history any more
        self.pause = PAUSE_SECONDS
        self.stopping = False

    async def run(self) -> None:
        """Change things until told to stop, through any number of connections."""
        while not self.stopping:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo(), connect_timeout=3) as connection:
                    while not self.stopping:
                        await self._transaction(connection)
                        await slow_down(self._dice.uniform(0, self.pause))
            except psycopg.Error:  # whatever was under way ended in a way that nobody knows
                await slow_down(0.2)

    async def _transaction(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._number += 1
        token, slug = f"{self._name}-{self._number}", self._dice.choice(self._slugs)
        dishes = self._dice.sample(range(DISHES), self._dice.randint(1, 3))
        for dish in dishes:
            await connection.execute(WRITE, {"id": f"{self._name}-{dish}", "token": token, "slug": slug})
        await slow_down(self._dice.uniform(0, OPEN_SECONDS))
        if self._dice.random() < ROLLED_BACK:
            self.rolled_back.add(token)
            await connection.rollback()
        else:
            await connection.commit()
            self.committed[token] = len(dishes)


def tokens(conninfo: str) -> Counter[str]:
    """How many changes the log holds of each transaction."""
    with psycopg.connect(conninfo) as connection:
        return Counter(token for (token,) in connection.execute(TOKENS))


async def check_people(conninfo: str, people: list[Person]) -> int:
    """What was committed is in the log, whole and once; what was rolled back is nowhere. How many that were."""
    found = await asyncio.to_thread(tokens, conninfo)
    for person in people:
        for token, changes in person.committed.items():
            assert found[token] == (0 if token in person.lost else changes), (token, changes, found[token])
        assert not person.rolled_back & found.keys()
    return sum(len(person.committed) for person in people)
