"""Orders on tables: whose an order id is, who moved, what is paid, and lines merged (PROTOCOL.md section 2, Tables)."""

from __future__ import annotations

import pytest

from tests.sql.shop import NEW_ORDER, Answer, Row, Shop

TEA: Row = {"id": "tea", "name": "Tea", "price": 500, "quantity": 2}
RICE: Row = {"id": "rice", "name": "Rice", "price": 1.5}


def seat(shop: Shop, id: str, order_id: str | None, *lines: Row, client: str = "t1") -> Answer:
    """A table named by its number, with an order."""
    order = {} if order_id is None else {"orderId": order_id, "orderItems": list(lines)}
    return shop.table("add", {"id": id, "number": int(id), "seats": 4, "status": "occupied", **order}, client)


def pay(shop: Shop, id: str, table: int | None, client: str = "t1", **fields: object) -> Answer:
    """The completing add of a sale."""
    return shop.order("add", {**NEW_ORDER, "id": id, "tableNumber": table, "status": "completed", **fields}, client)


def order_on(shop: Shop, id: str) -> str | None:
    found: str | None = shop.row("tables", id).get("orderId")
    return found


# Moving, and two tables that want one id


def test_guests_who_move_take_their_order_along_and_free_the_table(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    shop.table("update", {"id": "1", "status": "occupied", "orderId": "X-1", "orderItems": [TEA], "orderTotal": 1000,
                          "customer": "Ma Ma", "reservationTime": None, "lamp": "broken"})  # fmt: skip
    seat(shop, "2", None)
    assert shop.table("update", {"id": "2", "orderId": "X-1", "orderItems": [TEA]}, "t2").code == "OK"
    assert order_on(shop, "2") == "X-1"
    freed = {"id": "1", "number": 1, "seats": 4, "status": "available", "lamp": "broken", "version": 3}
    assert shop.row("tables", "1") == freed
    assert [(c.row_id, c.client_id) for c in shop.log(3)] == [("1", "t2"), ("2", "t2")]
    shop.check()


def test_an_order_without_lines_moves_only_with_the_terminal_that_opened_it(shop: Shop) -> None:
    seat(shop, "1", "X-1", client="t1")
    seat(shop, "2", "X-1", client="t2")
    assert (order_on(shop, "1"), order_on(shop, "2")) == ("X-1", "X-2")
    seat(shop, "3", "X-1", client="t1")
    assert (order_on(shop, "1"), order_on(shop, "3")) == (None, "X-1")


def test_another_order_with_an_open_id_gets_the_next_free_number(shop: Shop) -> None:
    seat(shop, "1", "X-009", TEA)
    seat(shop, "2", "X-009", RICE, client="t2")
    assert (order_on(shop, "1"), order_on(shop, "2")) == ("X-009", "X-010")
    seat(shop, "3", "X-009", TEA, RICE, client="t3")
    assert order_on(shop, "3") == "X-011"


def test_guests_who_move_take_a_replaced_order_along_too(shop: Shop) -> None:
    seat(shop, "1", "X-1", RICE, client="t1")
    seat(shop, "2", "X-1", TEA, client="t2")
    seat(shop, "3", "X-1", TEA, client="t2")
    assert (order_on(shop, "2"), order_on(shop, "3")) == (None, "X-2")
    pay(shop, "X-1", 3, "t2")
    assert shop.rows("order_history").keys() == {"X-2"}


def test_a_replacement_is_remembered_for_the_table_and_the_terminal(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    seat(shop, "2", "X-1", RICE, client="t2")
    assert shop.table("update", {"id": "2", "orderId": "X-1", "orderItems": [RICE, TEA]}, "t2").code == "OK"
    assert order_on(shop, "2") == "X-2"
    # Another terminal that wants it there, or this one elsewhere, means another order.
    shop.table("update", {"id": "2", "orderId": "X-1", "orderItems": [RICE]}, "t3")
    seat(shop, "3", "X-1", RICE, RICE, client="t2")
    assert (order_on(shop, "1"), order_on(shop, "2"), order_on(shop, "3")) == ("X-1", "X-3", "X-4")


def test_the_completing_add_goes_to_the_order_the_table_was_given(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    seat(shop, "2", "X-1", RICE, client="t2")
    assert pay(shop, "X-1", 2, "t2", createdAt="2026-01-02T10:00:00Z").code == "OK"
    assert pay(shop, "X-1", 1, "t1", createdAt="2026-01-02T09:00:00Z").code == "OK"
    assert {id: shop.row("order_history", id)["tableNumber"] for id in shop.rows("order_history")} == {
        "X-2": 2,
        "X-1": 1,
    }
    # Again, by the queue of a terminal that heard no answer.
    head = shop.head
    pay(shop, "X-1", 2, "t2", createdAt="2026-01-02T10:00:00Z")
    assert shop.head == head


def test_a_table_that_carries_an_order_keeps_it_whatever_was_given_before(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    seat(shop, "2", "X-1", RICE, client="t2")
    shop.table("update", {"id": "2", "status": "available"}, "t2")
    # The guests of table 1 move to table 2; from now on X-1 means theirs, for t2 as well.
    shop.table("update", {"id": "2", "status": "occupied", "orderId": "X-1", "orderItems": [TEA]}, "t1")
    shop.table("update", {"id": "2", "orderId": "X-1", "orderItems": [TEA, RICE]}, "t2")
    assert (order_on(shop, "1"), order_on(shop, "2")) == (None, "X-1")


def test_a_sale_does_not_take_the_id_of_an_order_that_is_open_elsewhere(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    takeaway = {**NEW_ORDER, "id": "X-1", "tableNumber": None, "status": "completed"}
    refused = shop.order("add", takeaway, "t2", id="m1")
    assert (refused.code, refused.details) == ("ORDER_ID_TAKEN", {"suggestedId": "X-2"})
    assert shop.order("add", takeaway, "t2").code == "OK"
    assert shop.rows("order_history").keys() == {"X-3"}
    # The table goes on, and is paid under its own id.
    assert shop.table("add_items", {"id": "1", "orderId": "X-1", "items": [RICE]}).code == "OK"
    assert pay(shop, "X-1", 1, "t3", createdAt="2026-01-02T10:00:00Z").code == "OK"
    assert shop.rows("order_history").keys() == {"X-1", "X-3"}


def test_the_terminal_that_opened_an_order_may_pay_it_at_any_table(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    assert pay(shop, "X-1", 9, "t1").code == "OK"
    assert shop.rows("order_history").keys() == {"X-1"}


# Finished orders


@pytest.mark.parametrize("action", ["add", "update"])
def test_an_edit_of_a_paid_order_is_stale_on_the_table_that_carried_it(shop: Shop, action: str) -> None:
    seat(shop, "1", "X-1", TEA)
    pay(shop, "X-1", 1)
    edit = {"id": "1", "orderId": "X-1", "orderItems": [TEA, RICE]}
    for freed in (False, True):
        if freed:
            shop.table("update", {"id": "1", "status": "available"})
        before = shop.row("tables", "1")
        answer = shop.table(action, edit, "t2")
        assert (answer.code, answer.field, answer.details) == ("CONFLICT", "orderId", {"current": before})
        assert shop.row("tables", "1") == before


def test_an_order_that_moved_away_and_is_paid_is_stale_on_its_first_table_too(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    seat(shop, "2", "X-1", TEA)
    pay(shop, "X-1", 2)
    assert shop.table("update", {"id": "1", "orderId": "X-1"}, "t2").code == "CONFLICT"


def test_an_order_paid_at_this_table_without_ever_standing_on_it_is_stale_too(shop: Shop) -> None:
    pay(shop, "X-1", 1)
    assert seat(shop, "1", "X-1", TEA).code == "CONFLICT"


def test_the_id_of_an_order_paid_at_another_table_is_replaced(shop: Shop) -> None:
    pay(shop, "X-1", 1)
    seat(shop, "2", "X-1", TEA, client="t2")
    assert order_on(shop, "2") == "X-2"
    pay(shop, "X-1", 2, "t2", createdAt="2026-01-03T10:00:00Z")
    assert shop.rows("order_history").keys() == {"X-1", "X-2"}


def test_an_unfinished_order_in_the_history_is_no_obstacle(shop: Shop) -> None:
    pay(shop, "X-1", 1, status="pending")
    assert seat(shop, "1", "X-1", TEA).code == "OK"
    assert order_on(shop, "1") == "X-1"


# Lines


def test_two_waiters_add_to_one_table_and_nothing_is_lost(shop: Shop) -> None:
    seat(shop, "1", "X-1")
    assert shop.table("add_items", {"id": "1", "items": [TEA]}, "t1").code == "OK"
    assert shop.table("add_items", {"id": "1", "orderId": "X-1", "items": [RICE]}, "t2").code == "OK"
    row = shop.row("tables", "1")
    assert [line["id"] for line in row["orderItems"]] == ["tea", "rice"]
    assert '"orderTotal": 1001.5}' in shop.rows("tables")["1"]
    assert [change.action for change in shop.log(1)] == ["update", "update"]
    shop.check()


def test_lines_are_merged_by_their_ids(shop: Shop) -> None:
    seat(shop, "1", "X-1", {**TEA, "note": "hot"}, RICE)
    shop.table("update_item", {"id": "1", "items": [{"id": "tea", "quantity": 3, "note": None}]})
    assert shop.row("tables", "1")["orderItems"] == [{**TEA, "quantity": 3, "note": None}, RICE]
    shop.table("add_items", {"id": "1", "items": [{"id": "rice", "price": 2}, {"id": "ice", "price": 1}]})
    assert shop.row("tables", "1")["orderItems"][1:] == [{**RICE, "price": 2}, {"id": "ice", "price": 1}]
    shop.table("void_item", {"id": "1", "items": [{"id": "tea"}, {"id": "nobody"}]})
    row = shop.row("tables", "1")
    assert ([line["id"] for line in row["orderItems"]], row["orderTotal"]) == (["rice", "ice"], 3)
    shop.table("void_item", {"id": "1", "items": [{"id": "rice"}, {"id": "ice"}]})
    row = shop.row("tables", "1")
    assert (row["orderItems"], row["orderTotal"], row["orderId"]) == ([], 0, "X-1")


def test_the_same_lines_again_change_nothing(shop: Shop) -> None:
    seat(shop, "1", "X-1")
    for _ in range(2):
        answer = shop.table("add_items", {"id": "1", "items": [TEA]})
        assert (answer.code, answer.revision, answer.version) == ("OK", 2, 2)
    assert shop.table("void_item", {"id": "1", "items": [{"id": "nobody"}]}).revision == 2


def test_nothing_is_made_of_lines_that_do_not_change(shop: Shop) -> None:
    """Found by the model test: a table without lines got an empty list of them from removing what it did not have."""
    shop.table("add", {"id": "1", "number": 1, "seats": 4, "status": "occupied"})
    answer = shop.table("void_item", {"id": "1", "items": [{"id": "nobody"}]})
    assert (answer.code, answer.revision, answer.version) == ("OK", 1, 1)
    assert "orderItems" not in shop.row("tables", "1")


def test_a_line_that_one_message_names_twice_gets_what_both_say(shop: Shop) -> None:
    """Found by the model test: a till sent a new line and its larger quantity at once, and the line lost its price."""
    seat(shop, "1", "X-1")
    twice = [TEA, RICE, {"id": "tea", "quantity": 3, "note": "hot"}]
    shop.table("add_items", {"id": "1", "items": twice})
    row = shop.row("tables", "1")
    assert row["orderItems"] == [{**TEA, "quantity": 3, "note": "hot"}, RICE]
    assert row["orderTotal"] == 3 * 500 + RICE["price"]
    shop.table("update_item", {"id": "1", "items": [{"id": "tea", "quantity": 4}, {"id": "tea", "note": "iced"}]})
    assert shop.row("tables", "1")["orderItems"] == [{**TEA, "quantity": 4, "note": "iced"}, RICE]


def test_a_line_without_a_price_leaves_the_total_to_the_terminals(shop: Shop) -> None:
    seat(shop, "1", "X-1")
    shop.table("update", {"id": "1", "orderId": "X-1", "orderItems": [TEA], "orderTotal": 900})
    shop.table("add_items", {"id": "1", "items": [{"id": "gift"}]})
    assert shop.row("tables", "1")["orderTotal"] == 900
    shop.table("update_item", {"id": "1", "items": [{"id": "gift", "price": "ask"}]})
    assert shop.row("tables", "1")["orderTotal"] == 900
    shop.table("update_item", {"id": "1", "items": [{"id": "gift", "price": 0}]})
    assert shop.row("tables", "1")["orderTotal"] == 1000


def test_the_first_lines_seat_the_guests(shop: Shop) -> None:
    shop.table("add", {"id": "1", "number": 1, "seats": 2, "status": "available", "orderId": None, "orderItems": None})
    shop.table("add_items", {"id": "1", "orderId": "X-1", "items": [TEA]})
    row = shop.row("tables", "1")
    assert (row["status"], row["orderId"], row["orderItems"], row["orderTotal"]) == ("occupied", "X-1", [TEA], 1000)
    # Nothing is left of the nulls they took the place of.
    assert shop.one("select extra from pos.tables where restaurant_id = %s", shop.restaurant_id) == {}


def test_lines_for_an_order_that_is_not_on_the_table_go_nowhere(shop: Shop) -> None:
    seat(shop, "1", "X-1")
    seat(shop, "2", "X-2")
    before = shop.snapshot()
    answer = shop.table("add_items", {"id": "1", "orderId": "X-2", "items": [TEA]}, "t2")
    assert (answer.code, answer.field) == ("CONFLICT", "orderId")
    assert answer.details == {"current": before["tables"][0]}
    assert shop.snapshot() == before
    assert shop.sql("select from pos.order_replacements where restaurant_id = %s", shop.restaurant_id) == []


def test_lines_for_an_order_that_got_another_id_find_it(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    seat(shop, "2", "X-1", RICE, client="t2")
    assert shop.table("add_items", {"id": "2", "orderId": "X-1", "items": [TEA]}, "t2").code == "OK"
    assert len(shop.row("tables", "2")["orderItems"]) == 2
    assert shop.table("add_items", {"id": "2", "orderId": "X-1", "items": [TEA]}, "t1").code == "CONFLICT"


@pytest.mark.parametrize("body", [{}, {"orderId": "X-1"}])
def test_nothing_is_added_to_a_bill_that_is_paid(shop: Shop, body: Row) -> None:
    seat(shop, "1", "X-1", TEA)
    pay(shop, "X-1", 1)
    for action in ("add_items", "update_item", "void_item"):
        answer = shop.table(action, {"id": "1", "items": [{**TEA, "quantity": 9}], **body}, "t2")
        assert (answer.code, answer.field) == ("CONFLICT", "orderId"), action
    shop.table("update", {"id": "1", "status": "available"})
    answer = shop.table("add_items", {"id": "1", "items": [TEA], "orderId": "X-1"}, "t2")
    assert (answer.code, answer.field) == ("CONFLICT", "orderId")
    assert shop.row("tables", "1")["status"] == "available"


def test_a_line_that_is_not_there_cannot_be_updated(shop: Shop) -> None:
    seat(shop, "1", "X-1", TEA)
    answer = shop.table(
        "update_item", {"id": "1", "items": [{"id": "tea", "quantity": 9}, {"id": "rice", "quantity": 1}]}
    )
    assert (answer.code, answer.field) == ("CONFLICT", "items")
    assert shop.row("tables", "1")["orderItems"] == [TEA]
    assert shop.table("add_items", {"id": "9", "items": [TEA]}).code == "VALIDATION"
