"""Whatever happens in a restaurant, relays and database do what PROTOCOL.md says."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from tests.model.playing import Play
from tests.model.steps import RELAYS, Event, histories
from tests.relays import RelayProcess

MUTATIONS = float(os.environ.get("MODEL_MUTATIONS", "300"))
SEED = int(os.environ.get("MODEL_SEED") or random.randrange(1_000_000))
EVENTS_OF_A_PLAY = 25
PHASES = [Phase.generate] if os.environ.get("MODEL_SHRINK") == "no" else [Phase.generate, Phase.shrink]
PLAYS = 10  # of one seed; then comes the next one


@dataclass
class World:
    conninfo: str
    relays: list[RelayProcess]
    sql: psycopg.Connection[tuple[object, ...]]
    runner: asyncio.Runner
    plays: int = 0
    mutations: int = 0


@pytest.fixture
def world(database: str) -> Iterator[World]:
    relays = [RelayProcess(database) for _ in range(RELAYS)]
    with asyncio.Runner() as runner, psycopg.connect(database, autocommit=True) as sql:
        try:
            for relay in relays:
                runner.run(relay.start())
            yield World(database, relays, sql, runner)
        finally:
            for relay in relays:
                runner.run(relay.stop())
                relay.close()


@pytest.mark.timeout(0)
def test_relays_and_sql_do_what_the_model_says(world: World) -> None:
    print(f"\nMODEL_SEED={SEED}")
    number = SEED
    while world.mutations < MUTATIONS:
        play_seed(world, number)
        number += 1
    print(f"{world.mutations} mutations in {world.plays} restaurants agree")


def play_seed(world: World, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=PLAYS, deadline=None, database=None, print_blob=False, phases=PHASES,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, verbosity=Verbosity.quiet,
    )  # fmt: skip
    @given(history=histories(EVENTS_OF_A_PLAY))
    def plays(history: list[Event]) -> None:
        world.plays += 1
        play = Play(world.conninfo, world.sql, [relay.url for relay in world.relays], f"r{world.plays}")
        try:
            world.runner.run(play.play(history))
        finally:
            world.mutations += play.mutations

    plays()
