"""A little of what `make chaos` does at length: every kind of fault at least once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.run import plan, run
from tests.chaos.world import needs_nginx
from tests.flow import add_tables, make_changes
from tests.relays import local_relay
from tests.terminals import Row, Terminal, agree, follows_the_log

FAULTS_HERE = 12
SEED = int(os.environ.get("CHAOS_SEED") or 1)


@needs_nginx
@pytest.mark.timeout(240)
async def test_whatever_is_killed_nothing_is_lost_doubled_or_out_of_order() -> None:
    report = await run(SEED, FAULTS_HERE)
    print(report)
    assert report.deliveries > report.acknowledged > 0


def test_a_seed_is_a_plan_with_every_kind_of_fault() -> None:
    assert plan(7, 100) == plan(7, 100) != plan(8, 100)
    assert set(plan(7, len(FAULTS))) == set(FAULTS)
    assert len(plan(7, 100)) == 100


Applied = list[tuple[str, int, Row]]


def repeat(applied: Applied) -> None:
    applied.insert(1, applied[1])


def swap(applied: Applied) -> None:
    applied[1], applied[2] = applied[2], applied[1]


def take_a_foreign_row(applied: Applied) -> None:
    epoch, revision, message = applied[1]
    applied[1] = epoch, revision, message | {"data": message["data"] | {"data": {"id": "1", "of": "elsewhere"}}}


def take_anothers_place(applied: Applied) -> None:
    applied[1] = (*applied[1][:2], applied[2][2])


@pytest.mark.parametrize("spoil", [repeat, swap, take_a_foreign_row, take_anothers_place])
async def test_what_is_not_in_the_log_as_it_was_applied_is_found(
    database: str, spoil: Callable[[Applied], None]
) -> None:
    add_tables(database)
    async with local_relay(database) as relay, Terminal(relay.url) as terminal:
        await asyncio.to_thread(make_changes, database, 4)
        await agree(database, terminal)
        assert follows_the_log(database, terminal) == 4
        spoil(terminal.applied)
        with pytest.raises(AssertionError):
            follows_the_log(database, terminal)
