"""UPDATE_TABLE by PROTOCOL.md section 2: bodies, numbers, versions, deleting. Orders on tables: test_table_orders."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.shop import NEW_TABLE, Mutation, Row, Shop, doorbell

FULL: Row = {
    **NEW_TABLE,
    "status": "reserved",
    "orderId": "X-1",
    "reservationTime": "tonight, about eight",
    "customer": {"name": "Ma Ma", "phone": None},
    "orderItems": [{"id": "1", "name": "Tea", "price": 500}],
    "orderTotal": 500,
    "mood": ["merry", {"since": None}],
}


def test_a_table_is_stored_as_it_is(shop: Shop) -> None:
    answer = shop.table("add", FULL, id="m1")
    assert (answer.code, answer.revision, answer.version) == ("OK", 1, 1)
    assert shop.row("tables", "t") == {**FULL, "version": 1}
    [change] = shop.log()
    assert (change.type, change.action, change.client_id) == ("UPDATE_TABLE", "add", "t1")
    shop.check()


def test_what_an_update_leaves_out_stays_if_required_and_goes_if_optional(shop: Shop) -> None:
    shop.table("add", FULL)
    assert shop.table("update", {"id": "t", "seats": 6}).version == 2
    assert shop.row("tables", "t") == {"id": "t", "number": 40, "seats": 6, "status": "reserved", "version": 2}
    shop.check()


def test_an_explicit_null_stays_one(shop: Shop) -> None:
    nulls = dict.fromkeys(["orderId", "reservationTime", "customer", "orderItems", "orderTotal", "mood"])
    shop.table("add", {**NEW_TABLE, **nulls})
    assert shop.row("tables", "t") == {**NEW_TABLE, **nulls, "version": 1}
    shop.table("update", {"id": "t", "orderTotal": 0, "customer": None})
    assert shop.row("tables", "t") == {**NEW_TABLE, "orderTotal": 0, "customer": None, "version": 2}
    # In SQL a value takes its place.
    shop.sql("update pos.tables set customer = '\"Ko Ko\"' where restaurant_id = %s", shop.restaurant_id)
    assert shop.row("tables", "t")["customer"] == "Ko Ko"


def test_an_empty_order_id_is_none_and_stays_as_it_came(shop: Shop) -> None:
    assert shop.table("add", {**NEW_TABLE, "orderId": ""}).code == "OK"
    assert shop.row("tables", "t")["orderId"] == ""
    assert shop.one("select order_id from pos.tables where restaurant_id = %s", shop.restaurant_id) is None
    # Two tables without an order do not share one.
    assert shop.table("add", {**NEW_TABLE, "id": "u", "number": 41, "orderId": ""}).code == "OK"
    assert shop.rows("tables").keys() == {"t", "u"}


@pytest.mark.parametrize("digits", ["1.50", "12345678901234567890.123456789", "0", "-0.10", "1e2", "1E-3"])
def test_digits_are_kept(shop: Shop, digits: str) -> None:
    row = f'{{"id": "t", "number": 1, "seats": 2, "status": "available", "orderTotal": {digits}, "tip": [{digits}]}}'
    shop.table("add", row)
    plain = {"1e2": "100", "1E-3": "0.001"}.get(digits, digits)
    assert f'"orderTotal": {plain}' in shop.log()[0].text
    assert f'"tip": [{plain}]' in shop.rows("tables")["t"]


def test_equal_numbers_with_other_digits_are_a_change(shop: Shop) -> None:
    for digits, version in (("5", 1), ("5.0", 2), ("5.0", 2), ("5.00", 3)):
        row = f'{{"id": "t", "number": 1, "seats": 2, "status": "available", "orderTotal": {digits}, "tip": 1}}'
        assert shop.table("add", row).version == version
    assert shop.head == 3


def test_version_and_revision_in_a_body_are_ignored(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "version": 77, "revision": 5})
    shop.table("update", {"id": "t", "version": 1, "revision": 9})
    assert shop.row("tables", "t") == {**NEW_TABLE, "version": 1}
    assert shop.one("select extra from pos.tables where restaurant_id = %s", shop.restaurant_id) == {}


def test_lines_may_arrive_as_json_text(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "orderItems": '[{"id": "1", "price": 1.50}]'})
    assert '"orderItems": [{"id": "1", "price": 1.50}]' in shop.rows("tables")["t"]


def test_add_of_a_known_id_is_an_update(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    assert shop.table("add", {**NEW_TABLE, "seats": 9}).version == 2
    assert [change.action for change in shop.log()] == ["add", "update"]


def test_update_of_an_unknown_id_makes_it(shop: Shop) -> None:
    assert shop.table("update", NEW_TABLE).version == 1
    assert [change.action for change in shop.log()] == ["add"]


@pytest.mark.parametrize("action", ["add", "update"])
def test_a_row_is_made_only_whole(shop: Shop, action: str) -> None:
    for field in ("number", "seats", "status"):
        answer = shop.table(action, {k: v for k, v in NEW_TABLE.items() if k != field})
        assert (answer.code, answer.field) == ("VALIDATION", field)
    assert shop.head == 0


def test_an_update_that_changes_nothing_is_acknowledged_with_the_head(shop: Shop) -> None:
    shop.table("add", FULL)
    shop.settings({"theme": "dark"})
    answer = shop.table("update", FULL, id="m1")
    assert (answer.code, answer.revision, answer.version) == ("OK", 2, 1)


def test_each_way_to_write_a_table_rings_once_and_says_who_wrote_it(shop: Shop) -> None:
    shop.table("add", NEW_TABLE, "t1")
    row = {"id": "t", "orderId": "O-1", "orderItems": [{"id": "1", "price": 2}], "orderTotal": 2}
    with doorbell(shop.conninfo) as bell:
        for action, body in (
            ("update", row),
            ("add_items", {"id": "t", "items": [{"id": "2", "price": 3}]}),
            ("void_item", {"id": "t", "items": [{"id": "2"}]}),
        ):
            before = shop.head
            answer = shop.table(action, body, "t2")
            assert (answer.code, answer.revision) == ("OK", before + 1)
            assert bell.rings() == [shop.restaurant_id]
            assert [(c.client_id, c.version) for c in shop.log(before)] == [("t2", answer.version)]
        shop.table("update", row, "t3")
        assert bell.rings() == []
    assert shop.one("select updated_by from pos.tables where restaurant_id = %s", shop.restaurant_id) == "t2"
    claims = shop.sql(
        "select order_id, table_id, client_id from pos.order_claims where restaurant_id = %s", shop.restaurant_id
    )
    assert claims == [("O-1", "t", "t2")]
    shop.check()


def test_a_write_that_somebodys_own_trigger_drops_leaves_no_hole(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    shop.sql(
        "create function pg_temp.drop_it() returns trigger language plpgsql as $$ begin return null; end $$;"
        "create trigger z_drop before update on pos.tables for each row when (new.seats = 99)"
        " execute function pg_temp.drop_it()"
    )
    try:
        assert shop.table("update", {"id": "t", "seats": 99})[:1] == ("OK",)
        assert shop.head == 1
        assert shop.table("update", {"id": "t", "seats": 98}).revision == 2
    finally:
        shop.sql("drop trigger z_drop on pos.tables")
    shop.check()


def test_delete_carries_the_id_and_the_next_version(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    assert shop.table("delete", {"id": "t"}) == ("OK", None, None, 2, 2, None)
    assert shop.log()[-1].data == {"id": "t", "version": 2}
    assert shop.rows("tables") == {}


def test_delete_of_what_is_not_there_is_acknowledged(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    for id in ("nobody", "t", "t"):
        assert shop.table("delete", {"id": id}).code == "OK"
    assert shop.table("delete", {"id": "nobody"}, if_version=3).code == "OK"
    assert shop.head == 2


def test_a_deleted_table_is_not_revived_by_an_update_but_by_an_add(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    shop.table("delete", {"id": "t"})
    for action in ("update", "add_items", "update_item", "void_item"):
        answer = shop.table(action, {**NEW_TABLE, "items": [{"id": "1"}]})
        assert (answer.code, answer.field) == ("GONE", "id"), action
    assert shop.table("add", NEW_TABLE).version == 3
    assert shop.table("update", {"id": "t", "seats": 5}).version == 4
    shop.check()


def test_an_edit_applies_only_to_the_version_it_was_made_for(shop: Shop) -> None:
    assert shop.table("add", NEW_TABLE, if_version=0).code == "OK"
    assert shop.table("update", {"id": "t", "seats": 5}, if_version=1).version == 2
    for action in ("add", "update", "delete", "add_items"):
        answer = shop.table(action, {"id": "t", "seats": 6, "items": [{"id": "1"}]}, if_version=1)
        assert (answer.code, answer.field) == ("CONFLICT", "ifVersion"), action
        assert answer.details == {"current": {**NEW_TABLE, "seats": 5, "version": 2}}
    assert shop.table("add", {**NEW_TABLE, "id": "u", "number": 9}, if_version=1).code == "CONFLICT"
    assert shop.table("delete", {"id": "t"}, if_version=2).code == "OK"


def test_an_add_with_a_taken_number_gets_the_next_free_one(shop: Shop) -> None:
    for id, number in (("a", 4), ("b", 5), ("c", 7)):
        shop.table("add", {**NEW_TABLE, "id": id, "number": number})
    assert shop.table("add", {**NEW_TABLE, "id": "d", "number": 4}).code == "OK"
    assert shop.table("add", {**NEW_TABLE, "id": "e", "number": 4}).code == "OK"
    assert (shop.row("tables", "d")["number"], shop.row("tables", "e")["number"]) == (6, 8)
    shop.check()


def test_an_add_with_a_message_id_is_told_that_its_number_is_taken(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    answer = shop.table("add", {**NEW_TABLE, "id": "u"}, id="m1")
    assert (answer.code, answer.field) == ("CONFLICT", "number")
    assert answer.details == {"current": {**NEW_TABLE, "version": 1}}
    assert shop.table("add", {**NEW_TABLE, "id": "u", "number": 41}, id="m1").code == "OK"


@pytest.mark.parametrize("action", ["add", "update"])
def test_a_table_that_is_there_is_never_renumbered(shop: Shop, action: str) -> None:
    shop.table("add", NEW_TABLE)
    shop.table("add", {**NEW_TABLE, "id": "u", "number": 41})
    answer = shop.table(action, {"id": "u", "number": 40, "seats": 9})
    assert (answer.code, answer.field) == ("CONFLICT", "number")
    assert answer.details == {"current": {**NEW_TABLE, "id": "u", "number": 41, "version": 1}}
    assert shop.table(action, {"id": "u", "number": 42}).code == "OK"
    assert shop.row("tables", "u")["number"] == 42


def test_the_last_number_has_no_next_one(shop: Shop) -> None:
    last = 2**31 - 1
    for n in (last - 1, last):
        assert shop.table("add", {**NEW_TABLE, "id": str(n), "number": n}).code == "OK"
    for n in (last - 1, last):
        assert shop.table("add", {**NEW_TABLE, "id": f"again {n}", "number": n}).code == "CONFLICT"


def test_an_action_that_there_is_not_is_refused(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    for refused in (
        shop.table("remove", {"id": "t"}),
        shop.dish("add", {"id": "t"}),
        shop.order("delete", {"id": "t"}),
    ):
        assert (refused.code, refused.field) == ("UNKNOWN_ACTION", "action")
    assert shop.head == 1


LIMITS: list[tuple[Row, bool]] = [
    ({"id": "x" * 128}, True),
    ({"id": "x" * 129}, False),
    ({"id": ""}, False),
    ({"number": 0}, True),
    ({"number": -1}, False),
    ({"seats": 1000}, True),
    ({"seats": 1001}, False),
    ({"status": "on fire"}, False),
    ({"orderItems": "{}"}, False),
    ({"orderItems": "["}, False),
    ({"orderId": "x" * 129}, False),
]


def test_the_database_has_limits_of_its_own(shop: Shop) -> None:
    for n, (fields, fits) in enumerate(LIMITS):
        row: dict[str, Any] = {**NEW_TABLE, "id": f"{n}", "number": n + 100, **fields}
        [answer] = shop.apply([Mutation("UPDATE_TABLE", "add", row, restaurant_id=shop.restaurant_id)], isolate=True)
        assert (answer.code == "OK") is fits, (fields, answer)
        assert fits or answer.code.startswith(("SQLSTATE 23514", "SQLSTATE 22")), answer
    shop.check()
