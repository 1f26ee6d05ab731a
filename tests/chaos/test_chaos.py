"""A little of what `make chaos` does at length: every kind of fault once; and that its checkers see what they must."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from itertools import chain

import pytest

from tests.chaos.columns import CHECK, DEEP, WEIGHTS
from tests.chaos.history import History
from tests.chaos.plans import column, plan
from tests.chaos.run import run
from tests.flow import ROWS, add_tables, make_changes
from tests.nginx import needs_nginx
from tests.relays import local_relay
from tests.terminals import Row, Terminal, agree, follows_the_log, terminals

SEED = int(os.environ.get("CHAOS_SEED") or 1)
LONGEST_SECONDS = 4.0  # that anything is frozen or cut off here


@needs_nginx
@pytest.mark.timeout(600)
async def test_whatever_is_broken_nothing_is_lost_doubled_or_out_of_order() -> None:
    report = await run(SEED, plan(SEED, len(WEIGHTS)), LONGEST_SECONDS)
    print(report)
    assert report.deliveries > report.acknowledged > report.transactions > 0


def test_a_seed_is_a_plan_with_every_kind_of_fault() -> None:
    assert plan(7, 100) == plan(7, 100) != plan(8, 100)
    assert set(chain(*plan(7, len(WEIGHTS)))) == set(WEIGHTS) == set(CHECK) == set(DEEP)
    assert len(plan(7, 100)) == 100
    assert column(7, CHECK) == column(7, CHECK) != column(8, CHECK)


@pytest.mark.parametrize("together", [False, True])
def test_a_column_has_each_kind_of_fault_as_often_as_it_says(together: bool) -> None:
    steps = column(7, DEEP, together=together)
    assert Counter(chain(*steps)) == DEEP
    assert max(map(len, steps)) == 1 + together


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


def take_anothers_data(applied: Applied, place: int) -> None:
    applied[place] = (*applied[place][:2], applied[0][2])


@pytest.mark.parametrize("spoil", [repeat, swap, take_a_foreign_row, take_anothers_place])
async def test_what_is_not_in_the_log_as_it_was_applied_is_found(
    database: str, spoil: Callable[[Applied], None]
) -> None:
    add_tables(database)
    async with local_relay(database) as relay, Terminal(relay.url) as terminal:
        await asyncio.to_thread(make_changes, database, 4)
        await agree(database, terminal)
        history = History()
        assert history.follows(database, "default", [terminal]) == follows_the_log(database, terminal) == 4
        spoil(terminal.applied)
        with pytest.raises(AssertionError):
            history.follows(database, "default", [terminal])
        with pytest.raises(AssertionError):
            follows_the_log(database, terminal)


async def test_of_a_history_that_is_over_all_terminals_must_have_seen_the_same(database: str) -> None:
    add_tables(database)
    async with local_relay(database) as relay, terminals(relay.url, 2) as (one, other):
        await asyncio.to_thread(make_changes, database, 4)
        await agree(database, one, other)
        assert one.epoch
        # As if a standby had taken over that had missed the last two of these four.
        history = History({one.epoch: {"default": ROWS + 2}})
        assert history.follows(database, "default", [one, other]) == 8
        for terminal in (one, other):
            take_anothers_data(terminal.applied, 3)
        assert history.follows(database, "default", [one, other]) == 8
        take_anothers_data(one.applied, 2)
        with pytest.raises(AssertionError, match=r"terminal-1.*23"):
            history.follows(database, "default", [one, other])


async def test_nobody_may_go_back_to_a_history_that_is_over(database: str) -> None:
    add_tables(database)
    async with local_relay(database) as relay, Terminal(relay.url) as terminal:
        await asyncio.to_thread(make_changes, database, 3)
        await agree(database, terminal)
        terminal.applied[1] = ("another", *terminal.applied[1][1:])
        with pytest.raises(AssertionError, match="went back"):
            History().follows(database, "default", [terminal])
