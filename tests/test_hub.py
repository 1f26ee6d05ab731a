"""The rooms: the window, who is sent what, and in which pieces; on wires made by hand."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

from relay.frames import PIECE_BYTES, Frames, encode
from relay.hub import IDLE_SECONDS, Hub, Passed
from relay.session import Profile, Session, State
from relay.window import CHUNK_CHANGES, Change
from tests.waiting import until
from tests.wires import HandMadeWire, changes

EPOCH = "epoch"


class Rooms:
    """A hub with one room at a head, and its sessions on wires made by hand."""

    def __init__(self, head: int = 0, window_changes: int = 1000, window_bytes: int = 1 << 20) -> None:
        self.hub = Hub(window_changes, window_bytes)
        self.room = self.hub.open(1, "one")
        self.resynced: list[Session] = []
        self.hub.resync = self._resync
        self.hub.position(self.room, EPOCH, head, 0)

    def _resync(self, session: Session) -> None:
        session.state = State.HELD
        self.resynced.append(session)

    def join(self, cursor: int, wire: HandMadeWire | None = None, client_id: str = "t") -> tuple[Session, HandMadeWire]:
        wire = wire or HandMadeWire()
        session = Session(wire)
        session.client_id = client_id
        self.hub.enter(session, self.room)
        self.hub.go_live(self.room, session, cursor)
        return session, wire

    async def append(self, last: int, size: int = 20) -> None:
        self.hub.take(self.room, changes(self.room.head + 1, last, size))
        await self.at_rest()

    async def at_rest(self) -> None:
        await until(lambda: not self.room.behind, what="the end of the rounds")


# Fan-out


async def test_every_session_is_sent_what_follows_its_cursor() -> None:
    rooms = Rooms(head=0)
    await rooms.append(5)
    assert rooms.join(3)[0].seen == 5
    session = rooms.join(5)[0]
    assert (session.cursor, session.seen) == (5, 5)
    old, (late, late_wire), (_, ahead_wire) = rooms.join(0), rooms.join(5), rooms.join(7)
    await rooms.append(8)
    assert old[1].messages == list(range(1, 9))
    assert late_wire.messages == [6, 7, 8]
    assert late.cursor == late.seen == 8
    assert ahead_wire.messages == [8], "what it has already is not sent again"
    assert rooms.resynced == []


async def test_changes_that_wait_together_leave_in_one_write_that_all_share() -> None:
    rooms = Rooms()
    wires = [rooms.join(0)[1] for _ in range(3)]
    await rooms.append(20)
    assert [len(wire.writes) for wire in wires] == [1, 1, 1]
    assert wires[0].writes[0] is wires[1].writes[0] is wires[2].writes[0]


async def test_a_burst_goes_out_in_rounds_between_which_others_have_their_turn() -> None:
    rooms = Rooms(window_changes=10 * CHUNK_CHANGES)
    wires = [rooms.join(0)[1] for _ in range(3)]
    rooms.hub.take(rooms.room, changes(1, 5 * CHUNK_CHANGES))
    assert [len(wire.writes) for wire in wires] == [1, 1, 1]
    await rooms.at_rest()
    assert [len(wire.writes) for wire in wires] == [5, 5, 5]
    assert wires[0].messages == list(range(1, 5 * CHUNK_CHANGES + 1))


async def test_a_session_that_is_held_or_gone_is_sent_nothing() -> None:
    rooms = Rooms()
    (held, held_wire), (gone, gone_wire) = rooms.join(0), rooms.join(0)
    held.state = State.HELD
    rooms.hub.leave(gone)
    gone.close(1000)
    await rooms.append(3)
    assert held_wire.writes == gone_wire.writes == []
    assert list(rooms.hub.sessions) == [held]
    rooms.hub.go_live(rooms.room, held, 1)
    assert held_wire.messages == [2, 3]


async def test_a_lagging_session_costs_a_number_and_catches_up_by_its_cursor() -> None:
    rooms = Rooms()
    (slow, slow_wire), (_, quick_wire) = rooms.join(0, HandMadeWire(takes=1)), rooms.join(0)
    for revision in range(1, 300):
        await rooms.append(revision)
    assert len(slow_wire.writes) == 1
    assert (slow.cursor, slow.lagging, slow._outbox_bytes) == (1, True, 0)
    assert quick_wire.messages == list(range(1, 300))
    slow_wire.go()
    await rooms.at_rest()
    assert slow_wire.messages == list(range(1, 300))
    assert len(slow_wire.writes) == 1 + 3, "what waited is joined"


async def test_of_a_large_change_a_slow_session_holds_the_rest_and_no_more() -> None:
    rooms = Rooms(window_bytes=1 << 24)
    slow, wire = rooms.join(0, HandMadeWire(takes=1))
    for revision in range(1, 6):
        await rooms.append(revision, size=4 * PIECE_BYTES)
    slow.reply("answer")
    assert len(wire.writes) == 1
    assert slow.cursor == 1
    assert slow._outbox_bytes < 4 * PIECE_BYTES
    assert slow._outbox[0] is rooms.room.window._changes[0].frames[1], "shared with all others"  # type: ignore[union-attr]
    wire.go()
    await rooms.at_rest()
    assert [text.strip() for text in wire.texts] == ["1", "answer", "2", "3", "4", "5"]


async def test_a_session_behind_the_window_is_resynced_once_and_when_it_reads_again() -> None:
    rooms = Rooms(window_changes=10)
    session, wire = rooms.join(0, HandMadeWire(takes=0))
    await rooms.append(30)
    assert rooms.resynced == []
    wire.go()
    await rooms.append(35)
    wire.stop()
    wire.go()
    assert rooms.resynced == [session]
    assert wire.writes == []
    rooms.hub.go_live(rooms.room, session, 33)
    await rooms.append(36)
    assert wire.messages == [34, 35, 36]
    assert rooms.resynced == [session]


async def test_the_same_bytes_for_all_are_only_for_those_who_stand_at_the_same_place() -> None:
    rooms = Rooms(head=5)
    behind = [rooms.join(5)[1] for _ in range(20)]
    ahead = [rooms.join(9)[1] for _ in range(20)]
    await rooms.append(8)
    assert [wire.messages for wire in behind] == [[6, 7, 8]] * 20
    assert [wire.messages for wire in ahead] == [[]] * 20


async def test_a_session_with_a_profile_is_sent_what_that_chooses_among_others_who_are_sent_all() -> None:
    class OddOnly:
        name = "odd"

        def frames_of(self, change: Change) -> Frames:
            return change.frames if change.revision % 2 else ()

    rooms = Rooms()
    plain, odd = ([rooms.join(0) for _ in range(10)] for _ in range(2))
    for session, _ in odd:
        session.profile = cast(Profile, OddOnly())
    await rooms.append(3)
    await rooms.append(6)
    assert [wire.messages for _, wire in plain] == [[1, 2, 3, 4, 5, 6]] * 10
    assert [wire.messages for _, wire in odd] == [[1, 3, 5]] * 10
    assert {session.cursor for session, _ in odd} == {6}


async def test_a_change_that_one_session_cannot_be_given_is_given_to_the_others() -> None:
    class Failing:
        name = "failing"

        def frames_of(self, _change: Change) -> Frames:
            raise RecursionError

    rooms = Rooms()
    plain, failing = [rooms.join(0) for _ in range(10)], rooms.join(0)
    failing[0].profile = cast(Profile, Failing())
    await rooms.append(3)
    assert [wire.messages for _, wire in plain] == [[1, 2, 3]] * 10
    assert failing[0].state is State.CLOSED


async def test_a_change_does_not_overtake_the_messages_that_wait() -> None:
    rooms = Rooms()
    _, wire = rooms.join(0, HandMadeWire(takes=0))
    rooms.room.pass_on(passed([1]))
    rooms.hub.fan_out(rooms.room)
    wire.takes = None  # it is writable before it says so
    await rooms.append(1)
    assert wire.messages == [1, "m1"]


# A history that is over


async def test_when_history_changes_every_live_session_is_resynced_once() -> None:
    rooms = Rooms(head=10)
    (ready, ready_wire), (slow, slow_wire), (held, _) = (rooms.join(10) for _ in range(3))
    slow_wire.stop()
    held.state = State.HELD
    ready.seen = slow.seen = held.seen = rooms.room.acknowledged = 10
    rooms.hub.position(rooms.room, "another", 4, 0)
    assert rooms.resynced == [ready]
    assert ready.seen == slow.seen == held.seen == rooms.room.acknowledged == 0, (
        "revisions of the old history mean nothing any more"
    )
    await rooms.append(20)
    assert rooms.resynced == [ready]
    slow_wire.go()
    assert rooms.resynced == [ready, slow]
    assert ready_wire.writes == slow_wire.writes == []
    rooms.hub.go_live(rooms.room, slow, 18)
    assert (slow.epoch, slow_wire.messages) == ("another", [19, 20])


async def test_a_slow_session_is_resynced_by_the_first_change_that_finds_it_reading() -> None:
    rooms = Rooms(head=10)
    session, wire = rooms.join(10, HandMadeWire(takes=0))
    rooms.hub.position(rooms.room, "another", 4, 0)
    wire.takes = None  # it is writable before it says so
    await rooms.append(12)
    assert rooms.resynced == [session]
    assert wire.writes == []


async def test_a_slow_session_is_resynced_although_the_new_history_has_the_same_name() -> None:
    rooms = Rooms(head=10)
    session, wire = rooms.join(10, HandMadeWire(takes=0))
    rooms.hub.position(rooms.room, EPOCH, 5, 0)
    await rooms.append(12)
    wire.go()
    assert rooms.resynced == [session]
    assert wire.writes == []


async def test_what_a_session_knows_survives_the_first_look_at_the_head() -> None:
    hub = Hub(10, 1000)
    room = hub.open(1, "one")
    session = Session(HandMadeWire())
    hub.enter(session, room)
    session.seen = 7  # acknowledged before the room knew its head
    hub.position(room, EPOCH, 5, 3)
    assert (session.seen, session.messages) == (7, 3)


# MESSAGE


def passed(numbers: Iterable[int], sender: str = "other", to: str | None = None, until: float = 1e12) -> list[Passed]:
    return [Passed(number, sender, to, None, encode(f'"m{number}"'), until) for number in numbers]


async def test_a_message_goes_to_all_others_or_to_whom_it_names() -> None:
    rooms = Rooms()
    wires = {name: rooms.join(0, client_id=name)[1] for name in ("a", "b", "c")}
    rooms.room.pass_on([*passed([1], "a"), *passed([2], "a", to="c"), *passed([3], "a", to="a")])
    rooms.hub.fan_out(rooms.room)
    assert {name: wire.messages for name, wire in wires.items()} == {"a": [], "b": ["m1"], "c": ["m1", "m2"]}
    rooms.hub.fan_out(rooms.room)
    assert len(wires["b"].messages) == 1, "once"


async def test_a_message_of_before_is_not_for_who_enters_later() -> None:
    rooms = Rooms()
    rooms.room.pass_on(passed([1]))
    _, wire = rooms.join(0)
    rooms.room.pass_on(passed([2]))
    rooms.hub.fan_out(rooms.room)
    assert wire.messages == ["m2"]


async def test_a_message_that_is_a_minute_old_is_not_passed_on() -> None:
    rooms = Rooms()
    _, wire = rooms.join(0, HandMadeWire(takes=0))
    rooms.room.pass_on([*passed([1], until=time.monotonic()), *passed([2])])
    wire.go()
    assert wire.messages == ["m2"]
    rooms.room.pass_on(passed([3]))
    assert [message.number for message in rooms.room._passed] == [2, 3]


async def test_messages_wait_for_a_slow_session_without_costing_memory() -> None:
    rooms = Rooms()
    session, wire = rooms.join(0, HandMadeWire(takes=2))
    rooms.room.pass_on(passed(range(1, 501)))
    rooms.hub.fan_out(rooms.room)
    assert (wire.messages, session._outbox_bytes) == (["m1", "m2"], 0)
    wire.go()
    assert wire.messages == [f"m{number}" for number in range(1, 501)]


async def test_messages_that_will_not_come_are_not_waited_for() -> None:
    rooms = Rooms()
    session, wire = rooms.join(0)
    rooms.room.skip_messages(5)
    rooms.hub.fan_out(rooms.room)
    assert (session.messages, wire.writes) == (5, [])
    rooms.room.skip_messages(3)
    rooms.room.pass_on(passed([6]))
    rooms.hub.fan_out(rooms.room)
    assert (session.messages, wire.messages) == (6, ["m6"])


# Rooms


async def test_a_room_is_forgotten_when_nobody_comes_back() -> None:
    rooms = Rooms()
    session, _ = rooms.join(0)
    rooms.room.idle_since -= 10 * IDLE_SECONDS
    rooms.hub.forget_idle()
    assert rooms.hub.room_of("one") is rooms.room, "somebody is there"
    rooms.hub.leave(session)
    rooms.hub.forget_idle()
    assert rooms.hub.rooms == {1: rooms.room}, "somebody may come back"
    rooms.room.idle_since -= IDLE_SECONDS
    rooms.hub.forget_idle()
    assert rooms.hub.rooms == {}
    assert rooms.hub.room_of("one") is None
    rooms.hub.leave(session)


async def test_nothing_crosses_from_room_to_room() -> None:
    rooms = Rooms()
    other = rooms.hub.open(2, "two")
    rooms.hub.position(other, EPOCH, 0, 0)
    wire = HandMadeWire()
    session = Session(wire)
    rooms.hub.enter(session, other)
    rooms.hub.go_live(other, session, 0)
    _, ours = rooms.join(0)
    await rooms.append(3)
    rooms.room.pass_on(passed([1]))
    rooms.hub.fan_out(rooms.room)
    assert ours.messages == [1, 2, 3, "m1"]
    wire.stop()
    wire.go()
    assert wire.writes == []
