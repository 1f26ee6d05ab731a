"""What a terminal of either library does when a relay says this and that: one script for both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import free_port
from tests.library.driven import Driven, driven, needs
from tests.library.scripted import DISH, EPOCH, ORDER, TABLE, ScriptedRelay, seated, snapshot
from tests.waiting import until

Row = dict[str, Any]


# --- staying in sync


async def test_it_introduces_itself_asks_for_everything_and_is_live(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    assert await line.welcomes() == {}
    assert (await terminal.report())["state"] == "catching-up"
    await line.says("SYNC_RESPONSE", snapshot(7, menuItems=[DISH], categories=["Soups"], settings={"theme": "dark"}))
    shown = (await terminal.is_live(7))["view"]
    assert shown["tables"] == {"t1": TABLE}
    assert shown["menuItems"]["d1"]["price"] == DISH["price"]
    assert (shown["categories"], shown["settings"]) == (["Soups"], {"theme": "dark"})


async def test_changes_are_applied_in_order_and_old_ones_dropped(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.changes(3, seated(9))  # before the first snapshot
    await line.syncs(4)
    await line.changes(4, seated(8))
    await line.changes(5, seated(2))
    await line.changes(5, seated(7))
    await line.changes(6, {"id": "t1", "version": 3}, "delete")
    await line.changes(7, {"name": "Soups"}, "add_category", "UPDATE_MENU")
    await line.changes(8, {"name": "Soups"}, "add_category", "UPDATE_MENU")
    await line.changes(9, DISH, "add_item", "UPDATE_MENU")
    await line.changes(10, ORDER, "add", "UPDATE_ORDER")
    await line.says("UPDATE_SETTINGS", {"theme": "dark"}, revision=11)
    await line.says("FROM_THE_FUTURE", {"any": 1}, revision=12)
    report = await terminal.is_live(12)
    assert [detail for what, detail in report["told"] if what == "change"] == list(range(5, 13))
    assert report["view"]["tables"] == {}
    assert report["view"]["categories"] == ["Soups"]
    assert set(report["view"]["orderHistory"]) == {"o1"}
    assert report["view"]["settings"] == {"theme": "dark"}
    await line.changes(13, {}, "clear", "UPDATE_ORDER")
    assert (await terminal.is_live(13))["view"]["orderHistory"] == {}
    assert [what for what, _ in report["told"] if what == "fault"] == []


async def test_it_resumes_with_its_cursor_when_the_connection_broke(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await line.changes(5, seated(2))
    await terminal.is_live(5)
    line.breaks()
    line = await scripted.line()
    assert await line.welcomes() == {"epoch": "first", "revision": 5}
    await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": "first", "from": 5, "revision": 7})
    await line.changes(6, seated(3))
    report = await terminal.reports(lambda r: r["revision"] == 6)
    assert report["state"] == "catching-up"
    await line.changes(7, seated(4))
    assert (await terminal.is_live(7))["view"]["tables"]["t1"]["version"] == 4


async def test_a_killed_terminal_still_shows_what_it_held_and_resumes(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4, orderHistory=[{**ORDER, "id": "o2"}, ORDER], menuItems=[DISH], categories=["A", "B"])
    await line.changes(5, seated(2))
    before = await terminal.is_live(5)
    # What was saved last is not waited for: a restart may lack it, and resumes before it.
    await terminal.do("change", type="UPDATE_SETTINGS", data={})
    await terminal.kill()
    await scripted.stop()
    await terminal.start()
    after = await terminal.reports(lambda r: r["state"] == "offline")
    kept = ("clientId", "epoch", "revision", "confirmed", "checksum")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    await scripted.start()
    assert await (await scripted.line()).welcomes() == {"epoch": "first", "revision": 5}


async def test_a_hole_is_noticed_and_asked_for(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await line.changes(6, seated(3))
    await line.changes(7, seated(4))
    assert (await line.hears("SYNC_REQUEST"))["data"] == {"epoch": "first", "revision": 4}
    report = await terminal.reports(lambda r: r["head"] == 7)
    assert (report["state"], report["revision"]) == ("catching-up", 4)
    assert report["view"]["tables"]["t1"]["version"] == 1
    await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": "first", "from": 4, "revision": 7})
    for revision in (5, 6, 7):
        await line.changes(revision, seated(revision - 3))
    assert (await terminal.is_live(7))["view"]["tables"]["t1"]["version"] == 4
    await line.hears_no_more()


async def test_a_hole_that_stays_ends_in_a_snapshot(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    for expected in ({"epoch": "first", "revision": 4}, {"epoch": "first", "revision": 4}, {}):
        await line.changes(6, seated(3))
        assert (await line.hears("SYNC_REQUEST"))["data"] == expected
        if expected:
            await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": "first", "from": 4, "revision": 6})
    await line.says("SYNC_RESPONSE", snapshot(6, tables=[seated(3)]))
    assert (await terminal.is_live(6))["view"]["tables"]["t1"]["version"] == 3


async def test_a_relay_that_cannot_fill_a_hole_is_left(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    for _ in range(3):
        await line.changes(6, seated(3))
        await line.hears("SYNC_REQUEST")
        await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": "first", "from": 4, "revision": 6})
    await line.changes(6, seated(3))
    await (await scripted.line()).welcomes()
    assert (await terminal.report())["revision"] == 4


async def test_a_row_is_never_replaced_by_an_older_one(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4, tables=[seated(5)])
    await line.changes(5, seated(4, seats=1))
    await line.changes(6, {"id": "t1", "version": 4}, "delete")
    report = await terminal.is_live(6)
    assert report["view"]["tables"] == {"t1": seated(5)}
    assert len([what for what, _ in report["told"] if what == "fault"]) == 2


async def test_a_snapshot_that_is_older_is_kept_out(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(9, tables=[seated(5)])
    await line.says("SYNC_RESPONSE", snapshot(8, "too-old"))
    assert (await line.hears("SYNC_REQUEST"))["data"] == {"epoch": "first", "revision": 9}
    await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": "first", "from": 9, "revision": 9})
    report = await terminal.is_live(9)
    assert report["view"]["tables"] == {"t1": seated(5)}


@pytest.mark.parametrize(
    ("reason", "epoch"), [("ahead", "first"), ("epoch-changed", "second"), ("first-sync", "third")]
)
async def test_a_snapshot_of_another_history_replaces_everything(
    scripted: ScriptedRelay, terminal: Driven, reason: str, epoch: str
) -> None:
    line = await scripted.line()
    await line.syncs(9, tables=[seated(5), {**TABLE, "id": "t2"}], orderHistory=[ORDER])
    await terminal.is_live(9)
    await terminal.do("change", type="UPDATE_SETTINGS", data={})  # what it held before this is in the store now
    await line.says("SYNC_RESPONSE", snapshot(2, reason, epoch))
    report = await terminal.is_live(2)
    assert report["epoch"] == epoch
    assert report["view"]["tables"] == {"t1": TABLE}
    await terminal.do("change", type="UPDATE_SETTINGS", data={})
    await terminal.kill()
    await terminal.start()
    report = await terminal.report()
    assert (report["epoch"], report["confirmed"]["tables"], report["confirmed"]["orderHistory"]) == (
        epoch,
        {"t1": TABLE},
        {},
    )


# --- coming back


@pytest.mark.parametrize("code", [1012, 1013])
async def test_a_told_delay_is_obeyed(language: str, scripted: ScriptedRelay, code: int) -> None:
    # By themselves they would come back at once, or after minutes.
    for first_delay, told in ((0.0, 1.0), (3000.0, 0.5)):
        async with driven(language, scripted.url, None, timing={"first_delay": first_delay, "last_delay": first_delay}):
            line = await scripted.line()
            await line.syncs(4)
            await line.closes(code, f"restarting; retry after {told:.1f} s")
            again = await scripted.line()
            closed = await until(partial(getattr, line, "closed"))
            assert again.opened - closed >= told - 0.1


async def test_a_network_that_is_back_ends_its_own_pause_and_not_one_that_was_told(scripted: ScriptedRelay) -> None:
    needs("node")  # a page is told of its network; Python is not
    async with driven("node", scripted.url, None, timing={"first_delay": 3000.0, "last_delay": 3000.0}) as terminal:
        line = await scripted.line()
        await line.closes(1000)
        await terminal.reports(lambda r: r["state"] == "offline")
        await terminal.do("online")
        line = await scripted.line()
        await line.closes(1012, "restarting; retry after 1.0 s")
        await terminal.reports(lambda r: r["state"] == "offline")
        await terminal.do("online")
        again = await scripted.line()
        closed = await until(partial(getattr, line, "closed"))
        assert again.opened - closed >= 0.9


async def test_terminals_that_find_nobody_come_back_at_times_of_their_own(terminal: Driven) -> None:
    found = await terminal.do("delays", url=f"ws://127.0.0.1:{free_port()}/ws", count=40)
    assert all(0 <= seconds <= 100 for seconds in found)
    assert min(found) < 40
    assert max(found) > 60


@pytest.mark.parametrize("code", [1008, 1002, 1003, 1007])
async def test_a_refusal_stops_it_until_it_is_started_again(
    scripted: ScriptedRelay, terminal: Driven, code: int
) -> None:
    line = await scripted.line()
    await line.closes(code, "there is no restaurant 'x'")
    report = await terminal.reports(lambda r: r["state"] == "refused")
    assert report["why"] == "there is no restaurant 'x'"
    assert report["todo"]
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    assert len(scripted.lines) == 1
    await terminal.do("start")
    line = await scripted.line()
    await line.syncs(4)
    assert (await line.hears("UPDATE_TABLE"))["id"] == id_


@pytest.mark.parametrize("code", [1000, 1001, 1011, None])
async def test_after_any_other_end_it_comes_back(scripted: ScriptedRelay, terminal: Driven, code: int | None) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    if code is None:
        line.breaks()
    else:
        await line.closes(code)
    await (await scripted.line()).welcomes()
    told = [detail for what, detail in (await terminal.report())["told"] if what == "state"]
    assert told[:7] == ["connecting", "catching-up", "live", "offline", "connecting", "catching-up"]


async def test_a_stopped_terminal_says_goodbye_and_stays_away(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    await terminal.do("stop")
    await until(lambda: line.closed is not None)
    assert (await terminal.report())["state"] == "offline"
    assert len(scripted.lines) == 1
    await terminal.do("start")
    assert await (await scripted.line()).welcomes() == {"epoch": "first", "revision": 4}


NO_DATA = '{"type": "HEARTBEAT", "data": null}'
NO_ROW = '{"type": "UPDATE_TABLE", "revision": 5, "data": {"action": "update", "data": null}}'
ROWS = '{"type": "UPDATE_TABLE", "revision": 5, "data": {"action": "update", "data": []}}'
NO_VERSION = '{"type": "UPDATE_TABLE", "revision": 5, "data": {"action": "add", "data": {"id": "t2"}}}'
DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ["nonsense", "[]", NO_DATA, NO_ROW, ROWS, NO_VERSION, DEEP], ids=range(7))
async def test_a_relay_that_talks_nonsense_is_left(scripted: ScriptedRelay, terminal: Driven, text: str) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await line.says_text(text)
    assert (await (await scripted.line()).welcomes())["revision"] == 4
    assert set((await terminal.report())["view"]["tables"]) == {"t1"}


async def test_in_another_restaurant_it_starts_over(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4, categories=["Tea"], settings={"theme": "dark"})
    await terminal.is_live(4)
    line.breaks()
    line = await scripted.line()
    # It has asked with its cursor before it is told where it is; the restaurants of a database share an epoch.
    assert (await line.welcomes(restaurant="bistro"))["revision"] == 4
    await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": EPOCH, "from": 4, "revision": 5})
    there = {**TABLE, "id": "t9"}
    await line.changes(5, there)
    assert (await line.hears("SYNC_REQUEST"))["data"] == {}
    await line.says("SYNC_RESPONSE", snapshot(5, tables=[there]))
    await terminal.is_live(5)
    await terminal.do("stop")  # and what it holds is stored
    await terminal.kill()
    await terminal.start()
    assert (await (await scripted.line()).welcomes(restaurant="bistro"))["revision"] == 5
    view = (await terminal.report())["view"]
    assert (view["tables"], view["categories"], view["settings"]) == ({"t9": there}, [], {})


async def test_it_knows_the_role_that_it_was_told_last(scripted: ScriptedRelay, terminal: Driven) -> None:
    await (await scripted.line()).welcomes(role="display")
    await terminal.reports(lambda r: r["role"] == "display")
    await terminal.do("change", type="UPDATE_SETTINGS", data={})  # and what it was told before is stored
    await terminal.kill()
    await terminal.start()
    assert (await terminal.report())["role"] == "display"
    await (await scripted.line()).welcomes()
    assert ["role", None] in (await terminal.reports(lambda r: r["role"] is None))["told"]


# --- what else is said


async def test_messages_are_passed_on_both_ways(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    await line.says("MESSAGE", {"text": "Table 4 is ready"})
    await terminal.reports(lambda r: ["message", {"text": "Table 4 is ready"}] in r["told"])
    assert await terminal.do("say", data={"to": "kitchen", "bell": True})
    assert (await line.hears("MESSAGE"))["data"] == {"to": "kitchen", "bell": True}
    await scripted.stop()
    await terminal.reports(lambda r: r["state"] == "offline")
    assert not await terminal.do("say", data={"bell": True})


async def test_errors_about_nothing_it_asked_for_are_told_and_harmless(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.welcomes()
    await line.says("ERROR", {"code": "UNAVAILABLE", "message": "the database is away", "retryable": True})
    await line.says("ERROR", {"code": "INVALID_MESSAGE", "message": "no JSON", "retryable": False}, ref="m")
    await line.says("ACK", {"revision": 4}, ref="m")
    await line.says("SYNC_RESPONSE", snapshot(4))
    report = await terminal.is_live(4)
    assert [detail for what, detail in report["told"] if what == "fault"] == ["INVALID_MESSAGE: no JSON"]


async def test_the_restaurant_is_in_the_address_and_the_token_is_not(
    language: str, scripted: ScriptedRelay, tmp_path: Path
) -> None:
    async with driven(language, f"{scripted.url}?profile=core", tmp_path / "t", restaurant="bistro", token="secret"):
        line = await scripted.line()
        path = line._socket.request.path  # type: ignore[union-attr]
        assert path == "/ws?profile=core&restaurant=bistro"
        hello = await line.hears("CLIENT_CONNECTED")
        assert (hello["data"]["token"], hello["data"]["name"]) == ("secret", "driven")
