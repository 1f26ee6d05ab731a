"""The ways of recent changes: what is kept, for how long, and whose times belong together."""

from __future__ import annotations

import time

import pytest

from relay.answers import Answer
from relay.logrows import ChangeRow
from relay.protocol import Mutation
from relay.ways import RESTAURANTS, SECONDS, WAYS, Reading, Ways


def rows(first: int, last: int, *, given: float = 99.0) -> list[ChangeRow]:
    milliseconds = round(given * 1000)
    return [
        ChangeRow(n, "UPDATE_TABLE", "update", f"t{n}", "{}", "till", milliseconds + n) for n in range(first, last + 1)
    ]


def commit(ways: Ways, begun: float, revision: int, client_id: str = "till", type_: str = "UPDATE_TABLE") -> None:
    """A mutation that is answered now, and was received a tenth of a second before `begun`, as in time.time()."""
    mutation = Mutation(1, client_id, None, type_, "update", "{}", None)
    answer = Answer("OK", None, None, revision, 1, None)
    monotonic = begun - time.time() + time.monotonic()
    ways.commit(monotonic, time.time(), [mutation], [answer], [monotonic - 0.1])


def take(ways: Ways, first: int, last: int, *, written: float = 100.0, restaurant_id: int = 1) -> None:
    ways.take(restaurant_id, f"r{restaurant_id}", rows(first, last), Reading(97.0, 98.0, written, 3))


def test_the_changes_of_one_read_share_its_times_and_each_has_its_own() -> None:
    ways = Ways()
    take(ways, 1, 2)
    first, second = ways.trails[1].ways
    assert first.reading is second.reading
    assert (second.revision, second.row_id, second.client_id, second.given) == (2, "t2", "till", 99.002)


def test_a_burst_leaves_its_newest_changes_and_counts_them_all() -> None:
    ways = Ways()
    take(ways, 1, 10 * WAYS)
    assert [way.revision for way in ways.trails[1].ways] == list(range(9 * WAYS + 1, 10 * WAYS + 1))
    assert ways.trails[1].seconds[0].changes == 10 * WAYS


def test_nothing_grows_however_many_changes_and_restaurants_there_are() -> None:
    ways = Ways()
    for restaurant_id in range(1, RESTAURANTS + 20):
        take(ways, 1, 1, restaurant_id=restaurant_id)
    assert list(ways.trails) == list(range(20, RESTAURANTS + 20))
    for n in range(2, 3 * SECONDS):
        take(ways, n, n, written=100.0 + n, restaurant_id=RESTAURANTS)
        commit(ways, time.time(), 1000 + n)
    trail = ways.trails[RESTAURANTS]
    assert (len(trail.ways), len(trail.seconds), len(ways.trails[1].sent)) == (WAYS, SECONDS, WAYS)
    assert len(ways.trails) == RESTAURANTS


def test_seconds_hold_the_sum_and_the_slowest_of_what_was_written_in_each() -> None:
    ways = Ways()
    for first, last, given, written in (
        (1, 2, 100.0, 100.5),
        (3, 3, 100.7, 100.9),
        (4, 4, 100.9, 101.0),
        (5, 5, 200.0, 101.5),
    ):
        ways.take(1, "r1", rows(first, last, given=given), Reading(97.0, 98.0, written, 3))
    first_second, second = ways.trails[1].seconds
    assert (first_second.second, first_second.changes) == (100, 3)
    assert first_second.seconds == pytest.approx(0.499 + 0.498 + 0.197)
    assert first_second.slowest == pytest.approx(0.499)
    assert (second.second, second.changes) == (101, 2)
    assert second.slowest == second.seconds == pytest.approx(0.096), "one from a clock ahead counts as at once"


def test_a_mutation_that_changes_nothing_does_not_pass_for_the_change_whose_revision_it_is_answered_with() -> None:
    ways = Ways()
    take(ways, 1, 5, written=100.0)
    commit(ways, 100.5, 5, "another")  # begun when revision 5 had been written
    commit(ways, 100.5, 6)
    assert list(ways.trails[1].sent) == [6]


def test_an_answer_that_comes_after_the_change_still_says_when_it_was_received() -> None:
    ways = Ways()
    take(ways, 1, 5, written=100.0)
    commit(ways, 99.0, 4)
    sent = ways.trails[1].sent[4]
    assert sent.client_id == "till"
    assert sent.begun == pytest.approx(99.0, abs=1)
    assert sent.begun - sent.received == pytest.approx(0.1)
    assert sent.committed == pytest.approx(time.time(), abs=60)


def test_the_first_answer_with_a_revision_is_the_one_that_made_it() -> None:
    ways = Ways()
    commit(ways, 99.0, 1)
    commit(ways, 99.0, 1, "another")
    assert ways.trails[1].sent[1].client_id == "till"


def test_another_history_forgets_the_one_before() -> None:
    ways = Ways()
    commit(ways, 99.0, 5)
    take(ways, 1, 5, written=100.0)
    take(ways, 3, 3, written=102.0)
    trail = ways.trails[1]
    assert [way.revision for way in trail.ways] == [3]
    assert 5 not in trail.sent


def test_what_has_no_revision_of_its_own_leaves_no_trail() -> None:
    ways = Ways()
    for type_ in ("MESSAGE", "NEXT_ORDER_ID", "UPDATE_USERS"):
        commit(ways, 99.0, 7, type_=type_)
    assert ways.trails == {}
