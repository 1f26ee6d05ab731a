"""Terminals of another history than the room's: one that is over, or one that this relay has not heard of."""

from __future__ import annotations

import pytest

from relay.errors import DatabaseUnavailable
from relay.frames import Frames
from relay.hub import Room
from relay.session import State, Sync
from relay.snapshots import Snapshot
from tests.fakes import FIRST, begin, finish, heard, positioned
from tests.waiting import until


class App:
    """A profile that passes on what it is given."""

    async def prepare(self) -> None:
        pass

    def snapshot(self, snapshot: Snapshot, _: Sync) -> Frames:
        return snapshot.frames("app", None)


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
