"""Rows changed by hand: what a statement logs, whom it rings, what it costs, what it may not do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Shop, doorbell, waiting
from tests.waiting import wait_until


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


DISHES: LiteralString = """insert into pos.menu_items (restaurant_id, id, name, price)
                           select 1, n, 'Dish ' || n, n from generate_series(1, %s) as n"""
ORDERS: LiteralString = """insert into pos.order_history (restaurant_id, id, status, total)
                           select 1, n, 'pending', n from generate_series(1, %s) as n"""


def stock(shop: Shop) -> None:
    """One row of each kind."""
    shop.table("add", NEW_TABLE)
    shop.dish("add_item", NEW_DISH)
    shop.dish("add_category", {"name": "Beverage"})
    shop.order("add", NEW_ORDER)
    shop.settings({"theme": "dark"})


STATEMENTS: list[tuple[LiteralString, list[tuple[str, str]]]] = [
    ("insert into pos.tables (restaurant_id, id, number, seats) values (1, 'u', 1, 2)", [("UPDATE_TABLE", "add")]),
    ("update pos.tables set status = 'occupied'", [("UPDATE_TABLE", "update")]),
    ('update pos.tables set extra = extra || \'{"mood": "merry"}\'', [("UPDATE_TABLE", "update")]),
    ("delete from pos.tables", [("UPDATE_TABLE", "delete")]),
    (
        "insert into pos.menu_items (restaurant_id, id, name, price) values (1, 'u', 'Tea', 1)",
        [("UPDATE_MENU", "add_item")],
    ),
    ("update pos.menu_items set price = price * 1.1", [("UPDATE_MENU", "update_item")]),
    ("update pos.menu_items set price = 500.0", [("UPDATE_MENU", "update_item")]),
    ("delete from pos.menu_items", [("UPDATE_MENU", "delete_item")]),
    ("insert into pos.categories (restaurant_id, name) values (1, 'Pizza')", [("UPDATE_MENU", "add_category")]),
    ("update pos.categories set position = position + 1", [("UPDATE_MENU", "add_category")]),
    ("delete from pos.categories", [("UPDATE_MENU", "delete_category")]),
    (
        "insert into pos.order_history (restaurant_id, id, status, total) values (1, 'u', 'done', 1)",
        [("UPDATE_ORDER", "add")],
    ),
    ("update pos.order_history set status = 'void'", [("UPDATE_ORDER", "update")]),
    ("update pos.restaurants set settings = settings || '{\"taxRate\": 5.0}'", [("UPDATE_SETTINGS", "update")]),
    (
        "with t as (update pos.tables set seats = 1) update pos.menu_items set price = 1",
        [("UPDATE_TABLE", "update"), ("UPDATE_MENU", "update_item")],
    ),
]


@pytest.mark.parametrize(("statement", "changes"), STATEMENTS)
def test_a_statement_logs_what_it_changed_and_rings_once(
    shop: Shop, statement: LiteralString, changes: list[tuple[str, str]]
) -> None:
    stock(shop)
    with doorbell(shop.conninfo) as bell:
        shop.sql(statement)
        assert bell.rings() == [1]
    logged = shop.log(5)
    assert sorted((c.type, c.action) for c in logged) == sorted(changes)
    assert {c.client_id for c in logged} == {"database"}
    shop.check()


NOTHING: list[LiteralString] = [
    "update pos.tables set seats = seats, status = 'available'",
    "update pos.tables set version = 9, updated_by = 'me', updated_at = now(), created_by = 'me'",
    "update pos.menu_items set price = 500, name = 'Tea'",
    "update pos.categories set name = name",
    "update pos.order_history set total = total, revision = 99, version = 99",
    'update pos.restaurants set settings = settings || \'{"theme": "dark"}\', settings_version = 9',
    "update pos.restaurants set name = 'New name', slug = 'new-slug', time_zone = 'Asia/Yangon'",
    "update pos.tables set seats = 5 where id = 'nobody'",
    "delete from pos.tables where id = 'nobody'",
    "insert into pos.tables (restaurant_id, id, number, seats) select 1, 'x', 1, 1 where false",
    """insert into pos.tables (restaurant_id, id, number, seats) values (1, 't', 1, 1)
       on conflict (restaurant_id, id) do nothing""",
    "do $$ begin perform 1 / 0 from pos.tables; exception when division_by_zero then null; end $$",
    'select pos.update_table(1, \'update\', \'{"id": "t", "seats": 4}\')',
    "select pos.update_table(1, 'delete', '{\"id\": \"nobody\"}')",
    "select pos.update_menu(1, 'add_category', '{\"name\": \"Beverage\"}')",
]


def test_a_statement_that_changes_nothing_logs_nothing_and_rings_nobody(shop: Shop) -> None:
    stock(shop)
    with doorbell(shop.conninfo) as bell:
        for statement in NOTHING:
            shop.sql(statement)
            assert (bell.rings(), shop.head) == ([], 5), statement
    shop.check()


def test_ten_thousand_changed_rows_ring_once(shop: Shop) -> None:
    shop.sql(DISHES, 10_000)
    with doorbell(shop.conninfo) as bell:
        shop.sql("update pos.menu_items set price = price * 1.1")
        assert bell.rings() == [1]
    assert shop.head == 20_000
    assert shop.one("select count(*) from pos.sync_log where action = 'update_item'") == 10_000


@pytest.mark.parametrize("table", ["menu_items", "order_history"])
def test_a_bulk_update_costs_linear_time(shop: Shop, table: str) -> None:
    column = {"menu_items": "price", "order_history": "total"}[table]
    update = sql.SQL("update pos.{} set {column} = {column} + 1 where id::int <= {}")

    def seconds(rows: int) -> float:
        started = time.monotonic()
        shop.connection.execute(update.format(sql.Identifier(table), rows, column=sql.Identifier(column)))
        return time.monotonic() - started

    shop.sql(DISHES if table == "menu_items" else ORDERS, 16_000)
    seconds(100)
    small = min(seconds(2_000), seconds(2_000))
    # Eight times the rows: quadratic were 64 times the time.
    assert seconds(16_000) < 24 * small


def test_numbers_can_be_moved_up_in_one_statement(shop: Shop) -> None:
    for n in range(1, 6):
        shop.table("add", {**NEW_TABLE, "id": str(n), "number": n})
    shop.sql("update pos.tables set number = number + 1")
    assert [row["number"] for row in shop.snapshot()["tables"]] == [2, 3, 4, 5, 6]
    with pytest.raises(psycopg.errors.UniqueViolation):
        shop.sql("update pos.tables set number = 2 where id = '5'")
    shop.check()


def test_an_upsert_is_an_add_or_an_update(shop: Shop) -> None:
    upsert: LiteralString = """insert into pos.tables (restaurant_id, id, number, seats)
                               values (1, 'a', 1, %s), (1, %s, 2, 2)
                               on conflict (restaurant_id, id) do update set seats = excluded.seats"""
    shop.sql(upsert, 4, "b")
    shop.sql(upsert, 6, "b")
    assert [(c.action, c.row_id, c.version, c.data["seats"]) for c in shop.log()] == [
        ("add", "a", 1, 4),
        ("add", "b", 1, 2),
        ("update", "a", 2, 6),
    ]
    shop.check()


def test_copied_rows_are_logged(shop: Shop) -> None:
    with (
        shop.connection.cursor() as cursor,
        cursor.copy("copy pos.menu_items (restaurant_id, id, name, price) from stdin") as copy,
    ):
        for n in range(1_000):
            copy.write_row((1, str(n), "Dish", n))
    assert [c.row_id for c in shop.log()] == [str(n) for n in range(1_000)]
    shop.check()


@pytest.mark.parametrize("one_transaction", [True, False])
def test_a_row_that_is_deleted_and_made_again_goes_on_counting(shop: Shop, one_transaction: bool) -> None:
    shop.table("add", NEW_TABLE)
    with shop.again(autocommit=not one_transaction) as other:
        other.sql("delete from pos.tables")
        other.sql("insert into pos.tables (restaurant_id, id, number, seats) values (1, 't', 7, 7)")
        if one_transaction:
            other.connection.commit()
    assert [(c.action, c.version) for c in shop.log()] == [("add", 1), ("delete", 2), ("add", 3)]
    assert shop.sql("select from pos.tombstones") == []
    shop.check()


@pytest.mark.parametrize(
    ("table", "key", "values"),
    [
        ("tables", "id", "(1, %s, 8, 8)"),
        ("menu_items", "id", "(1, %s, 'Tea', 1)"),
        ("categories", "name", "(1, %s)"),
    ],
)
def test_a_row_made_while_its_delete_is_on_its_way_goes_on_counting(
    shop: Shop, table: LiteralString, key: LiteralString, values: LiteralString
) -> None:
    columns: LiteralString = {"tables": "id, number, seats", "menu_items": "id, name, price", "categories": "name"}[
        table
    ]
    insert = "insert into pos." + table + " (restaurant_id, " + columns + ") values " + values
    shop.sql(insert, "x")
    with shop.again(autocommit=False) as first, shop.again() as second, ThreadPoolExecutor(1) as pool:
        first.sql("delete from pos." + table)
        waits = pool.submit(second.sql, insert, "x")
        wait_until(lambda: waiting(shop) == 1, what="an insert that waits")
        first.connection.commit()
        waits.result()
    shop.sql("delete from pos." + table + " where " + key + " = 'x'")
    assert [change.version for change in shop.log()] == [1, 2, 3, 4]
    shop.check()


def test_truncating_what_terminals_show_is_refused(shop: Shop) -> None:
    stock(shop)
    for table in ("restaurants", "tables", "menu_items", "categories", "order_history"):
        with pytest.raises(psycopg.Error, match=f"pos.{table} cannot be truncated") as refused:
            shop.connection.execute(sql.SQL("truncate pos.{} cascade").format(sql.Identifier(table)))
        assert refused.value.sqlstate == "RL403"
    shop.check()


def test_a_sale_cannot_be_deleted_and_the_hint_says_what_to_do(shop: Shop) -> None:
    shop.order("add", NEW_ORDER)
    with pytest.raises(psycopg.Error, match="no sale may be lost") as refused:
        shop.sql("delete from pos.order_history")
    assert refused.value.sqlstate == "RL403"
    assert "status = 'void'" in (refused.value.diag.message_hint or "")
    shop.sql("update pos.order_history set status = 'void'")
    assert shop.log()[-1].data["status"] == "void"


KEYS: list[LiteralString] = [
    "update pos.tables set id = 'u'",
    "update pos.menu_items set id = 'u'",
    "update pos.order_history set id = 'u'",
    "update pos.categories set name = 'u'",
    "update pos.restaurants set restaurant_id = 99",
]


def test_a_key_cannot_be_changed(shop: Shop) -> None:
    stock(shop)
    for statement in KEYS:
        with pytest.raises(psycopg.Error) as refused:
            shop.sql(statement)
        assert refused.value.sqlstate == "RL403", statement
    shop.check()
