"""Who changed what, and when: for every change, those made by hand among them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.cluster import TestCluster
from tests.least import as_role, install_roles
from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Mutation, Shop


@pytest.fixture
def shop(alone: Shop) -> Shop:
    return alone


def history(shop: Shop, table: str, id: str, restaurant: str | None = None) -> list[tuple[Any, ...]]:
    """Revision, client id, action, field, before, after."""
    return [
        tuple(row)
        for row in shop.sql(
            """select revision, client_id, action, field, before #>> '{}', after #>> '{}'
               from pos.history_of(%s, %s, %s)""",
            table,
            id,
            restaurant,
        )
    ]


def test_the_history_of_a_row_tells_each_field_before_and_after(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "id": "4", "note": "window"}, "bar")
    shop.table("update", {"id": "4", "seats": 6, "note": "door"}, "kitchen")
    shop.table("add", {**NEW_TABLE, "id": "5", "number": 41}, "bar")
    shop.sql("update pos.tables set status = 'occupied', extra = '{}' where id = '4'")
    shop.table("delete", {"id": "4"}, "bar")
    added = [
        (1, "bar", "add", key, None, str(value))
        for key, value in sorted({**NEW_TABLE, "id": "4", "note": "window"}.items())
    ]
    gone = {"id": "4", "number": "40", "seats": "6", "status": "occupied"}
    assert history(shop, "tables", "4") == [
        *added,
        (2, "kitchen", "update", "note", "window", "door"),
        (2, "kitchen", "update", "seats", "4", "6"),
        (4, "database", "update", "note", "door", None),
        (4, "database", "update", "status", "available", "occupied"),
        *[(5, "bar", "delete", key, value, None) for key, value in sorted(gone.items())],
    ]


def test_a_row_made_again_begins_anew_and_digits_count(shop: Shop) -> None:
    shop.dish("add_item", '{"id": "d", "name": "Tea", "price": 5, "category": "", "description": ""}')
    shop.dish("update_item", '{"id": "d", "price": 5.0}')
    shop.dish("delete_item", {"id": "d"})
    shop.dish("add_item", NEW_DISH)
    found = history(shop, "menu_items", "d")
    assert (2, "t1", "update_item", "price", "5", "5.0") in found
    assert [(field, before) for revision, _, _, field, before, _ in found if revision == 4] == [
        (key, None) for key in sorted(NEW_DISH)
    ]


def test_every_kind_of_row_has_a_history_and_each_restaurant_its_own(shop: Shop) -> None:
    shop.dish("add_category", {"name": "Tea"})
    shop.dish("delete_category", {"name": "Tea"})
    shop.order("add", NEW_ORDER)
    shop.order("void", {"id": NEW_ORDER["id"]})
    shop.settings({"taxRate": 5})
    shop.settings({"taxRate": 7})
    assert [row[2:] for row in history(shop, "categories", "Tea")] == [
        ("add_category", "name", None, "Tea"),
        ("delete_category", "name", "Tea", None),
    ]
    assert history(shop, "order_history", str(NEW_ORDER["id"]))[-1][2:] == ("update", "status", "pending", "void")
    assert history(shop, "restaurants", "")[-1][2:] == ("update", "taxRate", "5", "7")
    assert history(shop, "menu_items", "Tea") == []
    with shop.open("other") as other:
        other.table("add", NEW_TABLE)
    assert history(shop, "tables", "t") == []
    assert len(history(shop, "tables", "t", "other")) == len(NEW_TABLE)


def test_a_change_tells_the_terminal_its_role_and_address_or_who_it_may_have_been(shop: Shop) -> None:
    def note(client: str, *actor: str) -> None:
        shop.sql("select pos.note_actors('{1}', %s, %s, %s, %s)", [client], *([one] for one in actor))

    def who(revision: int) -> set[tuple[Any, ...]]:
        return set(
            shop.sql(
                "select terminal, role, terminal_address from pos.history_of('tables', 't') where revision = %s",
                revision,
            )
        )

    shop.table("add", NEW_TABLE, "early")
    note("early", "Bar 1", "terminal", "10.0.0.1")
    note("one", "Bar 1", "terminal", "10.0.0.1")
    note("shared", "Bar 1", "terminal", "10.0.0.1")
    note("shared", "Bar 2", "manager", "10.0.0.1")
    note("open", "", "", "10.0.0.3")
    for client in ("one", "shared", "open", "nobody"):
        shop.table("update", {"id": "t", "by": client}, client)
    shop.sql("update pos.tables set seats = 9")
    assert [who(revision) for revision in range(1, 7)] == [
        {(None, None, None)},
        {("Bar 1", "terminal", "10.0.0.1")},
        {("Bar 1 or Bar 2", "manager or terminal", "10.0.0.1")},
        {(None, None, "10.0.0.3")},
        {(None, None, None)},
        {(None, None, None)},
    ]
    # It is not taken for one that was here long before, and a second note is the same one.
    shop.sql("update pos.actors set first_at = first_at - interval '1 day', seen_at = seen_at - interval '16 minutes'")
    assert who(2) == {(None, None, None)}
    note("one", "Bar 1", "terminal", "10.0.0.1")
    assert who(2) == {("Bar 1", "terminal", "10.0.0.1")}
    shop.sql("update pos.actors set seen_at = now() - interval '91 days' where client_id = 'one'")
    shop.sql("select * from pos.prune('90 days', 100)")
    assert shop.one("select count(*) from pos.actors") == 4


def test_what_was_pruned_is_not_made_up(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    shop.table("update", {"id": "t", "seats": 6})
    shop.table("delete", {"id": "t"})
    shop.sql("select * from pos.prune_log(0, '0 days', 1, 10)")
    assert history(shop, "tables", "t") == [(3, "t1", "delete", None, None, None)]


def test_nobody_is_said_to_have_changed_what_was_before_the_log(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    shop.table("update", {"id": "t", "seats": 5}, client="who added it")
    shop.sql("delete from pos.sync_log where revision = 1")
    shop.sql("update pos.tables set seats = 6")
    history = shop.sql("select client_id, field, before, after ->> 'seats' from pos.history_of('tables', 't')")
    assert history == [("who added it", None, None, "5"), ("database", "seats", 5, None)]


def test_every_change_says_which_login_made_it_and_from_where(shop: Shop, cluster: TestCluster) -> None:
    install_roles(shop.conninfo)
    shop.sql("create role manager login in role pos_owner")
    try:
        name = shop.one("select current_database()")
        with psycopg.connect(cluster.tcp(name), user="manager", autocommit=True) as connection:
            connection.execute("insert into pos.tables (restaurant_id, id, number, seats) values (1, '4', 4, 2)")
            connection.execute("delete from pos.tables where id = '4'")
        with Shop(as_role(shop.conninfo, "pos_relay")) as relay:
            relay.apply([Mutation("UPDATE_TABLE", "add", NEW_TABLE, "bar")])
            relay.apply([Mutation("UPDATE_TABLE", "update", {"id": "t", "seats": n}, "bar") for n in range(3)])
        shop.table("update", {"id": "t", "seats": 9}, "bar")
    finally:
        shop.sql("drop role manager")
    assert shop.sql("select client_id, database_user, host(address) from pos.sync_log order by revision") == [
        *[("database", "manager", "127.0.0.1")] * 2,
        *[("bar", "pos_relay", None)] * 4,
        ("bar", "postgres", None),
    ]
    found = shop.sql("select database_user, host(address) from pos.history_of('tables', '4')")
    assert set(found) == {("manager", "127.0.0.1")}


def test_a_reader_reads_the_history_of_its_own_restaurant_only(shop: Shop) -> None:
    install_roles(shop.conninfo)
    shop.table("add", NEW_TABLE)
    with shop.open("other") as other:
        other.table("add", NEW_TABLE)
        other_id = other.restaurant_id
    shop.sql("create role accountant login in role pos_reader")
    try:
        with Shop(as_role(shop.conninfo, "accountant")) as reader:
            assert history(reader, "tables", "t") == []
            reader.sql("select set_config('pos.restaurant_id', %s, false)", str(other_id))
            assert history(reader, "tables", "t") == []
            assert len(history(reader, "tables", "t", "other")) == len(NEW_TABLE)
    finally:
        shop.sql("drop role accountant")
