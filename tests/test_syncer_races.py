"""What may happen while a sync is under way: another one, a close, a database that goes away."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from relay.database import Database
from relay.errors import DatabaseUnavailable, UnknownRestaurant
from relay.reader import Reader
from relay.session import State, Sync
from relay.ways import Ways
from tests.fakes import FIRST, Syncing, begin, finish, heard, positioned
from tests.waiting import until

# The head


async def test_entering_reads_no_changes_where_no_doorbell_rang() -> None:
    parts = await positioned(5)
    assert parts.rung == []


async def test_a_doorbell_that_rings_while_the_head_is_read_is_heeded() -> None:
    parts = Syncing(5)
    reader = Reader(cast(Database, parts.database), parts.hub, Ways())
    joining = begin(parts, parts.syncer.join(parts.enter()[0]))
    await until(lambda: parts.database.under_way)
    parts.database.append(6)
    await reader._read_rooms({1: 0.0})
    await finish(parts, joining)
    assert parts.room.head == 5
    assert parts.rung == [1]


# Another sync


async def test_a_terminal_that_asks_while_it_is_resynced_is_answered_once_and_not_moved_back() -> None:
    parts = await positioned(5, window_changes=3)
    session, wire = parts.enter()
    await parts.syncer.join(session)
    wire.stop()
    parts.database.append(20)
    parts.take()
    parts.database.gate.clear()
    wire.go()
    await until(lambda: parts.database.reads["snapshots"] == 1)
    asked = asyncio.create_task(parts.syncer.answer(session, Sync("e1", 18, "mine")))
    await until(asked.done)
    parts.database.append(22)
    parts.take()
    assert heard(wire) == ["changes 18-20", 19, 20, 21, 22]
    parts.database.gate.set()
    await until(lambda: not parts.syncer._tasks)
    assert heard(wire) == ["changes 18-20", 19, 20, 21, 22]
    assert session.cursor == 22


async def test_a_resync_that_is_overtaken_leaves_the_answer_to_the_question() -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    session.state = State.HELD
    parts.database.gate.clear()
    parts.syncer._start(session, FIRST)
    await until(lambda: parts.database.under_way)
    asked = asyncio.create_task(parts.syncer.answer(session, Sync(None, None, "mine")))
    await finish(parts, asked)
    await until(lambda: not parts.syncer._tasks)
    assert heard(wire) == ["snapshot first-sync 5"]
    assert wire.messages[0]["ref"] == "mine"


async def test_a_resync_gives_way_to_a_question_that_is_under_way() -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, Sync(None, None, "mine")))
    await until(lambda: parts.database.under_way)
    parts.syncer._start(session, Sync("e1", 5))
    await until(lambda: not parts.syncer._tasks)
    await finish(parts, asked)
    assert heard(wire) == ["snapshot first-sync 5"]
    assert wire.messages[0]["ref"] == "mine"


async def test_a_resync_that_needs_no_snapshot_is_not_announced() -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    await parts.syncer.join(session)
    parts.hub.position(parts.room, "e1", 5, 0)
    assert not session.ready
    await until(lambda: session.ready)
    parts.database.append(6)
    parts.take()
    assert heard(wire) == [6]


# A terminal that leaves


async def test_a_session_that_closes_while_it_is_synced_stays_closed() -> None:
    parts = await positioned(5)
    for sync in (FIRST, Sync("e1", 2)):
        session, wire = parts.enter()
        asked = begin(parts, parts.syncer.answer(session, sync))
        await until(lambda: parts.database.under_way)
        parts.hub.leave(session)
        parts.syncer.forget(session)
        session.close(1000)
        await finish(parts, asked)
        assert session.state is State.CLOSED
        assert wire.writes == []
        await parts.syncer.answer(session, sync)
        assert session.state is State.CLOSED
    assert parts.syncer._syncs == {}


async def test_a_room_may_be_forgotten_while_its_last_terminal_is_synced() -> None:
    parts = Syncing(5)
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, FIRST))
    await until(lambda: parts.database.under_way)
    parts.hub.leave(session)
    session.close(1000)
    parts.room.idle_since -= 1000
    parts.hub.forget_idle()
    assert parts.hub.rooms == {}
    await finish(parts, asked)
    assert wire.writes == []


# Errors


async def test_a_database_that_is_away_holds_terminals_until_it_is_back() -> None:
    parts = Syncing(5)
    parts.database.error = DatabaseUnavailable("away")
    (asks, asks_wire), (talks, talks_wire) = parts.enter(), parts.enter()
    for deed in (parts.syncer.answer(asks, FIRST), parts.syncer.join(talks)):
        with pytest.raises(DatabaseUnavailable):
            await deed
    assert (asks.state, talks.state) == (State.HELD, State.NEW)
    parts.syncer.pay()
    await until(lambda: not parts.syncer._tasks)
    parts.database.error = None
    parts.syncer.pay()
    await until(lambda: asks.state is talks.state is State.LIVE)
    assert parts.syncer._owed == {}
    parts.database.append(6)
    parts.take()
    assert heard(asks_wire) == ["snapshot first-sync 5", 6]
    assert heard(talks_wire) == [6]


async def test_who_asked_again_meanwhile_is_not_answered_twice() -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    parts.database.error = DatabaseUnavailable("away")
    with pytest.raises(DatabaseUnavailable):
        await parts.syncer.answer(session, Sync("e1", 2))
    parts.database.error = None
    await parts.syncer.answer(session, Sync("e1", 3))
    parts.syncer.pay()
    await until(lambda: not parts.syncer._tasks)
    assert heard(wire) == ["changes 3-5", 4, 5]


async def test_all_who_waited_for_a_read_that_failed_fail_with_it() -> None:
    parts = Syncing(5)
    parts.database.error = DatabaseUnavailable("away")
    made = [parts.enter()[0] for _ in range(100)]
    found = await asyncio.gather(*(parts.syncer.answer(one, FIRST) for one in made), return_exceptions=True)
    assert all(isinstance(one, DatabaseUnavailable) for one in found)
    assert parts.database.reads == {"heads": 1}
    parts.database.error = None
    parts.syncer.pay()
    await until(lambda: all(one.state is State.LIVE for one in made))


async def test_a_gone_terminal_is_owed_nothing() -> None:
    parts = await positioned(5)
    parts.database.error = DatabaseUnavailable("away")
    session, _ = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, FIRST))
    await until(lambda: parts.database.under_way)
    session.close(1000)
    with pytest.raises(DatabaseUnavailable):
        await finish(parts, asked)
    assert parts.syncer._owed == {}
    another, _ = parts.enter()
    with pytest.raises(DatabaseUnavailable):
        await parts.syncer.answer(another, FIRST)
    assert list(parts.syncer._owed) == [another]
    parts.syncer.forget(another)
    assert parts.syncer._owed == {}


@pytest.mark.parametrize(("error", "code"), [(ValueError("a fault"), 1011), (UnknownRestaurant("one"), 1008)])
async def test_no_terminal_is_held_for_ever_by_another_error(
    error: Exception, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    await parts.syncer.join(session)
    parts.database.error = error
    parts.hub.position(parts.room, "e2", 5, 0)
    await until(lambda: not parts.syncer._tasks)
    assert wire.close_code == code
    assert session.state is State.CLOSED
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


async def test_an_ack_that_comes_while_a_snapshot_is_read_is_in_the_next() -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, FIRST))
    await until(lambda: parts.database.under_way)
    parts.database.append(6)
    session.seen = 6
    await finish(parts, asked)
    assert heard(wire) == ["snapshot first-sync 6"]
