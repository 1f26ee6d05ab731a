"""How a SYNC_REQUEST is answered, and how often the database is read for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay import syncer as syncer_module
from relay.errors import DatabaseUnavailable
from relay.reader import READ_ROWS
from relay.session import State, Sync
from relay.syncer import GATHER_SECONDS, MARGIN
from tests.fakes import FIRST, Syncing, heard
from tests.waiting import until


def at(revision: int, epoch: str = "e1") -> Sync:
    return Sync(epoch, revision)


async def answers(parts: Syncing, *syncs: Sync) -> list[list[object]]:
    """What new terminals are sent that ask at the same time."""
    made = [parts.enter() for _ in syncs]
    await asyncio.gather(*(parts.syncer.answer(session, sync) for (session, _), sync in zip(made, syncs, strict=True)))
    await until(lambda: not parts.room.behind)
    assert all(session.state is State.LIVE for session, _ in made)
    return [heard(wire) for _, wire in made]


# The answers


async def test_a_first_sync_is_a_snapshot() -> None:
    parts = Syncing(head=5)
    assert await answers(parts, FIRST) == [["snapshot first-sync 5"]]


async def test_another_epoch_is_a_snapshot() -> None:
    parts = Syncing(head=5)
    assert await answers(parts, at(5, "e0"), at(9, "")) == [["snapshot epoch-changed 5"]] * 2


async def test_the_newest_cursor_needs_nothing() -> None:
    parts = Syncing(head=5)
    assert await answers(parts, at(5)) == [["changes 5-5"]]
    assert parts.database.reads == {"heads": 1}


async def test_changes_in_the_window_are_not_read() -> None:
    parts = Syncing(head=5)
    await answers(parts, at(5))
    parts.database.append(9)
    parts.take()
    assert await answers(parts, at(5), at(7)) == [["changes 5-9", 6, 7, 8, 9], ["changes 7-9", 8, 9]]
    assert parts.database.reads == {"heads": 1}


async def test_changes_before_the_window_are_read_from_the_log() -> None:
    parts = Syncing(head=9)
    assert await answers(parts, at(6)) == [["changes 6-9", 7, 8, 9]]


async def test_a_cursor_too_far_back_is_a_snapshot() -> None:
    parts = Syncing(head=50, window_changes=10)
    assert await answers(parts, at(39), at(40)) == [["snapshot too-old 50"], ["changes 40-50", *range(41, 51)]]


async def test_a_cursor_that_the_log_has_let_go_is_a_snapshot() -> None:
    parts = Syncing(head=50)
    parts.database.prune(20)
    assert await answers(parts, at(19), at(20)) == [["snapshot too-old 50"], ["changes 20-50", *range(21, 51)]]


async def test_a_hole_in_the_log_is_never_skipped() -> None:
    parts = Syncing(head=50)
    del parts.database.log[30]
    assert await answers(parts, at(10), at(29), at(30)) == [
        ["snapshot too-old 50"],
        ["snapshot too-old 50"],
        ["changes 30-50", *range(31, 51)],
    ]


async def test_changes_that_do_not_fit_into_the_window_are_a_snapshot() -> None:
    parts = Syncing(head=100, size=1000, window_bytes=20_000)
    assert await answers(parts, at(10), at(95)) == [["snapshot too-old 100"], ["changes 95-100", *range(96, 101)]]
    assert parts.room.window is not None
    assert parts.room.window.spare >= 0


async def test_changes_fit_into_the_window_whatever_was_read_with_them() -> None:
    parts = Syncing(head=3000, size=1000, window_bytes=800_000)
    assert await answers(parts, at(2400)) == [["changes 2400-3000", *range(2401, 3001)]]


async def test_large_changes_before_a_cursor_are_not_read_on() -> None:
    parts = Syncing(head=1000, size=30_000, window_bytes=1 << 24)
    assert await answers(parts, at(990)) == [["changes 990-1000", *range(991, 1001)]]
    assert parts.database.reads["changes"] == 2


async def test_a_log_that_holds_nothing_leads_to_a_snapshot() -> None:
    parts = Syncing(head=50)
    parts.database.prune(50)
    assert await answers(parts, at(20), at(49)) == [["snapshot too-old 50"]] * 2


async def test_a_cursor_of_a_future_that_was_lost_is_a_snapshot() -> None:
    parts = Syncing(head=5)
    session, wire = parts.enter()
    session.seen = 8
    await parts.syncer.answer(session, at(8))
    assert heard(wire) == ["snapshot ahead 5"]
    assert session.seen == 5


async def test_a_terminal_ahead_of_the_room_is_sent_nothing_twice() -> None:
    parts = Syncing(head=5)
    await answers(parts, at(5))
    parts.database.append(8)  # which another instance has shown it already
    parts.rung.clear()
    session, wire = parts.enter()
    await parts.syncer.answer(session, at(7))
    assert parts.rung == [1]
    parts.take()
    assert heard(wire) == ["changes 7-7", 8]


async def test_a_reference_comes_back() -> None:
    parts = Syncing(head=5)
    for sync in (Sync(None, None, "r1"), Sync("e1", 5, "r2")):
        session, wire = parts.enter()
        await parts.syncer.answer(session, sync)
        assert wire.messages[0]["ref"] == sync.ref


async def test_a_terminal_that_only_talks_goes_live_at_the_head() -> None:
    parts = Syncing(head=5)
    session, wire = parts.enter()
    await parts.syncer.join(session)
    wire.stop()
    parts.database.append(7)
    parts.take()
    await parts.syncer.join(session)
    wire.go()
    assert heard(wire) == [6, 7]


# Nobody is moved back


async def test_a_snapshot_holds_what_its_terminal_knows_of() -> None:
    parts = Syncing(head=5)
    session, wire = parts.enter()
    await parts.syncer.answer(session, FIRST)
    parts.database.append(6)
    session.seen = 6  # an ACK, before the change itself came
    await parts.syncer.answer(session, FIRST)
    assert heard(wire) == ["snapshot first-sync 5", "snapshot first-sync 6"]


async def test_a_snapshot_read_since_a_terminal_came_serves_it_with_the_changes_since() -> None:
    parts = Syncing(head=5)
    session, wire = parts.enter()
    await answers(parts, FIRST)
    parts.database.append(7)
    parts.take()
    await parts.syncer.answer(session, FIRST)
    assert heard(wire) == ["snapshot first-sync 5", 6, 7]
    assert parts.database.reads["snapshots"] == 1


@pytest.mark.parametrize("shown", [True, False])
async def test_what_a_terminal_may_have_seen_on_its_last_socket_is_in_the_snapshot(shown: bool) -> None:
    parts = Syncing(head=5)
    await answers(parts, FIRST)
    parts.database.append(6)
    if shown:
        parts.take()
    else:
        parts.room.acknowledged = 6
    assert await answers(parts, FIRST) == [["snapshot first-sync 6"]]


async def test_a_snapshot_of_any_age_serves_who_holds_less() -> None:
    parts = Syncing(head=50, window_changes=10)
    await answers(parts, FIRST)
    parts.database.append(52)
    parts.take()
    assert await answers(parts, at(9), at(60, "e0")) == [
        ["snapshot too-old 50", 51, 52],
        ["snapshot epoch-changed 50", 51, 52],
    ]
    assert parts.database.reads["snapshots"] == 1


async def test_snapshots_are_read_no_faster_than_terminals_gather() -> None:
    parts = Syncing(head=5)
    began = time.monotonic()
    await answers(parts, FIRST)
    asking = []
    for head in range(6, 12):
        parts.database.append(head)
        parts.take()
        asking += [asyncio.create_task(answers(parts, FIRST)) for _ in range(10)]
        await until(lambda: parts.room.reading.locked())
    await asyncio.gather(*asking)
    assert 2 <= parts.database.reads["snapshots"] <= 2 + (time.monotonic() - began) // GATHER_SECONDS


async def test_a_snapshot_that_the_window_does_not_reach_back_to_is_read_again() -> None:
    parts = Syncing(head=5, window_changes=3)
    await answers(parts, FIRST)
    parts.database.append(9)
    parts.take()
    assert await answers(parts, FIRST) == [["snapshot first-sync 9"]]


# However many ask, a restaurant is read once


async def test_a_thousand_first_syncs_at_once_are_one_read() -> None:
    parts = Syncing(head=5)
    assert await answers(parts, *[FIRST] * 1000) == [["snapshot first-sync 5"]] * 1000
    assert parts.database.reads == {"heads": 1, "snapshots": 1}


async def test_a_thousand_cursors_at_once_are_one_read() -> None:
    parts = Syncing(head=1000)
    cursors = range(999, -1, -1)
    found = await answers(parts, *map(at, cursors))
    assert found == [[f"changes {cursor}-1000", *range(cursor + 1, 1001)] for cursor in cursors]
    assert parts.database.reads == {"heads": 1, "changes": 1}


async def test_who_comes_a_little_later_from_a_little_further_back_needs_no_read() -> None:
    parts = Syncing(head=2000)
    await answers(parts, at(1990))
    await answers(parts, at(1990 - MARGIN), at(1991))
    assert parts.database.reads["changes"] == 1
    await answers(parts, at(1989 - MARGIN))
    assert parts.database.reads["changes"] == 2


async def test_cursors_out_of_reach_are_found_out_once() -> None:
    pruned, full = Syncing(head=3000, window_changes=5000), Syncing(head=3000, size=1000, window_bytes=100_000)
    pruned.database.prune(2900)
    for parts in (pruned, full):
        for _ in range(2):
            found = await answers(parts, at(2950), *(at(cursor) for cursor in range(1000, 2000, 10)))
            assert found[0] == ["changes 2950-3000", *range(2951, 3001)]
            assert found[1:] == [["snapshot too-old 3000"]] * 100
        assert parts.database.reads["snapshots"] == 1
        assert parts.database.reads["changes"] <= 4


async def test_a_long_way_back_is_read_in_pages() -> None:
    parts = Syncing(head=5 * READ_ROWS)
    assert await answers(parts, at(0)) == [[f"changes 0-{5 * READ_ROWS}", *range(1, 5 * READ_ROWS + 1)]]
    assert parts.database.reads["changes"] == 5


async def test_a_thousand_terminals_from_another_instance_are_two_looks() -> None:
    parts = Syncing(head=5)
    await answers(parts, at(5))
    parts.database.append(9)
    assert await answers(parts, *[at(9)] * 1000) == [["changes 9-9"]] * 1000
    assert parts.database.reads["heads"] <= 3
    parts.database.append(12)
    assert await answers(parts, at(12)) == [["changes 12-12"]], "an old look says nothing"


async def test_many_restaurants_leave_connections_to_the_listener() -> None:
    parts = Syncing(head=5, pool=4)
    rooms = [parts.hub.open(number, str(number)) for number in range(1, 50)]
    made = [parts.enter(room) for room in rooms]
    await asyncio.gather(*(parts.syncer.answer(session, FIRST) for session, _ in made))
    assert parts.database.most_under_way == 2
    assert parts.database.reads["snapshots"] == 49


async def test_to_wait_among_many_restaurants_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncer_module, "TURN_SECONDS", 0.05)
    parts = Syncing(head=5, pool=1)
    first, second = parts.enter(), parts.enter(parts.hub.open(2, "two"))
    parts.database.gate.clear()
    waiting = asyncio.create_task(parts.syncer.answer(first[0], FIRST))
    await until(lambda: parts.database.under_way)
    with pytest.raises(DatabaseUnavailable):
        await parts.syncer.answer(second[0], FIRST)
    parts.database.gate.set()
    await waiting
    assert heard(first[1]) == ["snapshot first-sync 5"]
    parts.syncer.pay()
    await until(lambda: heard(second[1]) == ["snapshot first-sync 5"])
