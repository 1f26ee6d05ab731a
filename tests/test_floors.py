"""What an app session is owed, and what must not be paid with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from relay.appdata import AppData, Lists, StaffRows
from relay.floors import NAMED_ORDERS, Floor, Member
from relay.frames import encode
from relay.hub import Room
from relay.session import Session, State
from relay.vault import Vault
from relay.webapp import AppSession, WebApp
from relay.window import Window
from tests.waiting import until
from tests.wires import HandMadeWire


class FakeData:
    """A complete restaurant without users; its lists are those of `revision`."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.epoch = "e1"
        self.reads = self.staff_reads = 0

    async def read_staff(self, *_: object) -> StaffRows:
        self.staff_reads += 1
        return StaffRows(0, complete=True, users=())

    async def read_lists(self, *_: object) -> Lists:
        self.reads += 1
        return Lists(self.epoch, self.revision, "[]", "[]", "[]", "{}", "[]", complete=True)


def live_member() -> tuple[Member, HandMadeWire]:
    wire = HandMadeWire()
    session = Session(wire)
    session.state = State.LIVE
    return Member(session), wire


def floor_with(data: FakeData, *members: Member) -> Floor:
    room = Room(1, "one")
    room.epoch, room.window = "e1", Window(0, 100, 10_000)
    floor = Floor(cast(AppData, data), Vault(""), room, 1000)
    floor.members.update(members)
    return floor


def test_the_newest_orders_stay_owed_where_only_named_ones_were_read() -> None:
    """An order was renamed while the list of another was read: a clear with that list would empty the browser."""
    member, wire = live_member()
    member.owe(["orders"], ["o1"])
    member.clear_first()
    member.pay({"orders"}, encode('"named"'), 7, ["o1"])
    assert wire.messages == ["named"]
    assert (member.owed, member.order_ids) == ({"orders"}, None)
    member.pay({"orders"}, encode('"newest"'), 8, None)
    assert [message if isinstance(message, str) else message["data"]["action"] for message in wire.messages] == [
        "named",
        "clear",
        "newest",
    ]
    assert (member.owed, member.order_ids) == (set(), set())


def test_so_many_named_orders_become_the_newest() -> None:
    member, _ = live_member()
    member.owe(["orders"], [str(number) for number in range(NAMED_ORDERS)])
    assert member.order_ids is not None
    member.owe(["orders"], ["one more"])
    assert member.order_ids is None


@pytest.mark.parametrize("old", ["its own change", "another history"])
async def test_no_list_is_sent_from_before_what_the_session_knows(old: str) -> None:
    member, wire = live_member()
    data = FakeData(revision=5)
    floor = floor_with(data, member)
    if old == "its own change":
        member.session.seen = 6
    else:
        data.epoch = "e0"
    floor.owe(["tables"])
    await until(lambda: data.reads >= 2)
    assert wire.messages == []
    data.revision, data.epoch = 6, "e1"
    await until(lambda: wire.messages)
    assert wire.messages[0]["data"]["data"] == {"tables": []}


async def test_the_users_of_a_history_that_is_over_are_read_again_though_as_many_changed_in_the_new_one() -> None:
    data = FakeData(7)
    floor = floor_with(data)
    floor.room.staff = 0
    await floor.load_staff()
    await floor.load_staff()
    assert data.staff_reads == 1
    floor.room.epoch, floor.room.window = "e2", Window(3, 100, 10_000)
    await floor.load_staff()
    assert data.staff_reads == 2


def test_what_was_seen_of_a_history_that_is_over_is_not_noted_in_the_new_one() -> None:
    session = live_member()[0].session
    app = AppSession(cast(WebApp, SimpleNamespace(certain_seconds=-1.0)), session)
    app._met = True
    session.epoch, session.cursor = "e1", 203
    assert app.certainly_seen() == 203
    session.epoch = ""  # it lags, and is resynced when it reads again
    assert app.certainly_seen() is None
