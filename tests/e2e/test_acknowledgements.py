"""What an answer says: which revision, to whom, in which order, and what a repeat comes to."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.relays import LocalRelay, local_relay
from tests.terminals import Row, Terminal, agree, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
DISH = {"id": "d1", "name": "Tea", "price": 5, "category": "Drinks", "description": "Hot"}
ORDER: Row = {
    "id": "POS-01022026-001", "tableNumber": 1, "customerName": "Mya", "orderDate": "2026-01-02", "status": "pending",
    "total": 10, "items": [], "createdAt": "2026-01-02T03:04:05Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("UPDATE_TABLE", {"action": "update", "data": TABLE}),
        ("UPDATE_TABLE", {"action": "add", "data": TABLE}),
        ("UPDATE_TABLE", {"action": "delete", "data": {"id": "unknown"}}),
        ("UPDATE_MENU", {"action": "update_item", "data": DISH}),
        ("UPDATE_MENU", {"action": "delete_item", "data": {"id": "unknown"}}),
        ("UPDATE_MENU", {"action": "add_category", "data": {"name": "Drinks"}}),
        ("UPDATE_MENU", {"action": "delete_category", "data": {"name": "Soups"}}),
        ("UPDATE_ORDER", {"action": "add", "data": ORDER}),
        ("UPDATE_ORDER", {"action": "update", "data": ORDER}),
        ("UPDATE_SETTINGS", {"theme": "dark"}),
        ("MESSAGE", {"bell": "kitchen"}),
        ("NEXT_ORDER_ID", {}),
    ],
)
async def test_an_ack_of_what_changes_nothing_has_the_head(relay: LocalRelay, type_: str, data: Row) -> None:
    async with terminals(relay.url, 2) as (first, second):
        await first.table("add", TABLE)
        await first.dish("add_item", DISH)
        await first.dish("add_category", {"name": "Drinks"})
        await first.order("add", ORDER)
        await first.ask("UPDATE_SETTINGS", {"theme": "dark"})
        answer = await second.ask(type_, data)
        assert (answer["type"], answer["data"]["revision"]) == ("ACK", 5), answer
        await second.say("UPDATE_SETTINGS", {"theme": "light"})
        await first.change(6)
        assert [m["revision"] for m in first.received if "revision" in m] == [1, 2, 3, 4, 5, 6]


async def test_a_repeat_has_one_effect_and_the_first_answer_on_any_connection_and_instance(
    relay: LocalRelay, database: str
) -> None:
    data = {"action": "add_items", "data": {"id": "t1", "items": [{"id": "l1", "price": 5}]}}
    async with local_relay(database) as other_relay, Terminal(relay.url) as first, Terminal(other_relay.url) as watcher:
        await first.table("add", TABLE)
        answer = await first.ask("UPDATE_TABLE", data, id="m1")
        await first.table("update", TABLE)
        assert (await first.ask("UPDATE_TABLE", data, id="m1"))["data"] == answer["data"]
        for url in (relay.url, other_relay.url):
            async with Terminal(url, first.client_id) as again:
                assert (await again.ask("UPDATE_TABLE", data, id="m1"))["data"] == answer["data"]
        async with Terminal(relay.url) as somebody:
            assert (await somebody.ask("UPDATE_TABLE", data, id="m1"))["data"]["revision"] == 4
        await agree(database, first, watcher)


async def test_an_id_used_for_another_body_is_refused(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", TABLE, id="m1")
        for action, row in (("add", TABLE | {"seats": 5}), ("update", TABLE)):
            refused = await only.refused("UPDATE_TABLE", {"action": action, "data": row}, id="m1")
            assert (refused["code"], refused["field"]) == ("VALIDATION", "id")
        await agree(database, only)


async def test_an_id_that_was_refused_may_be_tried_again(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", TABLE)
        taken = {"action": "add", "data": TABLE | {"id": "t2"}}
        refused = await only.refused("UPDATE_TABLE", taken, id="m1")
        assert (refused["code"], refused["field"], refused["current"]["id"]) == ("CONFLICT", "number", "t1")
        await only.table("delete", {"id": "t1"})
        assert (await only.ask("UPDATE_TABLE", taken, id="m1"))["data"]["revision"] == 3
        await agree(database, only)


async def test_a_deleted_row_is_not_revived_by_an_update(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", TABLE)
        await only.table("delete", {"id": "t1"})
        await only.dish("add_item", DISH)
        await only.dish("delete_item", {"id": "d1"})
        for type_, action, row in (("UPDATE_TABLE", "update", TABLE), ("UPDATE_MENU", "update_item", DISH)):
            refused = await only.refused(type_, {"action": action, "data": row})
            assert (refused["code"], refused["retryable"]) == ("GONE", False)
        await agree(database, only)


async def test_two_sales_with_one_id_are_both_kept(relay: LocalRelay, database: str) -> None:
    other_sale = ORDER | {"createdAt": "2026-01-02T04:00:00Z", "total": 99}
    async with terminals(relay.url, 2) as (first, second):
        await first.order("add", ORDER)
        refused = await second.refused("UPDATE_ORDER", {"action": "add", "data": other_sale})
        assert (refused["code"], refused["field"]) == ("ORDER_ID_TAKEN", "id")
        await second.order("add", other_sale | {"id": refused["suggestedId"]})
        await second.say("UPDATE_ORDER", {"action": "add", "data": other_sale | {"createdAt": "2026-01-02T05:00:00Z"}})
        await second.change(3)
        await agree(database, first, second)
        assert len(second.orders) == 3
        assert first.orders[ORDER["id"]]["total"] == 10


async def test_a_finished_order_does_not_go_back(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.order("add", ORDER | {"status": "completed"})
        refused = await only.refused("UPDATE_ORDER", {"action": "update", "data": ORDER})
        assert (refused["code"], refused["field"], refused["current"]["status"]) == ("CONFLICT", "status", "completed")


async def test_a_failure_without_an_id_is_told_to_its_sender_alone(relay: LocalRelay) -> None:
    async with terminals(relay.url, 2) as (first, second):
        await first.say("UPDATE_TABLE", {"action": "update", "data": {"id": "nowhere", "seats": 2}})
        error = await first.hears("ERROR")
        assert error["data"] == {
            "code": "VALIDATION",
            "message": "number is required to make a table",
            "field": "number",
            "retryable": False,
        }
        assert "ref" not in error
        await first.table("add", TABLE)
        await second.change(1)
        assert [m for m in second.received if m["type"] == "ERROR"] == []


async def test_a_sync_request_is_answered_after_the_mutations_sent_before_it(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        for turn in range(5):
            before = len(only.received)
            for number in range(40):
                row = TABLE | {"id": f"t{number}", "number": number, "seats": turn}
                await only.say("UPDATE_TABLE", {"action": "add", "data": row}, id=f"m{turn}.{number}")
            await only.say("SYNC_REQUEST", {}, id=f"s{turn}")
            response = await only.hears("SYNC_RESPONSE", after=before)
            heard = only.received[before : only.received.index(response)]
            assert [m["ref"] for m in heard if m["type"] == "ACK"] == [f"m{turn}.{n}" for n in range(40)]
            assert response["ref"] == f"s{turn}"
            assert response["data"]["revision"] == 40 * (turn + 1)
            assert {row["seats"] for row in response["data"]["tables"]} == {turn}
        await agree(database, only)


async def test_the_mutations_of_one_terminal_keep_their_order(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 3) as (watcher, *writers):
        for one in writers:
            await one.table("add", TABLE | {"id": one.client_id, "number": writers.index(one)})
        for seats in range(1, 101):
            for one in writers:
                await one.say("UPDATE_TABLE", {"action": "update", "data": {"id": one.client_id, "seats": seats}})
        await agree_at(database, 202, watcher, *writers)
        for one in writers:
            own = [m["data"]["data"]["seats"] for _, _, m in watcher.applied if m["clientId"] == one.client_id]
            assert own[1:] == list(range(1, 101))


async def agree_at(database: str, revision: int, *found: Terminal) -> None:
    await asyncio.gather(*(one.reaches(revision) for one in found))
    await agree(database, *found)


async def test_a_terminal_that_sends_faster_than_it_is_answered_loses_nothing(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (fast, other):
        await fast.table("add", TABLE)
        for seats in range(1000):  # five times what may wait of one terminal
            row = {"id": "t1", "seats": seats}
            await fast.say("UPDATE_TABLE", {"action": "update", "data": row}, id=f"m{seats}")
        await agree_at(database, 1001, fast, other)

        def answers() -> list[Row]:
            return [m for m in fast.received if m["type"] in ("ACK", "ERROR")]

        await until(lambda: len(answers()) == 1001, what="the last answers, which may come after their changes")
        assert [(m["type"], m["ref"], m["data"]["revision"]) for m in answers()[1:]] == [
            ("ACK", f"m{seats}", seats + 2) for seats in range(1000)
        ]


async def test_one_bad_mutation_in_a_burst_hurts_only_its_sender(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 4) as found:
        bad, *good = found
        await bad.table("add", TABLE)
        # It fails inside the database: the number is taken by then.
        asked = [
            one.ask("UPDATE_TABLE", {"action": "add", "data": TABLE | {"id": f"x{n}", "number": 10 + n}})
            for n, one in enumerate(good)
        ]
        taken = bad.ask("UPDATE_TABLE", {"action": "add", "data": TABLE | {"id": "t2"}})
        refusal, *answers = await asyncio.gather(taken, *asked)
        assert (refusal["type"], refusal["data"]["code"]) == ("ERROR", "CONFLICT")
        assert {answer["type"] for answer in answers} == {"ACK"}
        await agree(database, *found)


async def test_a_locked_row_is_answered_busy_or_done_and_nobody_is_kept_waiting(database: str) -> None:
    async with local_relay(database, busy_seconds=0.5) as relay, terminals(relay.url, 2) as (first, second):
        await first.table("add", TABLE)
        with psycopg.connect(database) as connection:
            connection.execute("update pos.tables set seats = 9")
            refused = await first.refused(
                "UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "seats": 5}}, id="m"
            )
            assert (refused["code"], refused["retryable"]) == ("BUSY", True)
            waiting = asyncio.create_task(first.table("update", {"id": "t1", "seats": 6}, id="n"))
            await until(lambda: relay.relay.writer.pending)
        assert (await waiting)["revision"] == 3
        await agree(database, first, second)
