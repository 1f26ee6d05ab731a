"""What may happen while a sync is under way: another one, a close, a new history, a database that goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from relay.database import Database
from relay.errors import DatabaseUnavailable, UnknownRestaurant
from relay.frames import Frames
from relay.hub import Room
from relay.reader import Reader
from relay.session import State, Sync
from relay.snapshots import Snapshot
from relay.ways import Ways
from tests.fakes import Syncing, heard
from tests.waiting import until

FIRST = Sync(None, None)


class App:
    """A profile that passes on what it is given."""

    async def prepare(self) -> None:
        pass

    def snapshot(self, snapshot: Snapshot, _: Sync) -> Frames:
        return snapshot.frames("app", None)


def begin(parts: Syncing, deed: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start what then waits for the database."""
    parts.database.gate.clear()
    return asyncio.create_task(deed)


async def finish(parts: Syncing, *tasks: asyncio.Task[None]) -> None:
    parts.database.gate.set()
    await asyncio.gather(*tasks)


async def positioned(head: int, **settings: Any) -> Syncing:
    parts = Syncing(head, **settings)
    await parts.syncer.join(parts.enter()[0])
    return parts


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


# Another history


async def test_a_snapshot_of_the_history_before_is_read_again() -> None:
    parts = await positioned(5)
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, FIRST))
    await until(lambda: parts.database.under_way)
    parts.database.epoch = "e2"
    parts.hub.position(parts.room, "e2", 5, 0)  # the listener saw it first
    await finish(parts, asked)
    assert parts.room.epoch == "e2"
    assert parts.database.reads["snapshots"] == 2
    assert (heard(wire), wire.messages[0]["data"]["epoch"]) == (["snapshot first-sync 5"], "e2")


@pytest.mark.parametrize("head", [7, 70])
async def test_a_snapshot_of_a_new_history_begins_it_for_all(head: int) -> None:
    parts = await positioned(50)
    (other, other_wire), (session, wire) = parts.enter(), parts.enter()
    await parts.syncer.join(other)
    other.seen = 50
    parts.database.epoch, parts.database.head = "e2", head
    parts.rung.clear()
    await parts.syncer.answer(session, Sync("e1", 60, "mine"))
    await until(lambda: other.state is State.LIVE)
    assert heard(wire) == heard(other_wire) == [f"snapshot epoch-changed {head}"]
    assert parts.room.epoch == session.epoch == other.epoch == "e2"
    assert parts.rung == [1]
    assert parts.database.reads["snapshots"] == 1
    assert other.seen == head


async def test_changes_of_another_history_are_not_sent() -> None:
    parts = await positioned(50)
    session, wire = parts.enter()
    parts.database.epoch = "e2"
    await parts.syncer.answer(session, Sync("e1", 45))
    assert heard(wire) == ["snapshot epoch-changed 50"]


async def test_changes_that_were_read_when_a_new_history_began_are_not_sent() -> None:
    parts = await positioned(50)
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, Sync("e1", 45)))
    await until(lambda: parts.database.under_way)
    parts.database.epoch = "e2"
    parts.hub.position(parts.room, "e2", 50, 0)
    await finish(parts, asked)
    assert heard(wire) == ["snapshot epoch-changed 50"]


async def test_changes_that_were_read_for_a_window_that_is_over_are_not_counted_on() -> None:
    parts = await positioned(50)
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, Sync("e1", 45)))
    await until(lambda: parts.database.under_way)
    parts.database.append(60)
    parts.hub.position(parts.room, "e1", 60, 0)
    await finish(parts, asked)
    assert heard(wire) == ["snapshot too-old 60"]


async def test_a_fresh_snapshot_of_the_history_before_serves_nobody() -> None:
    parts = await positioned(5)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    parts.database.epoch = "e2"
    parts.hub.position(parts.room, "e2", 5, 0)
    session, wire = parts.enter()
    await parts.syncer.answer(session, FIRST)
    assert wire.messages[0]["data"]["epoch"] == "e2"


async def test_who_comes_from_a_history_that_this_relay_has_not_heard_of_is_not_moved_back() -> None:
    parts = await positioned(5)
    live, live_wire = parts.enter()
    await parts.syncer.answer(live, FIRST)
    parts.database.append(20)
    parts.take()
    parts.database.epoch = "e2"  # another relay has heard of it, and told this terminal
    parts.database.append(22)
    session, wire = parts.enter()
    await parts.syncer.answer(session, Sync("e2", 21))
    await until(lambda: live.state is State.LIVE)
    assert heard(wire)[0] == "changes 21-22"
    assert parts.room.epoch == "e2"
    assert heard(live_wire)[-1] == "snapshot epoch-changed 22"


async def test_who_comes_from_another_history_waits_for_a_database_that_is_away() -> None:
    parts = await positioned(5)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    parts.database.error = DatabaseUnavailable("away")
    session, wire = parts.enter()
    with pytest.raises(DatabaseUnavailable):
        await parts.syncer.answer(session, Sync("e2", 9))
    assert (session.state, wire.writes) == (State.HELD, [])
    parts.database.error, parts.database.epoch = None, "e2"
    parts.database.append(9)
    parts.syncer.pay()
    await until(lambda: session.state is State.LIVE)
    assert heard(wire) == ["changes 9-9"]


@pytest.mark.parametrize(
    ("anew", "at_last", "begun", "answer"),
    [("e1", "e2", ["e1", "e2"], "changes 5-5"), ("e3", "e3", ["e3"], "snapshot epoch-changed 5")],
)
async def test_what_was_looked_up_before_the_room_began_anew_is_looked_up_again(
    anew: str, at_last: str, begun: list[str], answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await positioned(5)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    found: list[str] = []
    position = parts.hub.position

    def noted(room: Room, epoch: str, head: int, messages: int) -> None:
        found.append(epoch)
        position(room, epoch, head, messages)

    monkeypatch.setattr(parts.hub, "position", noted)
    parts.database.epoch = "e2"
    session, wire = parts.enter()
    asked = begin(parts, parts.syncer.answer(session, Sync("e2", 5)))
    await until(lambda: parts.database.under_way)
    parts.database.epoch = at_last
    parts.hub.position(parts.room, anew, 5, 0)
    await finish(parts, asked)
    assert found == begun
    assert heard(wire) == [answer]


async def test_whoever_is_ahead_of_the_room_is_not_moved_back_in_a_history_that_is_over() -> None:
    parts = await positioned(5)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    parts.database.append(8)  # which another relay's terminals have seen
    parts.database.epoch = "e2"  # promoted, and nothing lost
    session, wire = parts.enter()
    await parts.syncer.answer(session, Sync("e1", 8))
    assert heard(wire) == ["snapshot epoch-changed 8"]
    assert parts.room.epoch == "e2"


async def test_the_newest_state_is_that_of_a_history_not_heard_of() -> None:
    parts = await positioned(20)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    parts.database.epoch, parts.database.head = "e2", 16  # restored
    found = await parts.syncer.newest(parts.room)
    assert (found.epoch, found.revision) == ("e2", 16)


async def test_the_app_which_names_no_history_is_sent_the_databases() -> None:
    parts = await positioned(20)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    parts.database.epoch, parts.database.head = "e2", 16
    session, wire = parts.enter()
    session.profile = App()  # type: ignore[assignment]
    await parts.syncer.answer(session, FIRST)
    assert (heard(wire), wire.messages[0]["data"]["epoch"]) == (["snapshot app 16"], "e2")


async def test_who_is_served_from_memory_waits_for_nobodys_look() -> None:
    parts = await positioned(5)
    await parts.syncer.answer(parts.enter()[0], FIRST)
    stranger, _ = parts.enter()
    looking = begin(parts, parts.syncer.answer(stranger, Sync("e0", 3)))
    await until(lambda: parts.database.under_way)
    session, wire = parts.enter()
    await parts.syncer.answer(session, FIRST)
    assert heard(wire) == ["snapshot first-sync 5"]
    await finish(parts, looking)


async def test_a_history_whose_end_was_heard_of_is_not_looked_up() -> None:
    parts = await positioned(5)
    parts.database.epoch = "e2"
    parts.hub.position(parts.room, "e2", 5, 0)
    reads = parts.database.reads["heads"]
    for _ in range(3):
        session, wire = parts.enter()
        await parts.syncer.answer(session, Sync("e1", 3))
        assert heard(wire) == ["snapshot epoch-changed 5"]
    assert parts.database.reads["heads"] == reads


async def test_of_another_history_all_who_come_together_are_one_look() -> None:
    parts = await positioned(5)
    heads = parts.database.reads["heads"]
    sessions = [parts.enter()[0] for _ in range(50)]
    asked = [begin(parts, parts.syncer.answer(one, Sync("e0", 3))) for one in sessions]
    await finish(parts, *asked)
    assert parts.database.reads["heads"] - heads <= 2
    assert parts.database.reads["snapshots"] == 1


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
