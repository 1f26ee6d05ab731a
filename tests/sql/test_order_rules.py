"""UPDATE_ORDER by PROTOCOL.md section 2: bodies, finished orders, clear."""

from __future__ import annotations

import json
from typing import LiteralString

import pytest

from tests.sql.shop import NEW_ORDER, Row, Shop

ID = str(NEW_ORDER["id"])
BY_HAND: LiteralString = """insert into pos.order_history (restaurant_id, id, status, total)
                            values (%s, 'o', 'pending', 1.50)"""


def without(row: Row, *fields: str) -> Row:
    return {key: value for key, value in row.items() if key not in fields}


def shown(shop: Shop) -> list[str]:
    return [row["id"] for row in shop.snapshot()["orders"]]


def created_at(shop: Shop, id: str) -> str | None:
    query: LiteralString = "select to_jsonb(created_at at time zone 'UTC') #>> '{}' || '+00:00' from pos.order_history"
    found: str | None = shop.one(query + " where restaurant_id = %s and id = %s", shop.restaurant_id, id)
    return found


# Bodies


def test_an_order_is_stored_as_it_is(shop: Shop) -> None:
    row: Row = {**NEW_ORDER, "customerName": None, "orderDate": "heute", "paidBy": {"card": None}}
    assert shop.order("add", row).version == 1
    assert shop.row("order_history", ID) == {**row, "version": 1}
    assert [(c.type, c.action, c.client_id) for c in shop.log()] == [("UPDATE_ORDER", "add", "t1")]
    assert created_at(shop, ID) == "2026-01-02T03:04:05.678+00:00"
    shop.check()


def test_lines_may_arrive_as_json_text_and_are_stored_as_an_array(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "items": json.dumps(NEW_ORDER["items"])})
    assert shop.row("order_history", ID)["items"] == NEW_ORDER["items"]
    shop.order("add", NEW_ORDER)
    assert shop.head == 1


def test_what_an_update_leaves_out_stays_if_required_and_goes_if_optional(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "paidBy": "card"})
    assert shop.order("update", {"id": ID, "total": 600, "tip": 1}).version == 2
    assert shop.row("order_history", ID) == {**NEW_ORDER, "total": 600, "tip": 1, "version": 2}
    shop.order("update", {"id": ID, "createdAt": None, "tableNumber": None})
    assert shop.row("order_history", ID) == {
        **NEW_ORDER,
        "total": 600,
        "createdAt": None,
        "tableNumber": None,
        "version": 3,
    }
    shop.order("update", {"id": ID})
    assert shop.row("order_history", ID)["createdAt"] is None
    assert shop.head == 3


@pytest.mark.parametrize("digits", ["1.50", "12345678901234567890.123456789", "1e2"])
def test_a_total_keeps_its_digits(shop: Shop, digits: str) -> None:
    shop.order("add", json.dumps(NEW_ORDER).replace('"total": 500', f'"total": {digits}'))
    assert f'"total": {digits.replace("1e2", "100")},' in shop.log()[0].text


def test_createdat_comes_back_as_it_went_in_with_a_time_beside_it(shop: Shop) -> None:
    moments = {
        "2026-01-02T03:04:05.678Z": "2026-01-02T03:04:05.678+00:00",
        "2026-01-02T09:34:05+06:30": "2026-01-02T03:04:05+00:00",
        "2026-01-02 03:04": "2026-01-02T03:04:00+00:00",
        1767323045678: "2026-01-02T03:04:05.678+00:00",
        "yesterday": None,
        "2026-99-99": None,
        10**300: None,
    }
    for n, (said, meant) in enumerate(moments.items()):
        shop.order("add", {**NEW_ORDER, "id": f"o{n}", "createdAt": said})
        assert shop.row("order_history", f"o{n}")["createdAt"] == said
        assert created_at(shop, f"o{n}") == meant, said


@pytest.mark.parametrize("action", ["add", "update"])
def test_an_order_is_made_only_whole(shop: Shop, action: str) -> None:
    for field in ("tableNumber", "customerName", "orderDate", "status", "total", "items"):
        answer = shop.order(action, without(NEW_ORDER, field))
        assert (answer.code, answer.field) == ("VALIDATION", field)
    assert shop.order(action, without(NEW_ORDER, "createdAt")).code == "OK"


def test_an_edit_of_an_older_order_is_a_conflict(shop: Shop) -> None:
    shop.order("add", NEW_ORDER, if_version=0)
    shop.order("update", {"id": ID, "total": 1}, if_version=1)
    for action in ("add", "update", "void"):
        answer = shop.order(action, {**NEW_ORDER, "total": 2}, if_version=1)
        assert (answer.code, answer.field) == ("CONFLICT", "ifVersion"), action
        assert answer.details == {"current": {**NEW_ORDER, "total": 1, "version": 2}}


def test_an_order_written_by_hand_has_what_terminals_expect(shop: Shop) -> None:
    shop.sql(BY_HAND, shop.restaurant_id)
    row = shop.row("order_history", "o")
    assert row["createdAt"] == row["orderDate"]
    assert (created_at(shop, "o") or "")[:23] == row["createdAt"][:23]
    assert shop.one("select now() - %s::timestamptz < interval '1 minute'", row["createdAt"])
    assert {row[key] for key in ("tableNumber", "customerName")} == {None}
    assert row["items"] == []
    assert shown(shop) == ["o"]


# Finished orders


@pytest.mark.parametrize("status", ["completed", "void"])
def test_a_finished_order_never_goes_back(shop: Shop, status: str) -> None:
    shop.order("add", NEW_ORDER)
    shop.order("update", {"id": ID, "status": status})
    for action in ("add", "update"):
        answer = shop.order(action, NEW_ORDER)
        assert (answer.code, answer.field) == ("CONFLICT", "status")
        assert answer.details == {"current": {**NEW_ORDER, "status": status, "version": 2}}
    assert shop.order("update", {"id": ID, "tip": 5}).version == 3
    assert shop.order("update", {"id": ID, "status": "completed"}).code == "OK"


def test_void_needs_only_the_id_and_keeps_the_rest(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "paidBy": "card", "status": "completed"})
    assert shop.order("void", {"id": ID, "reason": "mistake"}).version == 2
    assert shop.row("order_history", ID) == {**NEW_ORDER, "paidBy": "card", "status": "void", "version": 2}
    again = shop.order("void", {"id": ID})
    assert (again.code, again.revision, again.version) == ("OK", 2, 2)
    assert shop.order("void", {"id": "nobody"}).code == "VALIDATION"
    assert [change.action for change in shop.log()] == ["add", "update"]


# Clear


def test_clear_hides_what_was_there_and_shows_what_comes_later(shop: Shop) -> None:
    for id in ("a", "b", "c"):
        shop.order("add", {**NEW_ORDER, "id": id})
    answer = shop.order("clear", {"whatever": 1}, id="m1")
    assert (answer.code, answer.revision) == ("OK", 4)
    [clear] = shop.log(3)
    assert (clear.action, clear.row_id, clear.data) == ("clear", None, {})
    assert shown(shop) == []
    shop.order("update", {"id": "b", "total": 1})
    shop.sql("update pos.order_history set total = 2 where restaurant_id = %s and id = 'c'", shop.restaurant_id)
    shop.order("add", {**NEW_ORDER, "id": "d"})
    assert shown(shop) == ["d", "c", "b"]
    shop.order("update", {"id": "d", "total": 500})  # nothing new
    shop.order("clear", {})
    assert shown(shop) == []
    assert shop.rows("order_history").keys() == {"a", "b", "c", "d"}
    shop.check()


def test_an_order_that_is_on_its_way_during_clear_is_shown_when_it_comes(shop: Shop) -> None:
    with shop.again(autocommit=False) as other:
        other.sql(BY_HAND, shop.restaurant_id)
        shop.order("clear", {})
        other.connection.commit()
    assert shown(shop) == ["o"]
