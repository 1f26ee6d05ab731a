"""One terminal's state machine, on a wire made by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import protocol
from relay.errors import Refusal
from relay.frames import PIECE_BYTES, encode
from relay.session import OUTBOX_BYTES, Deed, Goodbye, Session, State, Submit, Sync
from relay.wire import Wire
from tests.wires import HandMadeWire

BIG = "x" * (PIECE_BYTES * 3 + 1)  # four frames


def session_on(wire: HandMadeWire) -> Session:
    as_the_session_sees_it: Wire = wire
    session = Session(as_the_session_sees_it)
    session.state = State.LIVE
    return session


def hear(session: Session, type_: str, data: object = None, **envelope: object) -> Deed:
    return session.hear(protocol.parse(json.dumps({"type": type_, "data": data or {}, **envelope})))


# What it is owed


def test_an_answer_is_written_at_once() -> None:
    wire = HandMadeWire()
    session_on(wire).reply("hello")
    assert wire.texts == ["hello"]


def test_a_large_message_goes_piece_by_piece_as_the_wire_takes_it() -> None:
    wire = HandMadeWire(takes=1)
    session = session_on(wire)
    session.push(encode(BIG))
    for written in (1, 2, 3):
        assert len(wire.writes) == written
        assert session.lagging
        wire.go(takes=1)
    assert wire.texts == [BIG]
    wire.go()
    assert not session.lagging


def test_answers_wait_behind_a_message_that_was_begun() -> None:
    wire = HandMadeWire(takes=1)
    session = session_on(wire)
    session.advance(encode(BIG), 7)
    session.reply("answer")
    session.heartbeat(9, now_ms=0)
    assert len(wire.writes) == 1
    wire.go(takes=2)
    assert len(wire.writes) == 3
    session.reply("another")
    wire.go()
    assert wire.texts[:2] == [BIG, "answer"]
    assert json.loads(wire.texts[2])["data"] == {"response": True, "revision": 7, "head": 9}
    assert wire.texts[3] == "another"


def test_nothing_overtakes_what_waits_although_the_wire_goes_again() -> None:
    wire = HandMadeWire(takes=0)
    session = session_on(wire)
    session.reply("first")
    wire.takes = None  # it is writable before it says so
    session.reply("second")
    wire.stop()
    wire.go()
    assert wire.texts == ["first", "second"]


@given(
    st.lists(st.one_of(st.integers(0, 2 * PIECE_BYTES), st.sampled_from(["stop", "go", "one", "three"])), max_size=30)
)
def test_whatever_the_wire_takes_messages_arrive_whole_and_in_order(steps: list[int | str]) -> None:
    wire = HandMadeWire()
    session = session_on(wire)
    sent: list[str] = []
    for step in steps:
        if isinstance(step, int):
            sent.append(f"{len(sent)} ".ljust(step, "x"))
            session.reply(sent[-1])
        elif step == "stop":
            wire.stop()
        else:
            wire.go({"go": None, "one": 1, "three": 3}[step])
    wire.go()
    assert wire.texts == sent


def test_changes_are_ready_to_be_written_only_when_nothing_waits() -> None:
    wire = HandMadeWire(takes=1)
    session = session_on(wire)
    assert session.ready
    session.push(encode(BIG))
    wire.takes = 1
    assert not session.ready, "a change would come between the pieces of a message"
    wire.takes = 0
    wire.go()
    assert session.ready
    for state in (State.NEW, State.HELD, State.CLOSED):
        session.state = state
        assert not session.ready


def test_what_follows_is_asked_for_when_nothing_waits_any_more() -> None:
    wire = HandMadeWire(takes=1)
    session = session_on(wire)
    asked: list[int] = []
    session.on_drained = lambda _: asked.append(len(wire.writes))
    session.push(encode(BIG))
    wire.go(takes=1)
    wire.go(takes=1)
    assert asked == []
    wire.go()
    assert asked == [4]


def test_a_terminal_that_does_not_read_its_answers_clogs_and_is_free_again_when_it_does() -> None:
    wire = HandMadeWire(takes=0)
    session = session_on(wire)
    answer = "x" * 1000
    size = len(encode(answer)[0])
    answers = 0
    while not session.clogged:
        session.reply(answer)
        answers += 1
    assert OUTBOX_BYTES < answers * size <= OUTBOX_BYTES + size
    wire.go()
    assert not session.clogged
    assert wire.texts == [answer] * answers


def test_a_closed_wire_is_not_waited_for() -> None:
    wire = HandMadeWire(takes=0)
    session = session_on(wire)
    session.reply("x" * 2 * OUTBOX_BYTES)
    assert session.clogged
    wire.abort()
    assert not session.clogged
    session.reply("goes nowhere")
    wire.closed = False
    wire.go()
    assert len(wire.texts) == 1


def test_a_closed_session_drops_what_waits_and_asks_for_nothing() -> None:
    wire = HandMadeWire(takes=1)
    session = session_on(wire)
    asked: list[Session] = []
    session.on_drained = asked.append
    session.push(encode(BIG))
    session.close(1012, "restarting")
    assert wire.close_code == 1012
    assert session.state is State.CLOSED
    assert not session.lagging
    assert not session._outbox
    session.flush()
    session.reply("goes nowhere")
    assert len(wire.writes) == 1
    assert asked == []


def test_it_knows_the_newest_revision_that_was_written() -> None:
    session = session_on(HandMadeWire())
    session.seen = 5
    session.advance(encode("four"), 4)
    assert (session.cursor, session.seen) == (4, 5)
    session.advance(encode("six"), 6)
    assert (session.cursor, session.seen) == (6, 6)


# What it says


def test_a_terminal_is_called_by_its_first_words_until_it_introduces_itself() -> None:
    session = session_on(HandMadeWire())
    assert session.client_id.startswith("terminal-")
    hear(session, "HEARTBEAT", clientId="a")
    assert session.client_id == "a"
    hear(session, "CLIENT_CONNECTED", {"clientId": "b"})
    assert session.client_id == "b"
    hear(session, "HEARTBEAT", clientId="c")
    assert session.client_id == "b"


def test_a_sync_request_is_a_sync_from_its_cursor() -> None:
    session = session_on(HandMadeWire())
    assert hear(session, "SYNC_REQUEST") == Sync(None, None)
    assert hear(session, "SYNC_REQUEST", {"epoch": "e", "revision": 3}, id="r") == Sync("e", 3, "r")


def test_an_update_is_submitted_for_its_own_restaurant_and_acknowledged_if_it_has_an_id() -> None:
    session = session_on(HandMadeWire())
    session.restaurant_id = 7
    table = {"id": "t", "number": 1, "seats": 2, "status": "available"}
    deed = hear(session, "UPDATE_TABLE", {"action": "add", "data": table}, clientId="a", id="m", ifVersion=3)
    assert isinstance(deed, Submit)
    assert deed.acknowledge
    mutation = deed.mutation
    assert (mutation.restaurant_id, mutation.client_id, mutation.id, mutation.if_version) == (7, "a", "m", 3)
    assert (mutation.type, mutation.action, json.loads(mutation.body)) == ("UPDATE_TABLE", "add", table)
    without = hear(session, "UPDATE_TABLE", {"action": "add", "data": table})
    assert isinstance(without, Submit)
    assert not without.acknowledge
    assert without.mutation.client_id == "a"


def test_a_next_order_id_is_always_answered() -> None:
    deed = hear(session_on(HandMadeWire()), "NEXT_ORDER_ID")
    assert isinstance(deed, Submit)
    assert deed.acknowledge


def test_goodbye_is_understood_and_a_heartbeat_needs_nothing() -> None:
    session = session_on(HandMadeWire())
    assert isinstance(hear(session, "CLIENT_DISCONNECTED", {"clientId": "a"}), Goodbye)
    assert hear(session, "HEARTBEAT", {"ping": True}) is None


@pytest.mark.parametrize(
    ("type_", "data"),
    [("UPDATE_ORDER", {"action": "clear", "data": {}}), ("MESSAGE", {"bell": 1}), ("NEXT_ORDER_ID", {})],
)
def test_an_expected_version_without_a_row_is_refused(type_: str, data: object) -> None:
    with pytest.raises(Refusal) as caught:
        hear(session_on(HandMadeWire()), type_, data, ifVersion=1)
    assert (caught.value.code, caught.value.field) == ("VALIDATION", "ifVersion")
