"""Numbers come back digit for digit and text as it arrived, on every way from a terminal to a reader."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.relays import LocalRelay
from tests.terminals import Row, Terminal, agree, terminals

NUMBERS = """{"a": 1.10, "b": 1.1000, "c": 0.1, "d": 0.30000000000000004, "e": 123456789012345678901234567890,
 "f": 1234567890.123456789012345678901234567890, "g": -0.000000000000000000001, "h": 100, "i": 100.0, "j": 0, "k": 0.0,
 "l": 9007199254740993, "m": -9223372036854775809, "n": [2500.00, [2500.0, {"o": 2500}]], "p": 1e-7, "q": true,
 "r": null, "s": {}, "t": []}"""
TEXTS = [
    "plain",
    "",
    " leading and trailing ",
    "quote \" and \\ and / and '",
    "မုန့်ဟင်းခါး",
    "\u05e9\u05dc\u05d5\u05dd \u202e right to left",
    "\U0001f355\U0001f9d1\u200d\U0001f373",
    "line\nfeed\r\n\ttab",
    "e\u0301 is not \u00e9",
    "\u2028\u2029\ufeff\u200b",
    "\x01\x1f\x7f\x9f",
    "\ud7ff\ue000\uffff",
    "null",
    "1.10",
    "<script>&amp;</script>",
    "%s %(x)s {0} $1",
    "'; drop table pos.tables; --",
    "\\u0041",
    "2026-01-02T03:04:05.120000+06:30",
    "Ω" * 120,
]
MOMENT = TEXTS[18]
ID_TEXTS = [text for text in TEXTS if text]


def exact(text: str) -> Any:
    """A JSON text as a value whose repr shows every digit."""
    return json.loads(text, parse_float=Decimal)


def same(one: object, other: object) -> bool:
    return sorted_repr(one) == sorted_repr(other)


def sorted_repr(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{k!r}:{sorted_repr(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(sorted_repr, value)) + "]"
    return repr(value)


ROWS = {
    type_: row.replace("@", NUMBERS)
    for type_, row in {
        "UPDATE_TABLE": '{"id":"1","number":4,"seats":2,"status":"occupied","orderTotal":2500.00,"customer":@,'
        '"orderItems":[{"id":"l","price":1.10,"quantity":2.0,"own":@}],"own":@}',
        "UPDATE_MENU": '{"id":"1","name":"x","price":1234567890.12345678901234567890,"category":"","description":"",'
        '"own":@}',
        "UPDATE_ORDER": '{"id":"1","tableNumber":4,"customerName":null,"orderDate":"2. 1. 2026","status":"pending",'
        '"total":0.10,"items":[@],"createdAt":1767323045000.50,"own":@}',
        "UPDATE_SETTINGS": '{"taxRate":5.00,"serviceCharge":0.10,"sessionTimeout":60.0,"own":@}',
    }.items()
}
# Where it is under /api, and under which key; in a snapshot the key of orders is another one.
PLACES = {
    "UPDATE_TABLE": ("/api/tables", "tables", "tables"),
    "UPDATE_MENU": ("/api/menu", "menuItems", "menuItems"),
    "UPDATE_ORDER": ("/api/orders", "orders", "orderHistory"),
    "UPDATE_SETTINGS": ("/api/settings", "settings", "settings"),
}
ACTIONS = {"UPDATE_TABLE": "add", "UPDATE_MENU": "add_item", "UPDATE_ORDER": "add"}


async def add(terminal: Terminal, type_: str, row: str) -> Row:
    """Send a row as this very text."""
    data = f'{{"action":"{ACTIONS[type_]}","data":{row}}}' if type_ in ACTIONS else row
    before = len(terminal.received)
    await terminal.send_text(f'{{"type":"{type_}","id":"{before}","data":{data}}}')
    answer = await terminal.hears("ACK", after=before)
    found: Row = answer["data"]
    return found


@pytest.mark.parametrize("type_", ROWS)
async def test_numbers_come_back_digit_for_digit_on_every_way(relay: LocalRelay, database: str, type_: str) -> None:
    row = exact(ROWS[type_])
    is_settings = type_ == "UPDATE_SETTINGS"
    expected = row if is_settings else row | {"version": 1}
    async with terminals(relay.url, 2) as (first, second):
        await add(first, type_, ROWS[type_])
        change = (await second.change(1))["data"]
        assert same(change if is_settings else change["data"], expected)
        await agree(database, first, second)

        late, behind = Terminal(relay.url), Terminal(relay.url)
        behind.epoch, behind.revision = first.epoch, 0
        for reader in (late, behind):
            await reader.connect()
            await reader.reaches(1)
            held = {"UPDATE_TABLE": reader.tables, "UPDATE_MENU": reader.menu, "UPDATE_ORDER": reader.orders}
            assert same(reader.settings if is_settings else held[type_]["1"], expected)
            await reader.close()

        path, key, key_in_snapshot = PLACES[type_]
        for place, name in ((path, key), ("/api/sync", key_in_snapshot)):
            found = exact((await relay.ask("GET", place))[2])[name]
            assert same(found if is_settings else found[0], expected), place
        logged = exact((await relay.ask("GET", "/api/changes"))[2])["changes"][0]["data"]
        assert same(logged if is_settings else logged["data"], expected)

        refused = await first.refused(
            type_, {"taxRate": 9} if is_settings else {"action": ACTIONS[type_], "data": {"id": "1"}}, ifVersion=99
        )
        assert same(refused["current"], expected)


async def test_a_number_that_differs_only_in_its_digits_is_another_one(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (first, second):
        dish = '{"id":"1","name":"x","price":%s,"category":"","description":"","own":{"n":%s}}'
        for revision, digits in enumerate(("5", "5.0", "5.00", "5.00", "5"), 1):
            await add(first, "UPDATE_MENU", dish % (digits, digits))
            expected = revision - (revision > 3)
            row = (await second.change(expected))["data"]["data"]
            if revision != 4:
                assert (repr(row["price"]), repr(row["own"]["n"])) == (repr(exact(digits)),) * 2
        await agree(database, first, second)
        assert second.revision == 4


async def test_numbers_inside_items_that_arrive_as_json_text_keep_their_digits(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        row = ROWS["UPDATE_ORDER"].replace(f"[{NUMBERS}]", json.dumps(f"[{NUMBERS}]"))
        assert row != ROWS["UPDATE_ORDER"]
        await add(only, "UPDATE_ORDER", row)
        assert same((await only.change(1))["data"]["data"]["items"], [exact(NUMBERS)])


async def test_a_change_in_sql_keeps_the_digits_of_all_else(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (first, second):
        for type_, row in ROWS.items():
            await add(first, type_, row)
        with psycopg.connect(database) as connection:
            connection.execute("update pos.tables set status = 'available'")
            connection.execute("update pos.menu_items set price = price * 1.10")
            connection.execute("update pos.order_history set status = 'completed'")
        await agree(database, first, second)
        assert same(second.tables["1"], exact(ROWS["UPDATE_TABLE"]) | {"status": "available", "version": 2})
        assert same(second.orders["1"], exact(ROWS["UPDATE_ORDER"]) | {"status": "completed", "version": 2})
        assert second.menu["1"]["price"] == Decimal("1358024679.1358024679135802467900")


@pytest.mark.parametrize("ascii_only", [True, False])
async def test_text_comes_back_as_it_arrived(relay: LocalRelay, database: str, ascii_only: bool) -> None:
    own = {text: text for text in TEXTS}
    rows: dict[str, Row] = {
        "UPDATE_TABLE": {"id": "1", "number": 1, "seats": 2, "status": "reserved", "customer": TEXTS, "own": own},
        "UPDATE_MENU": {"id": "1", "name": "x", "price": 1, "category": "", "description": MOMENT, "own": own},
        "UPDATE_ORDER": {
            "id": "1", "tableNumber": 1, "customerName": "".join(TEXTS), "orderDate": MOMENT, "status": "x",
            "total": 1, "items": [own], "createdAt": MOMENT, "own": own,
        },
        "UPDATE_SETTINGS": {"restaurantName": "".join(TEXTS), "own": own},
    }  # fmt: skip
    async with terminals(relay.url, 2) as (first, second):
        for revision, (type_, row) in enumerate(rows.items(), 1):
            await add(first, type_, json.dumps(row, ensure_ascii=ascii_only))
            change = (await second.change(revision))["data"]
            assert change == row if type_ not in ACTIONS else change["data"] == row | {"version": 1}
        await first.say("MESSAGE", own)
        assert (await second.hears("MESSAGE"))["data"] == own
        await agree(database, first, second)
        async with Terminal(relay.url) as late:
            await agree(database, late)
        body = (await relay.get("/api/sync"))[2]
        assert body["orderHistory"] == [rows["UPDATE_ORDER"] | {"version": 1}]
        assert body["settings"] == rows["UPDATE_SETTINGS"]


async def test_any_text_of_128_characters_is_an_id(relay: LocalRelay, database: str) -> None:
    async with Terminal(relay.url, "'\"\n\U0001f355\u202e" * 25) as odd, terminals(relay.url, 1) as (watcher,):
        for number, id_ in enumerate([*ID_TEXTS, "\U0001f355" * 128]):
            ref = (id_ + str(number))[-64:]
            await odd.table("add", {"id": id_, "number": number, "seats": 1, "status": "available"}, id=ref)
            await odd.table("add_items", {"id": id_, "items": [{"id": id_, "price": 1}]})
            await odd.table("void_item", {"id": id_, "items": [{"id": id_}]})
            await odd.table("update", {"id": id_, "orderId": id_})
            await odd.dish("add_item", {"id": id_, "name": id_, "price": 1, "category": id_, "description": id_})
            await odd.dish("add_category", {"name": id_})
            await odd.order("add", {"id": id_, "tableNumber": number, "customerName": id_, "orderDate": id_,
                                    "status": "pending", "total": 1, "items": [], "createdAt": id_})  # fmt: skip
            await odd.order("void", {"id": id_})
        await agree(database, odd, watcher)
        assert set(watcher.tables) == set(watcher.menu) == watcher.categories == set(watcher.orders)
        assert len(watcher.tables) == len(ID_TEXTS) + 1
        assert {m["clientId"] for _, _, m in watcher.applied} == {odd.client_id}
        for id_ in ID_TEXTS:
            await odd.table("delete", {"id": id_})
            await odd.dish("delete_item", {"id": id_})
            await odd.dish("delete_category", {"name": id_})
        await agree(database, odd, watcher)
