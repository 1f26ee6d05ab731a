"""Two different sales with one id never overwrite each other (PROTOCOL.md section 2)."""

from __future__ import annotations

import pytest

from tests.sql.shop import NEW_ORDER, Row, Shop

ID = str(NEW_ORDER["id"])
OTHER: Row = {**NEW_ORDER, "tableNumber": 9, "total": 77, "createdAt": "2026-01-02T09:00:00Z"}


def without(row: Row, *fields: str) -> Row:
    return {key: value for key, value in row.items() if key not in fields}


def test_the_same_sale_again_is_a_repeat_and_with_other_content_an_update(shop: Shop) -> None:
    shop.order("add", NEW_ORDER, "t1")
    # The time is what counts, not how it is written.
    for created_at in (NEW_ORDER["createdAt"], "2026-01-02T03:04:05.678+00:00", 1767323045678):
        assert shop.order("add", {**NEW_ORDER, "createdAt": created_at, "tableNumber": 9}, "t2").code == "OK"
    assert shop.order("add", {**NEW_ORDER, "total": 1}, "t3").version == 5
    head = shop.head
    assert shop.order("add", {**NEW_ORDER, "total": 1}, "t4").revision == head
    assert shop.rows("order_history").keys() == {ID}
    shop.check()


def test_a_different_sale_with_a_message_id_is_told_of_a_free_id(shop: Shop) -> None:
    shop.order("add", NEW_ORDER, "t1")
    for n in (2, 3):
        answer = shop.order("add", OTHER, "t2", id="m1")
        assert (answer.code, answer.field) == ("ORDER_ID_TAKEN", "id")
        # Free, and never told twice.
        assert answer.details == {"suggestedId": f"POS-01022026-00{n}"}
    assert shop.row("order_history", ID) == {**NEW_ORDER, "version": 1}
    assert shop.order("add", {**OTHER, "id": "POS-01022026-003"}, "t2", id="m1").code == "OK"
    shop.check()


def test_a_different_sale_without_one_is_stored_under_the_next_free_number(shop: Shop) -> None:
    for n in (1, 2, 4):
        shop.order("add", {**NEW_ORDER, "id": f"POS-01022026-00{n}"}, "t1")
    shop.order("add", OTHER, "t2")
    assert shop.log()[-1].data == {**OTHER, "id": "POS-01022026-003", "version": 1}
    shop.order("add", {**OTHER, "createdAt": "2026-01-02T10:00:00Z"}, "t3")
    assert shop.log()[-1].row_id == "POS-01022026-005"
    assert shop.row("order_history", ID) == {**NEW_ORDER, "version": 1}


def test_a_replacement_is_remembered_by_whoever_sends_that_sale(shop: Shop) -> None:
    shop.order("add", NEW_ORDER, "t1")
    shop.order("add", OTHER, "t2")
    second = "POS-01022026-002"
    head = shop.head
    shop.order("add", OTHER, "t2")
    assert shop.order("add", OTHER, "t9", id="m1").revision == head
    shop.order("update", {**OTHER, "status": "completed"}, "t2")
    assert shop.row("order_history", second)["status"] == "completed"
    shop.order("void", {"id": ID, "createdAt": OTHER["createdAt"]}, "t3")
    assert shop.row("order_history", second)["status"] == "void"
    assert shop.row("order_history", ID) == {**NEW_ORDER, "version": 1}


def test_an_id_alone_means_the_terminals_own_sale_unless_it_knows_better(shop: Shop) -> None:
    shop.order("add", NEW_ORDER, "t1")
    shop.order("add", OTHER, "t2")
    shop.order("void", {"id": ID}, "t2")
    assert (shop.row("order_history", ID)["version"], shop.row("order_history", "POS-01022026-002")["status"]) == (
        1,
        "void",
    )
    # Who gives messages ids was told what its order is called.
    shop.order("update", {"id": ID, "tip": 1}, "t2", id="m1")
    assert shop.row("order_history", ID)["tip"] == 1
    shop.order("void", {"id": ID}, "t3")
    assert shop.row("order_history", ID)["status"] == "void"


@pytest.mark.parametrize("action", ["update", "void"])
def test_nobody_edits_or_voids_a_different_sale(shop: Shop, action: str) -> None:
    shop.order("add", NEW_ORDER, "t1")
    for id in (None, "m1"):
        answer = shop.order(action, OTHER, "t2", id=id)
        assert (answer.code, answer.field) == ("CONFLICT", "id")
        assert answer.details == {"current": {**NEW_ORDER, "version": 1}}
    assert shop.head == 1


@pytest.mark.parametrize(
    ("first", "second", "client", "same"),
    [
        (NEW_ORDER, without(NEW_ORDER, "createdAt"), "t1", True),
        (NEW_ORDER, without(OTHER, "createdAt"), "t1", True),
        (NEW_ORDER, without(NEW_ORDER, "createdAt"), "t2", True),
        (NEW_ORDER, without(OTHER, "createdAt"), "t2", False),
        (without(NEW_ORDER, "createdAt"), OTHER, "t2", False),
        ({**NEW_ORDER, "createdAt": None}, {**OTHER, "createdAt": None}, "t2", False),
        ({**NEW_ORDER, "tableNumber": None}, without(OTHER, "createdAt"), "t2", False),
        ({**NEW_ORDER, "tableNumber": None}, {**without(OTHER, "createdAt"), "tableNumber": None}, "t2", True),
    ],
)
def test_without_createdat_a_sale_is_known_by_terminal_or_table(
    shop: Shop, first: Row, second: Row, client: str, same: bool
) -> None:
    shop.order("add", first, "t1")
    shop.order("add", second, client)
    assert len(shop.rows("order_history")) == (1 if same else 2)


def test_an_answer_names_the_id_that_a_sale_has_here(shop: Shop) -> None:
    """Found by the model test: an add and an update did, a void did not."""
    shop.order("add", NEW_ORDER, "t1")
    shop.order("add", OTHER, "t2")
    for action in ("add", "update", "void"):
        answer = shop.order(action, {**OTHER, "status": "void"}, "t2", id=action)
        assert (answer.code, answer.details) == ("OK", {"orderId": "POS-01022026-002"}), action
        assert shop.order(action, {**OTHER, "status": "void"}, "t2", id=action) == answer
