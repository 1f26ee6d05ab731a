"""Every message that changes something, with every action: what all terminals get, and what is acknowledged."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.relays import LocalRelay
from tests.terminals import Row, Terminal, agree, terminals

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
LINE = {"id": "l1", "name": "Tea", "price": 5, "quantity": 2}
SEATED = TABLE | {"status": "occupied", "orderId": "POS-1", "orderItems": [LINE], "orderTotal": 10}
DISH = {"id": "d1", "name": "Tea", "price": 5, "category": "Drinks", "description": "Hot", "image": "data:,"}
ORDER = {
    "id": "o1", "tableNumber": 1, "customerName": "Mya", "orderDate": "2026-01-02", "status": "pending", "total": 10,
    "items": [LINE], "createdAt": "2026-01-02T03:04:05Z",
}  # fmt: skip

Step = tuple[str, Row]
TABLES, MENU, ORDERS, SETTINGS = "UPDATE_TABLE", "UPDATE_MENU", "UPDATE_ORDER", "UPDATE_SETTINGS"
# What is said before, what is said, and the data of the change that goes out.
ACTIONS: list[tuple[list[Step], Step, Row]] = [
    ([], (TABLES, {"action": "add", "data": TABLE}), {"action": "add", "data": TABLE | {"version": 1}}),
    (
        [(TABLES, {"action": "add", "data": TABLE})],
        (TABLES, {"action": "add", "data": TABLE | {"seats": 6}}),
        {"action": "update", "data": TABLE | {"seats": 6, "version": 2}},
    ),
    (
        [(TABLES, {"action": "add", "data": SEATED})],
        (TABLES, {"action": "update", "data": {"id": "t1", "status": "reserved", "reservationTime": "19:30"}}),
        {"action": "update", "data": TABLE | {"status": "reserved", "reservationTime": "19:30", "version": 2}},
    ),
    (
        [],
        (TABLES, {"action": "update", "data": TABLE}),
        {"action": "add", "data": TABLE | {"version": 1}},
    ),
    (
        [(TABLES, {"action": "add", "data": TABLE})],
        (TABLES, {"action": "delete", "data": {"id": "t1"}}),
        {"action": "delete", "data": {"id": "t1", "version": 2}},
    ),
    (
        [(TABLES, {"action": "add", "data": TABLE}), (TABLES, {"action": "delete", "data": {"id": "t1"}})],
        (TABLES, {"action": "add", "data": TABLE}),
        {"action": "add", "data": TABLE | {"version": 3}},
    ),
    (
        [(TABLES, {"action": "add", "data": TABLE})],
        (TABLES, {"action": "add_items", "data": {"id": "t1", "items": [LINE]}}),
        {
            "action": "update",
            "data": TABLE | {"status": "occupied", "orderItems": [LINE], "orderTotal": 10, "version": 2},
        },
    ),
    (
        [(TABLES, {"action": "add", "data": SEATED})],
        (TABLES, {"action": "update_item", "data": {"id": "t1", "items": [{"id": "l1", "quantity": 3}]}}),
        {
            "action": "update",
            "data": SEATED | {"orderItems": [LINE | {"quantity": 3}], "orderTotal": 15, "version": 2},
        },
    ),
    (
        [(TABLES, {"action": "add", "data": SEATED})],
        (TABLES, {"action": "void_item", "data": {"id": "t1", "items": [{"id": "l1"}]}}),
        {"action": "update", "data": SEATED | {"orderItems": [], "orderTotal": 0, "version": 2}},
    ),
    ([], (MENU, {"action": "add_item", "data": DISH}), {"action": "add_item", "data": DISH | {"version": 1}}),
    (
        [(MENU, {"action": "add_item", "data": DISH})],
        (MENU, {"action": "update_item", "data": {"id": "d1", "price": 6}}),
        {"action": "update_item", "data": {k: v for k, v in DISH.items() if k != "image"} | {"price": 6, "version": 2}},
    ),
    (
        [(MENU, {"action": "add_item", "data": DISH})],
        (MENU, {"action": "delete_item", "data": {"id": "d1"}}),
        {"action": "delete_item", "data": {"id": "d1", "version": 2}},
    ),
    (
        [],
        (MENU, {"action": "add_category", "data": {"name": "Tea & Co"}}),
        {"action": "add_category", "data": {"name": "Tea & Co"}},
    ),
    (
        [(MENU, {"action": "add_category", "data": {"name": "Tea & Co"}})],
        (MENU, {"action": "delete_category", "data": {"name": "Tea & Co"}}),
        {"action": "delete_category", "data": {"name": "Tea & Co"}},
    ),
    ([], (ORDERS, {"action": "add", "data": ORDER}), {"action": "add", "data": ORDER | {"version": 1}}),
    (
        [(ORDERS, {"action": "add", "data": ORDER | {"note": "no sugar"}})],
        (ORDERS, {"action": "update", "data": ORDER | {"status": "completed"}}),
        {"action": "update", "data": ORDER | {"status": "completed", "version": 2}},
    ),
    (
        [(ORDERS, {"action": "add", "data": ORDER})],
        (ORDERS, {"action": "void", "data": {"id": "o1"}}),
        {"action": "update", "data": ORDER | {"status": "void", "version": 2}},
    ),
    ([(ORDERS, {"action": "add", "data": ORDER})], (ORDERS, {"action": "clear"}), {"action": "clear", "data": {}}),
    ([], (SETTINGS, {"currency": "MMK", "own": [1]}), {"currency": "MMK", "own": [1]}),
    (
        [(SETTINGS, {"currency": "MMK", "taxRate": 5})],
        (SETTINGS, {"taxRate": 7}),
        {"currency": "MMK", "taxRate": 7},
    ),
]


def named(step: Any) -> str | None:
    return f"{step[0]} {step[1].get('action', '')}".strip() if isinstance(step, tuple) else ""


@pytest.mark.parametrize(("before", "said", "expected"), ACTIONS, ids=named)
async def test_every_action_reaches_every_terminal_and_its_ack_has_the_changes_revision(
    relay: LocalRelay, database: str, before: list[Step], said: Step, expected: Row
) -> None:
    async with terminals(relay.url, 2) as (first, second):
        for type_, data in before:
            assert (await first.ask(type_, data))["type"] == "ACK"
        answer = await first.ask(*said)
        assert answer["type"] == "ACK", answer
        assert answer["clientId"] == "server"
        revision = answer["data"]["revision"]
        assert revision == len(before) + 1
        change = await first.change(revision)
        assert change == await second.change(revision)
        assert (change["type"], change["data"], change["clientId"]) == (said[0], expected, first.client_id)
        assert isinstance(change["timestamp"], int)
        if "version" in expected.get("data", {}):
            assert answer["data"]["version"] == expected["data"]["version"]
        await agree(database, first, second)


async def test_a_change_made_by_hand_has_the_client_id_database(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as found:
        with psycopg.connect(database) as connection:
            connection.execute("insert into pos.categories (restaurant_id, name) values (1, 'Soup')")
            connection.execute('update pos.restaurants set settings = \'{"theme": "dark"}\'')
        for one in found:
            assert (await one.change(1))["clientId"] == "database"
            assert (await one.change(2))["data"] == {"theme": "dark"}
        await agree(database, *found)


async def test_a_message_without_an_id_is_applied_and_not_acknowledged(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (first, second):
        for data in ({"action": "add", "data": TABLE}, {"action": "delete", "data": {"id": "t1"}}):
            await first.say(TABLES, data)
        await agree_on_revision(2, first, second)
        await first.say("HEARTBEAT", {"ping": True})
        await first.hears("HEARTBEAT")
        assert [m for m in first.received if m["type"] in ("ACK", "ERROR")] == []
        await agree(database, first, second)


async def agree_on_revision(revision: int, *found: Terminal) -> None:
    for one in found:
        await one.reaches(revision)


async def test_next_order_ids_are_acknowledged_with_and_without_an_id(relay: LocalRelay) -> None:
    async with terminals(relay.url, 2) as (first, second):
        with_id = (await first.ask("NEXT_ORDER_ID", {}, id="n1"))["data"]
        repeated = (await first.ask("NEXT_ORDER_ID", {}, id="n1"))["data"]
        of_another = (await second.ask("NEXT_ORDER_ID", id="n1"))["data"]
        before = len(second.received)
        await second.send_text('{"type": "NEXT_ORDER_ID"}')
        without_id = await second.hears("ACK", after=before)
        prefix, _, number = with_id["orderId"].rpartition("-")
        assert (len(prefix), prefix[:4], number) == (len("POS-MMDDYYYY"), "POS-", "001")
        assert repeated == with_id
        assert of_another["orderId"] == f"{prefix}-002"
        assert without_id["data"] == {"revision": 0, "orderId": f"{prefix}-003"}
        assert "ref" not in without_id
        assert with_id["revision"] == 0


async def test_if_version_applies_only_to_the_version_it_names(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (first, second):
        rows: list[tuple[str, str, str, Row, str]] = [
            (TABLES, "add", "update", TABLE, "seats"),
            (MENU, "add_item", "update_item", DISH, "price"),
            (ORDERS, "add", "update", ORDER, "total"),
        ]
        for type_, add, update, row, field in rows:
            # 0: only if there is none yet.
            assert (await first.update(type_, add, row, ifVersion=0))["version"] == 1
            assert (await first.update(type_, update, row | {field: 7}, ifVersion=1))["version"] == 2
            refused = await second.refused(type_, {"action": update, "data": row | {field: 8}}, ifVersion=1)
            assert (refused["code"], refused["field"], refused["retryable"]) == ("CONFLICT", "ifVersion", False)
            assert refused["current"] == row | {field: 7, "version": 2}
            assert (await second.update(type_, update, row | {field: 8}, ifVersion=2))["version"] == 3
        await agree(database, first, second)


@pytest.mark.parametrize("said", [(ORDERS, {"action": "clear"}), ("NEXT_ORDER_ID", {}), ("MESSAGE", {"bell": 1})])
async def test_if_version_with_what_has_no_version_is_refused(relay: LocalRelay, said: Step) -> None:
    async with terminals(relay.url, 1) as (only,):
        refused = await only.refused(*said, ifVersion=1)
        assert (refused["code"], refused["field"]) == ("VALIDATION", "ifVersion")
