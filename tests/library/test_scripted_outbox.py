"""What becomes of the mutations of a terminal of either library: one script for both."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import pytest

from tests.library.driven import Driven, driven
from tests.library.scripted import EPOCH, TABLE, ScriptedRelay, seated, snapshot
from tests.waiting import until

Row = dict[str, Any]

LARGE = 16 << 20  # characters


async def test_a_change_is_shown_at_once_and_stays_until_it_comes_back(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "status": "occupied", "guests": 3})
    mutation = await line.hears("UPDATE_TABLE")
    report = await terminal.report()
    assert (mutation["id"], mutation["clientId"]) == (id_, report["clientId"])
    assert report["pending"] == [id_]
    assert report["view"]["tables"]["t1"] == {**TABLE, "status": "occupied", "guests": 3}
    assert report["confirmed"]["tables"]["t1"] == TABLE
    await line.acknowledges(mutation, 5, version=2)
    report = await terminal.reports(lambda r: not r["pending"])
    # The ACK has come and the change has not: what is shown must not flicker back.
    assert (report["revision"], report["view"]["tables"]["t1"]["status"]) == (4, "occupied")
    await line.changes(5, seated(2, guests=3))
    report = await terminal.is_live(5)
    assert report["view"]["tables"] == report["confirmed"]["tables"] == {"t1": seated(2, guests=3)}


async def test_another_terminals_change_is_merged_with_what_is_pending(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4, settings={"theme": "light", "taxRate": 5})
    await terminal.do("change", type="UPDATE_SETTINGS", data={"theme": "dark"})
    await line.says("UPDATE_SETTINGS", {"theme": "light", "taxRate": 7}, revision=5)
    report = await terminal.is_live(5)
    assert report["view"]["settings"] == {"theme": "dark", "taxRate": 7}


async def test_a_refused_mutation_is_rolled_back_told_and_kept_until_dismissed(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "status": "occupied"}, ifVersion=9)
    behind = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 9})
    mutation = await line.hears("UPDATE_TABLE")
    assert mutation["ifVersion"] == 9
    await line.refuses(mutation, "CONFLICT", field="ifVersion", current=TABLE)
    await line.hears("UPDATE_TABLE")
    report = await terminal.reports(lambda r: r["refused"])
    assert ["refused", id_] in report["told"]
    assert report["pending"] == [behind]
    assert report["view"]["tables"]["t1"] == {**TABLE, "seats": 9}
    (refused,) = report["refused"]
    assert (refused["id"], refused["code"], refused["current"]) == (id_, "CONFLICT", TABLE)
    assert refused["todo"].startswith("show what is there now")
    await terminal.kill()
    await terminal.start()
    assert (await terminal.report())["refused"] == [refused]
    await terminal.do("dismiss", id=id_)
    await terminal.do("change", type="UPDATE_SETTINGS", data={})
    await terminal.kill()
    await terminal.start()
    assert (await terminal.report())["refused"] == []


async def test_what_builds_on_a_refused_mutation_is_refused_with_it_and_not_sent(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    first = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 1})
    second = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2}, after=[first])
    third = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 3}, after=[first, second])
    other = await terminal.change("UPDATE_TABLE", "update", {"id": "t2", "seats": 4})
    await line.hears("UPDATE_TABLE")
    await terminal.kill()
    await terminal.start()
    line = await scripted.line()
    await line.syncs(4)
    await line.refuses(await line.hears("UPDATE_TABLE"), "CONFLICT", field="ifVersion", current=TABLE)
    assert (await line.hears("UPDATE_TABLE"))["id"] == other
    report = await terminal.reports(lambda r: len(r["refused"]) == 3)
    assert [one["id"] for one in report["refused"]] == [first, second, third]
    assert [one["code"] for one in report["refused"]] == ["CONFLICT", "NOT_SENT", "NOT_SENT"]
    assert report["view"]["tables"]["t1"] == TABLE
    late = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 5}, after=[third])
    report = await terminal.report()
    assert (report["pending"], report["refused"][-1]["id"]) == ([other], late)


@pytest.mark.parametrize("code", ["BUSY", "UNAVAILABLE", "RATE_LIMITED"])
async def test_what_may_be_done_later_is_repeated_and_nothing_overtakes_it(
    scripted: ScriptedRelay, terminal: Driven, code: str
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    first = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 1})
    second = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    for _ in range(3):
        await line.refuses(await line.hears("UPDATE_TABLE"), code, retryable=True)
    mutation = await line.hears("UPDATE_TABLE")
    await line.acknowledges(mutation, 5)
    last = await line.hears("UPDATE_TABLE")
    assert (mutation["id"], last["id"]) == (first, second)
    assert len(set(line.texts[2:6])) == 1, "a repeat has the same bytes"


async def test_what_comes_too_fast_is_repeated_when_the_relay_said(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 1})
    mutation = await line.hears("UPDATE_TABLE")
    refused_at = time.monotonic()
    await line.refuses(mutation, "RATE_LIMITED", retryable=True, retryAfter=2)
    again = await line.hears("UPDATE_TABLE")
    assert time.monotonic() - refused_at >= 2.0
    assert again == mutation
    await line.acknowledges(again, 5)


async def test_what_was_not_acknowledged_goes_first_over_the_next_connection(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    ids = [await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": seats}) for seats in range(5)]
    await line.acknowledges(await line.hears("UPDATE_TABLE"), 5)
    await line.hears("UPDATE_TABLE")
    line.breaks()
    line = await scripted.line()
    await line.syncs(5, tables=[seated(2)])
    for revision, id_ in enumerate(ids[1:], 6):
        mutation = await line.hears("UPDATE_TABLE")
        assert mutation["id"] == id_
        await line.acknowledges(mutation, revision)
    await terminal.reports(lambda r: not r["pending"])


async def test_a_connection_that_breaks_while_much_is_on_its_way_is_left(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.welcomes(maxMessageBytes=1 << 30)
    line.stops_reading()
    await line.says("SYNC_RESPONSE", snapshot(4))
    await terminal.is_live(4)
    # More than the kernel takes: the terminal waits until it has left.
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "photo": "x" * LARGE})
    line.breaks()
    line = await scripted.line()
    await line.welcomes(maxMessageBytes=1 << 30)
    await line.says("SYNC_RESPONSE", snapshot(4))
    mutation = await line.hears("UPDATE_TABLE")
    assert mutation["id"] == id_
    await line.acknowledges(mutation, 5)
    await terminal.reports(lambda r: not r["pending"])


async def test_a_relay_that_does_not_read_is_left(language: str, scripted: ScriptedRelay) -> None:
    # A page's socket does not tell when a message has left: there it is the sign of life that is missing.
    async with driven(language, scripted.url, None, timing={"heartbeat": 1.0, "send": 1.0}) as terminal:
        stopped = await scripted.line()
        await stopped.welcomes(maxMessageBytes=1 << 30)
        stopped.stops_reading()
        await stopped.says("SYNC_RESPONSE", snapshot(4))
        await terminal.is_live(4)
        id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "photo": "x" * LARGE})
        line = await scripted.line(within=30.0)
        await line.welcomes(maxMessageBytes=1 << 30)
        await line.says("SYNC_RESPONSE", snapshot(4))
        assert (await line.hears("UPDATE_TABLE", within=30.0))["id"] == id_
        stopped.breaks()  # node's process does not end before all its sockets have


async def test_a_terminal_killed_before_the_ack_repeats_the_same_bytes(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    body = {"id": "t1", "customer": "Daw Mya ☕ မြ", "orderTotal": 5, "nested": {"b": [1, True, None, "x"], "a": 0.25}}
    ids = [
        await terminal.change("UPDATE_TABLE", "update", body),
        await terminal.change("UPDATE_TABLE", "delete", {"id": "t1"}),
    ]
    await line.hears("UPDATE_TABLE")
    text = line.texts[-1]
    await terminal.kill()
    await terminal.start()
    report = await terminal.report()
    assert report["pending"] == ids
    assert report["view"]["tables"] == {}
    line = await scripted.line()
    await line.syncs(4)
    mutation = await line.hears("UPDATE_TABLE")
    assert line.texts[-1] == text
    assert mutation["data"]["data"] == body
    await line.acknowledges(mutation, 5)
    assert (await line.hears("UPDATE_TABLE"))["id"] == ids[1]


async def test_what_is_wanted_while_offline_is_kept_and_sent_when_live(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    await (await scripted.line()).syncs(4)
    await terminal.is_live(4)
    await scripted.stop()
    await terminal.reports(lambda r: r["state"] == "offline")
    id_ = await terminal.change("UPDATE_TABLE", "add", {"id": "t2", "number": 2, "seats": 2, "status": "reserved"})
    assert (await terminal.report())["view"]["tables"]["t2"]["status"] == "reserved"
    await terminal.kill()
    await terminal.start()
    assert (await terminal.report())["view"]["tables"]["t2"]["status"] == "reserved"
    await scripted.start()
    line = await scripted.line()
    await line.welcomes()
    await line.says("SYNC_RESPONSE", snapshot(5, "epoch-changed", "second"))
    assert (await line.hears("UPDATE_TABLE"))["id"] == id_
    assert "t2" in (await terminal.report())["view"]["tables"]


async def test_what_cannot_be_stored_fails_and_is_neither_shown_nor_sent(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    kept = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    await line.acknowledges(await line.hears("UPDATE_TABLE"), 4)
    await terminal.reports(lambda r: not r["pending"])
    assert terminal.process is not None
    # As on a disk that is full: no file of the process grows any more (prlimit(2), RLIMIT_FSIZE).
    resource.prlimit(terminal.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    # What is heard meanwhile is stored later, and not only what is heard after it.
    await line.changes(5, {**TABLE, "id": "t2", "number": 2})
    await terminal.is_live(5)
    with pytest.raises(AssertionError, match=r"(?i)stored|EFBIG|too large"):
        await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 9})
    report = await terminal.report()
    assert (report["pending"], report["view"]["tables"]["t1"]) == ([], TABLE)
    resource.prlimit(terminal.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 3})
    assert (await line.hears("UPDATE_TABLE"))["id"] == again != kept
    await terminal.kill()
    await terminal.start()
    report = await terminal.report()
    assert (report["pending"], report["revision"], set(report["view"]["tables"])) == ([again], 5, {"t1", "t2"})


async def test_what_is_dismissed_before_it_is_stored_keeps_nobody_waiting(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    refused = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 1})
    await line.refuses(await line.hears("UPDATE_TABLE"), "CONFLICT", current=TABLE)
    await terminal.reports(lambda r: r["refused"])
    await terminal.do("dismissAtOnce")
    first, second = await asyncio.gather(  # so that the one is being written when the other is wanted
        terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2}),
        terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 3}, after=[refused]),
        return_exceptions=True,
    )
    report = await terminal.report()
    assert report["pending"] == [first]
    assert [one["id"] for one in report["refused"]] == [refused]
    assert not isinstance(second, TimeoutError)


async def test_what_another_history_acknowledged_is_not_shown_any_more(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 9})
    await line.acknowledges(await line.hears("UPDATE_TABLE"), 6)
    await line.says("SYNC_RESPONSE", snapshot(2, "epoch-changed", "second"))
    report = await terminal.is_live(2)
    assert (report["view"]["tables"], report["pending"]) == ({"t1": TABLE}, [])


async def test_what_the_relay_does_not_take_is_not_sent(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    large = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "photo": "x" * 3000})
    small = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "photo": "x"})
    await line.welcomes(maxMessageBytes=2000)
    await line.says("SYNC_RESPONSE", snapshot(4))
    assert (await line.hears("UPDATE_TABLE"))["id"] == small
    (refused,) = (await terminal.report())["refused"]
    assert (refused["id"], refused["code"]) == (large, "TOO_LARGE")


async def test_what_a_proxy_does_not_let_through_does_not_stop_the_rest(
    scripted: ScriptedRelay, terminal: Driven
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    large = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "photo": "x"})
    small = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    await line.hears("UPDATE_TABLE")
    await line.closes(1009)
    line = await scripted.line()
    await line.syncs(4)
    assert (await line.hears("UPDATE_TABLE"))["id"] == small
    (refused,) = (await terminal.report())["refused"]
    assert (refused["id"], refused["code"]) == (large, "TOO_LARGE")


async def test_an_order_id_is_given_out_when_the_relay_can_be_asked(scripted: ScriptedRelay, terminal: Driven) -> None:
    asking = asyncio.create_task(terminal.do("nextOrderId"))
    line = await scripted.line()
    await line.syncs(4)
    await line.acknowledges(await line.hears("NEXT_ORDER_ID"), 4, orderId="POS-11222026-002")
    assert await asking == "POS-11222026-002"


async def test_what_is_pending_is_not_sent_to_another_restaurant(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    await line.hears("UPDATE_TABLE")
    line.breaks()
    line = await scripted.line()
    # The two share an epoch, and perhaps an origin with its storage.
    await line.welcomes(restaurant="bistro")
    await line.says("SYNC_RESPONSE", snapshot(9, "too-old", tables=[]))
    report = await terminal.reports(lambda r: r["state"] == "refused")
    assert ("default" in report["why"], "bistro" in report["why"]) == (True, True)
    assert (report["pending"], report["revision"], set(report["view"]["tables"])) == ([id_], 4, {"t1"})
    await until(lambda: line.closed is not None)
    await line.hears_no_more()
    await terminal.do("start")
    line = await scripted.line()
    assert (await line.welcomes())["revision"] == 4
    await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": EPOCH, "from": 4, "revision": 4})
    assert (await line.hears("UPDATE_TABLE"))["id"] == id_


async def test_what_has_not_its_form_hides_nothing_of_the_rest(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    await scripted.stop()  # and so it stays pending
    wrong: list[tuple[str, object]] = [
        ("UPDATE_TABLE", None),
        ("UPDATE_TABLE", {"action": 5, "data": {"id": "t1"}}),
        ("UPDATE_TABLE", {"action": "add_items", "data": {"id": "t1", "items": [None]}}),
        ("UPDATE_MENU", {"action": "add_category", "data": [1]}),
        ("UPDATE_SETTINGS", "dark"),
    ]
    for type_, data in wrong:
        await terminal.do("change", type=type_, data=data)
    await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    report = await terminal.report()
    assert len(report["pending"]) == len(wrong) + 1
    assert report["view"]["tables"]["t1"] == {**TABLE, "seats": 2}


async def test_what_gets_no_ack_is_not_kept(scripted: ScriptedRelay, terminal: Driven) -> None:
    line = await scripted.line()
    await line.syncs(4)
    for type_ in ("CLIENT_CONNECTED", "CLIENT_DISCONNECTED", "HEARTBEAT", "SYNC_REQUEST"):
        with pytest.raises(AssertionError, match="is no mutation"):
            await terminal.do("change", type=type_, data={})
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    assert (await line.hears("UPDATE_TABLE"))["id"] == id_


async def test_an_order_id_that_is_refused_is_an_error(scripted: ScriptedRelay, terminal: Driven) -> None:
    asking = asyncio.create_task(terminal.do("nextOrderId"))
    line = await scripted.line()
    await line.syncs(4)
    await line.refuses(await line.hears("NEXT_ORDER_ID"), "FORBIDDEN")
    with pytest.raises(AssertionError, match="it is FORBIDDEN"):
        await asking
    assert (await terminal.report())["refused"] == []
