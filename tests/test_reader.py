"""What the reader does with a read that another one has overtaken."""

from __future__ import annotations

import logging
from typing import cast

import pytest

from relay.database import Database
from relay.logrows import LogRead
from relay.protocol import Mutation
from relay.reader import Behind, Reader
from relay.ways import Ways
from tests.fakes import Syncing, heard

BACKEND = 4711
MUTATION = Mutation(1, "till", "m1", "UPDATE_TABLE", "update", "{}", None)


class Reading:
    """A reader on a fake database, with a room at its head and one terminal in it."""

    def __init__(self, parts: Syncing) -> None:
        self.parts = parts
        self.reader = Reader(cast(Database, parts.database), parts.hub, Ways())
        self.rung: list[int] = []
        self.reader.ring = self.rung.append  # type: ignore[assignment, method-assign]

    def behind(self) -> Behind:
        return self.reader.behind([MUTATION], at_rest=True)

    async def read(self, cursor: int) -> LogRead:
        return await self.parts.database.read_changes({1: cursor}, rows=1000, size=1 << 20)


async def reading(head: int) -> Reading:
    parts = Syncing(head)
    await parts.syncer.join(parts.enter()[0])
    return Reading(parts)


async def test_a_read_that_was_overtaken_moves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    made = await reading(5)
    session, wire = made.parts.enter()
    await made.parts.syncer.join(session)
    then = made.behind()
    made.parts.database.append(6)
    early = await made.read(5)
    made.parts.database.append(8)
    made.reader.take(made.behind(), await made.read(5), 0.0)
    room = made.parts.room
    room.messages, room.staff = 3, 2  # as a later read has told
    with caplog.at_level(logging.WARNING):
        made.reader.take(then, early, 0.0)
    assert heard(wire) == [6, 7, 8]
    assert (room.head, room.messages, room.staff) == (8, 3, 2)
    assert caplog.records == []
    assert made.rung == []


async def test_a_read_that_overlaps_another_passes_on_the_rest() -> None:
    made = await reading(5)
    session, wire = made.parts.enter()
    await made.parts.syncer.join(session)
    then = made.behind()
    made.parts.database.append(6)
    made.reader.take(made.behind(), await made.read(5), 0.0)
    made.parts.database.append(8)
    made.reader.take(then, await made.read(5), 0.0)
    assert heard(wire) == [6, 7, 8]


async def test_a_log_that_is_shorter_than_what_was_asked_for_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    made = await reading(5)
    then = made.behind()
    made.parts.database.head = 4
    with caplog.at_level(logging.WARNING):
        made.reader.take(then, await made.read(5), 0.0)
    assert [record.getMessage() for record in caplog.records] == ["a restaurant begins anew: the log has a hole"]
    assert made.parts.room.head == 4


async def test_a_room_that_finds_its_head_meanwhile_is_read_again() -> None:
    parts = Syncing(5)
    made = Reading(parts)
    session, _ = parts.enter()
    then = made.behind()
    assert then.asked is None
    await parts.syncer.join(session)
    parts.database.append(6)
    made.reader.take(then, LogRead(None, {}), 0.0)
    assert made.rung == [1]


async def test_a_room_that_was_opened_anew_meanwhile_is_read() -> None:
    made = await reading(5)
    then = made.behind()
    del made.parts.hub.rooms[1]  # nobody came back to it
    made.parts.hub.open(1, "one")
    made.parts.database.append(6)
    made.reader.take(then, await made.read(5), 0.0)
    assert made.rung == [1]


async def test_only_a_batchs_own_doorbells_are_told_of_by_its_commit() -> None:
    made = await reading(5)
    with made.parts.database.doorbells.ring(BACKEND, {1}):
        made.reader.hear(1, BACKEND)
        assert made.rung == []
        made.reader.hear(2, BACKEND)  # of a restaurant that somebody's trigger has changed
        made.reader.hear(1, BACKEND + 1)
        assert made.rung == [2, 1]
    made.reader.hear(1, BACKEND)
    assert made.rung == [2, 1]


async def test_the_doorbells_of_a_batch_that_broke_are_heard() -> None:
    made = await reading(5)
    doorbells = made.parts.database.doorbells
    # Two connections through a proxy that hides the backends' numbers.
    one, other = doorbells.ring(BACKEND, {1}), doorbells.ring(BACKEND, {1})
    with pytest.raises(ConnectionResetError), one, other:
        raise ConnectionResetError
    made.reader.hear(1, BACKEND)
    assert made.rung == [1]


async def test_what_a_batch_is_about_to_tell_counts_as_heard_of() -> None:
    made = await reading(5)
    with made.parts.database.doorbells.ring(BACKEND, {1}):
        made.reader.hear(1, BACKEND)
        made.reader.sweep(1)
        assert not made.reader._swept
        made.reader.sweep(2)
    made.reader.sweep(1)
    assert made.reader._swept == {1, 2}


async def test_nothing_is_read_behind_what_is_read_anyway() -> None:
    made = await reading(5)
    assert made.behind().asked is not None
    many = [MUTATION] * 5
    message = Mutation(1, "till", "m1", "MESSAGE", "update", "{}", None)
    assert made.reader.behind(many, at_rest=True).asked is None
    assert made.reader.behind([message], at_rest=True).asked is None
    assert made.reader.behind([MUTATION], at_rest=False).asked is None
    Reader.ring(made.reader, 1)
    assert made.behind().asked is None
