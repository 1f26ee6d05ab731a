"""UPDATE_USERS and what else only the web app's sessions need: staff, ids apart, what each terminal has seen."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Answer, Mutation, Row, Shop, doorbell, parsed

MAY: Row = {
    "id": "1700000000001",
    "name": "May",
    "username": "may",
    "roleId": "waiter",
    "password": "m4y",
    "isActive": True,
}
ADMIN: Row = {
    "id": "1",
    "name": "Admin User",
    "username": "admin",
    "roleId": "admin",
    "password": "admin",
    "isActive": True,
}


def users(shop: Shop, action: str, body: Row, client: str = "a1") -> Answer:
    return shop.mutate(Mutation("UPDATE_USERS", action, body, client))


def staff(shop: Shop) -> dict[str, Row]:
    rows = shop.sql("select id, data, password from pos.read_staff(%s) where id is not null", shop.restaurant_id)
    return {row_id: parsed(data) | {"password": password} for row_id, data, password in rows}


def counter(shop: Shop) -> int:
    return int(shop.one("select staff from pos.heads where restaurant_id = %s", shop.restaurant_id))


def test_users_are_kept_field_by_field(shop: Shop) -> None:
    assert users(shop, "add", MAY).code == "OK"
    assert users(shop, "update", {"id": MAY["id"], "name": "May Thu", "shift": ["Mon"]}, "a2").code == "OK"
    assert staff(shop) == {MAY["id"]: MAY | {"name": "May Thu", "shift": ["Mon"]}}
    assert users(shop, "delete", {"id": MAY["id"]}).code == "OK"
    assert staff(shop) == {}


def test_users_have_no_revision_and_never_reach_the_log(shop: Shop) -> None:
    with doorbell(shop.conninfo) as bell:
        for number, (action, body) in enumerate((("add", MAY), ("update", MAY | {"password": "n3w"}), ("delete", MAY))):
            assert users(shop, action, body).revision == 0
            assert bell.rings() == [shop.restaurant_id]
            assert counter(shop) == number + 1
        shop.sql(
            "insert into pos.staff (restaurant_id, id, password) select %s, n, 'x' from generate_series(1, 9) as n",
            shop.restaurant_id,
        )
        assert (bell.rings(), counter(shop)) == ([shop.restaurant_id], 4)
        shop.sql("update pos.staff set password = 'x'")
        assert (bell.rings(), counter(shop)) == ([], 4)
    assert (
        shop.head,
        shop.log(),
        shop.sql("select * from pos.staged_changes where restaurant_id = %s", shop.restaurant_id),
    ) == (0, [], [])


def test_staff_and_rows_in_one_transaction_are_stamped_together(shop: Shop) -> None:
    with shop.again(autocommit=False) as by_hand:
        by_hand.sql("insert into pos.staff (restaurant_id, id) values (%s, '7')", shop.restaurant_id)
        by_hand.sql(
            "insert into pos.tables (restaurant_id, id, number, seats) values (%s, 't', 1, 2)", shop.restaurant_id
        )
        by_hand.connection.commit()
    assert (shop.head, counter(shop)) == (1, 1)
    shop.check()


def test_an_announced_default_user_overwrites_nothing_and_revives_nobody(shop: Shop) -> None:
    users(shop, "add", ADMIN)
    users(shop, "update", {"id": "1", "password": "changed"})
    assert users(shop, "add", ADMIN, "a2").code == "OK"
    assert staff(shop)["1"]["password"] == "changed"
    users(shop, "delete", {"id": "1"})
    assert users(shop, "add", ADMIN, "a3").code == "OK"
    assert staff(shop) == {}
    answer = users(shop, "update", ADMIN, "a3")
    assert (answer.code, answer.field) == ("GONE", "id")
    shop.sql("update pos.tombstones set deleted_at = now() - interval '10 years'")
    shop.sql("select * from pos.prune(interval '90 days', 1000)")
    users(shop, "add", ADMIN, "a4")
    assert staff(shop) == {}, "every fresh browser announces the default users, also after ten years"


def test_two_users_made_in_the_same_millisecond_are_both_kept(shop: Shop) -> None:
    users(shop, "add", MAY)
    users(shop, "add", MAY | {"name": "Thida", "username": "thida"}, "a2")
    users(shop, "add", MAY)
    assert [user["name"] for user in staff(shop).values()] == ["May", "Thida"]
    assert list(staff(shop)) == ["1700000000001", "1700000000002"]


def test_a_user_needs_a_name_to_log_in_with(shop: Shop) -> None:
    answer = users(shop, "add", {"id": "9", "name": "Nobody"})
    assert (answer.code, answer.field) == ("VALIDATION", "username")
    assert users(shop, "rename", MAY).code == "UNKNOWN_ACTION"


def test_a_sealed_password_replaces_only_the_one_it_was_made_from(shop: Shop) -> None:
    users(shop, "add", MAY)
    shop.sql("select pos.seal_password(%s, %s, 'other', 'sealed')", shop.restaurant_id, MAY["id"])
    assert staff(shop)[MAY["id"]]["password"] == "m4y"
    shop.sql("select pos.seal_password(%s, %s, 'm4y', 'sealed')", shop.restaurant_id, MAY["id"])
    assert staff(shop)[MAY["id"]]["password"] == "sealed"


def test_a_restaurant_without_users_still_has_a_count(shop: Shop) -> None:
    assert shop.sql("select staff, complete, id from pos.read_staff(%s)", shop.restaurant_id) == [(0, False, None)]
    shop.sql("update pos.restaurants set complete = true where restaurant_id = %s", shop.restaurant_id)
    assert shop.sql("select staff, complete, id from pos.read_staff(%s)", shop.restaurant_id) == [(1, True, None)]


def test_the_id_of_a_user_cannot_be_changed_and_staff_not_truncated(shop: Shop) -> None:
    users(shop, "add", MAY)
    for statement in ("update pos.staff set id = 'other'", "truncate pos.staff"):
        with pytest.raises(psycopg.Error) as caught:
            shop.connection.execute(statement)
        assert caught.value.sqlstate == "RL403"


def test_seeding_brings_nobody_back(shop: Shop) -> None:
    """A restaurant that is not complete: what its terminals have deleted was deleted by people."""
    users(shop, "delete", {"id": "3"})
    assert shop.one("select count(*) from pos.tombstones where restaurant_id = %s", shop.restaurant_id) == 1
    users(shop, "add", ADMIN | {"id": "3", "username": "waiter"})
    assert staff(shop) == {}


# Ids that two terminals made in the same millisecond


@pytest.mark.parametrize(
    ("kind", "table", "action", "body"),
    [
        ("UPDATE_TABLE", "tables", "add_apart", NEW_TABLE | {"id": "table_1700000000009"}),
        ("UPDATE_MENU", "menu_items", "add_item_apart", NEW_DISH | {"id": "item_1700000000009"}),
    ],
)
def test_an_add_of_the_app_under_an_id_of_another_terminal_is_another_row(
    shop: Shop, kind: str, table: Any, action: str, body: Row
) -> None:
    for client in ("a1", "a2"):
        assert shop.mutate(Mutation(kind, action, body | {"note": client}, client)).code == "OK"
    first = body["id"]
    second = first.replace("0009", "0010")
    assert sorted(shop.rows(table)) == [first, second]
    assert (shop.row(table, first)["note"], shop.row(table, second)["note"]) == ("a1", "a2")
    assert [change.action for change in shop.log()] == [action.removesuffix("_apart")] * len(shop.log())
    shop.check()


def test_an_add_of_the_app_repeated_by_the_same_terminal_is_an_update(shop: Shop) -> None:
    body = NEW_TABLE | {"id": "table_1700000000001"}
    for seats in (2, 6):
        shop.table("add_apart", body | {"seats": seats}, "a1")
    assert [row["seats"] for row in map(parsed, shop.rows("tables").values())] == [6]


@pytest.mark.parametrize("wanted", ["x" * 128, "9" * 128, "table", "", "7 ", "a" * 120 + "99999999"])
def test_an_id_apart_is_free_and_no_longer_than_an_id_may_be(shop: Shop, wanted: str) -> None:
    given = shop.one("select pos.id_apart(%s, 'tables', %s)", shop.restaurant_id, wanted)
    assert given != wanted
    assert 1 <= len(given) <= 128


def test_an_id_apart_is_never_a_deleted_one(shop: Shop) -> None:
    shop.table("add", NEW_TABLE | {"id": "t2"})
    shop.table("delete", {"id": "t2"})
    assert shop.one("select pos.id_apart(%s, 'tables', 't1')", shop.restaurant_id) == "t3"


def test_an_order_stored_under_another_id_says_which(shop: Shop) -> None:
    assert shop.order("add", NEW_ORDER).details is None
    answer = shop.order("add", NEW_ORDER | {"createdAt": "2026-01-02T04:00:00Z"}, "t2")
    assert answer.details == {"orderId": "POS-01022026-002"}


# Lists


def test_lists_hold_what_was_asked_for_and_nothing_else(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    for number in (1, 2, 3):
        shop.order("add", NEW_ORDER | {"id": f"o{number}", "createdAt": f"2026-01-02T0{number}:00:00Z"})
    names = "epoch, revision, tables, menu_items, categories, settings, orders, complete, cleared_revision"
    query: Any = f"select {names} from pos.read_lists(%s, %s, %s, %s)"
    [row] = shop.sql(query, shop.restaurant_id, ["tables", "orders"], ["o1", "o3", "unknown"], 1000)
    assert row[1] == shop.head
    assert [table["id"] for table in parsed(row[2])] == ["t"]
    assert row[3:6] == (None, None, None)
    assert [order["id"] for order in parsed(row[6])] == ["o3", "o1"]
    assert row[7:] == (False, 0)
    cleared = shop.order("clear", {}).revision
    shop.order("update", {"id": "o2", "total": 7})
    [row] = shop.sql(query, shop.restaurant_id, ["orders"], None, 1000)
    assert [order["id"] for order in parsed(row[6])] == ["o2"]
    assert row[8] == cleared


# What each terminal has seen


def test_a_terminal_is_met_and_what_it_saw_is_noted(shop: Shop) -> None:
    assert shop.one("select pos.meet_terminal(%s, 'client_1')", shop.restaurant_id) is None
    assert shop.one("select pos.meet_terminal(%s, 'client_1')", shop.restaurant_id) == 0
    shop.sql(
        "select pos.note_terminals(array[%s, %s], array['client_1', 'unknown'], array[17, 18])",
        shop.restaurant_id,
        shop.restaurant_id,
    )
    assert shop.one("select pos.meet_terminal(%s, 'client_1')", shop.restaurant_id) == 17
    assert shop.sql("select client_id from pos.app_terminals where restaurant_id = %s", shop.restaurant_id) == [
        ("client_1",)
    ]


def test_a_terminal_away_for_a_week_is_forgotten(shop: Shop) -> None:
    for client in ("client_1", "client_2"):
        shop.sql("select pos.meet_terminal(%s, %s)", shop.restaurant_id, client)
    shop.sql("update pos.app_terminals set seen_at = now() - interval '8 days' where client_id = 'client_1'")
    shop.sql("select * from pos.prune(interval '90 days', 1000)")
    assert shop.sql("select client_id from pos.app_terminals where restaurant_id = %s", shop.restaurant_id) == [
        ("client_2",)
    ]


def test_session_messages_are_marked_for_the_app(shop: Shop) -> None:
    for type_ in ("USER_LOGIN", "FORCE_LOGOUT"):
        assert shop.mutate(Mutation(type_, None, {"to": "nobody", "userId": "1"}, "a1")).code == "OK"
    shop.message({"to": "t2", "text": "bell"})
    found = shop.sql(
        "select type, profile, client_id, to_client_id from pos.read_messages(array[%s], array[0])", shop.restaurant_id
    )
    assert found == [
        ("USER_LOGIN", "app", "a1", None),
        ("FORCE_LOGOUT", "app", "a1", None),
        ("MESSAGE", None, "t1", "t2"),
    ]


# Orders of the app


def test_the_same_lines_on_two_tables_are_two_orders_of_the_app(shop: Shop) -> None:
    """One beer at each of two tables, under the number that the app gives both of them."""
    beer = {"orderId": "POS-01022026-001", "orderItems": [{"id": "6", "quantity": 1}], "status": "occupied"}
    for number in (1, 2, 3):
        shop.table("add", NEW_TABLE | {"id": str(number), "number": number})
    for number, client in ((1, "a1"), (2, "a2"), (3, "a1"), (2, "a2")):
        shop.table("update_apart", {"id": str(number)} | beer, client)
    ids = [shop.row("tables", str(number))["orderId"] for number in (1, 2, 3)]
    assert ids == ["POS-01022026-001", "POS-01022026-002", "POS-01022026-003"]
    for number, client in ((1, "a1"), (2, "a2"), (3, "a1")):
        order = NEW_ORDER | {"tableNumber": number, "status": "completed", "createdAt": f"2026-01-02T0{number}:00:00Z"}
        shop.order("add", order, client)
    assert sorted(shop.rows("order_history")) == ids
    shop.check()


def test_after_a_clear_an_order_that_counts_anew_is_another_one(shop: Shop) -> None:
    shop.table("add", NEW_TABLE | {"id": "1", "number": 1})
    wanted = {"id": "1", "orderId": NEW_ORDER["id"], "orderItems": [{"id": "6"}], "status": "occupied"}
    shop.table("update", wanted)
    shop.order("add", NEW_ORDER | {"tableNumber": 1, "status": "completed"})
    assert shop.table("update", wanted).code == "CONFLICT", "a late save of an order that is paid"
    shop.table("update", {"id": "1", "status": "available"})
    shop.order("clear", {})
    for _ in range(2):
        assert shop.table("update", wanted).code == "OK"
        assert shop.row("tables", "1")["orderId"] == "POS-01022026-002"
