"""Whatever happens in a restaurant, relays and database do what PROTOCOL.md says.

MODEL_MUTATIONS says how many mutations (`unlimited`: until something fails), MODEL_MINUTES how long at most, MODEL_SEED
where to begin. Each restaurant has its history from a seed of its own; a failure names it, and MODEL_SEED with it
begins there.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from tests.model.comparing import Differs
from tests.model.playing import Play
from tests.model.shrinking import shrunk
from tests.model.steps import RELAYS, Event, history
from tests.relays import RelayProcess

WANTED = os.environ.get("MODEL_MUTATIONS") or "300"
MUTATIONS = math.inf if WANTED == "unlimited" else int(WANTED)
SECONDS = 60 * float(os.environ.get("MODEL_MINUTES") or math.inf)
SEED = int(os.environ.get("MODEL_SEED") or random.randrange(1_000_000))
EVENTS = 25  # of one restaurant
AT_ONCE = 3  # restaurants, so that their mutations meet in one batch
SHRINK_SECONDS = 90.0
TELL_EVERY = 1000  # mutations
ENOUGH = 5000  # mutations in which all of these are met
RULES = {
    "ACK", "CONFLICT id", "CONFLICT ifVersion", "CONFLICT items", "CONFLICT number", "CONFLICT orderId",
    "CONFLICT status", "GONE id", "ORDER_ID_TAKEN id", "UNKNOWN_ACTION data.action", "UNKNOWN_TYPE type",
    "VALIDATION id", "VALIDATION ifVersion", "VALIDATION number", "order ids replaced", "guests moved",
}  # fmt: skip


@dataclass
class World:
    """Relays on one database, a DBA's connection to it, and what was done there."""

    relays: list[RelayProcess]
    sql: psycopg.Connection[Any]
    runner: asyncio.Runner
    restaurants: int = 0
    mutations: int = 0
    met: Counter[str] = field(default_factory=Counter)

    def play(self, *histories: list[Event]) -> list[Differs | None]:
        """Let each history happen in a new restaurant, all at the same time; what went wrong in each."""
        return self.runner.run(self._play(histories))

    async def _play(self, histories: Sequence[list[Event]]) -> list[Differs | None]:
        return await asyncio.gather(*map(self._play_one, histories))

    async def _play_one(self, events: list[Event]) -> Differs | None:
        self.restaurants += 1
        play = Play(self.sql, [relay.url for relay in self.relays], f"r{self.restaurants}")
        try:
            await play.play(events)
        except Differs as differs:
            return differs
        finally:
            self.mutations += play.mutations
            self.met += play.met
        return None


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with ExitStack() as stack:
        sql = stack.enter_context(psycopg.connect(database, autocommit=True))
        runner = stack.enter_context(asyncio.Runner())
        relays = [RelayProcess(database) for _ in range(RELAYS)]
        for relay in relays:
            stack.callback(relay.close)
            stack.callback(_stop, runner, relay)
            runner.run(relay.start())
        yield World(relays, sql, runner)


def _stop(runner: asyncio.Runner, relay: RelayProcess) -> None:
    runner.run(relay.stop())


@pytest.mark.timeout(0 if MUTATIONS > 1000 else 120 + SHRINK_SECONDS)
def test_relays_and_sql_do_what_the_model_says(world: World) -> None:
    number, told, began = SEED, 0, time.monotonic()
    print(f"\nMODEL_SEED={SEED}, {WANTED} mutations")
    while world.mutations < MUTATIONS and time.monotonic() < began + SECONDS:
        seeds = range(number, number + AT_ONCE)
        histories = [history(random.Random(seed), EVENTS) for seed in seeds]
        for seed, events, differs in zip(seeds, histories, world.play(*histories), strict=True):
            if differs is not None:
                pytest.fail(explained(world, seed, events, differs), pytrace=False)
        number += AT_ONCE
        if world.mutations >= told + TELL_EVERY:
            told = world.mutations
            print(f"{told} mutations, {time.monotonic() - began:.0f} s; next MODEL_SEED={number}", flush=True)
    print(f"{world.mutations} mutations in {world.restaurants} restaurants agree, {time.monotonic() - began:.0f} s")
    print(", ".join(f"{count} {what}" for what, count in world.met.most_common()))
    assert world.mutations < ENOUGH or world.met.keys() >= RULES, f"never met: {RULES - world.met.keys()}"


def explained(world: World, number: int, events: list[Event], first: Differs) -> str:
    """The story of a failure, as short as it can be made."""
    where = f"MODEL_SEED={number}, after {world.mutations} mutations."
    short = shrunk(events, lambda attempt: world.play(attempt) != [None], SHRINK_SECONDS)
    [again] = world.play(short)
    if again is None:
        return f"{where} It does not fail every time, or not alone:\n{first}"
    return f"{where} The shortest history that fails:\n{again}"
