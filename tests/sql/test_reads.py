"""What the relay reads: changes in order and within bounds, exact snapshots, and no table read from end to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, LiteralString

import pytest

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Shop


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


def after(shop: Shop, revision: int, rows: int = 100, size: int = 10**6) -> list[int]:
    query: LiteralString = "select revision from pos.changes_after(%s, %s, %s, %s)"
    return [row[0] for row in shop.sql(query, shop.restaurant_id, revision, rows, size)]


def test_changes_come_in_order_after_a_revision(shop: Shop) -> None:
    for n in range(5):
        shop.settings({"n": n})
    assert after(shop, 0) == [1, 2, 3, 4, 5]
    assert after(shop, 3) == [4, 5]
    assert after(shop, 5) == after(shop, 99) == []
    assert after(shop, 1, rows=2) == [2, 3]
    [row] = shop.sql(
        "select revision, type, action, row_id, version, data, client_id from pos.changes_after(1, 4, 9, 9)"
    )
    assert row == (5, "UPDATE_SETTINGS", "update", None, 5, {"n": 4}, "t1")


def test_changes_are_bounded_by_bytes_but_the_first_always_comes(shop: Shop) -> None:
    for n in range(4):
        shop.dish("add_item", {**NEW_DISH, "id": str(n), "image": "x" * 10_000})
    size = shop.one("select min(size) from pos.sync_log")
    assert 10_000 < size < 10_500
    assert after(shop, 0, size=1) == [1]
    assert after(shop, 0, size=size + 1) == [1, 2]
    assert after(shop, 0, size=3 * size) == [1, 2, 3]
    assert after(shop, 2, size=0) == []


def test_many_restaurants_are_read_at_once_each_after_its_own_revision(shop: Shop) -> None:
    with shop.open("other") as other, shop.open("quiet") as quiet:
        for n in range(3):
            shop.settings({"n": n})
            other.table("add", {**NEW_TABLE, "id": str(n), "number": n})
        other.message({"kitchen": "bell"})
        ids = [other.restaurant_id, 99, shop.restaurant_id, quiet.restaurant_id]
        found = shop.sql(
            "select restaurant_id, head, messages, revision, action from pos.read_changes(%s, '{2,0,1,0}', 10, 100000)",
            ids,
        )
        assert found == [
            (shop.restaurant_id, 3, 0, 2, "update"),
            (shop.restaurant_id, 3, 0, 3, "update"),
            (other.restaurant_id, 3, 1, 3, "add"),
            (quiet.restaurant_id, 0, 0, None, None),
        ]
        heads = shop.sql("select restaurant_id, revision, messages from pos.read_heads(%s)", ids)
        assert sorted(heads) == [(shop.restaurant_id, 3, 0), (other.restaurant_id, 3, 1), (quiet.restaurant_id, 0, 0)]
        assert shop.sql("select restaurant_id, revision from pos.read_heads('{99}')") == [(None, None)]


def test_many_restaurants_are_read_as_one_is(shop: Shop) -> None:
    for n in range(6):
        shop.dish("add_item", {**NEW_DISH, "id": str(n), "image": "x" * 10_000 * n})
    many: LiteralString = "select revision, row_id, data::jsonb from pos.read_changes('{1}', array[%s], %s, %s)"
    one: LiteralString = "select revision, row_id, data from pos.changes_after(1, %s, %s, %s)"
    for bounds in ((0, 9, 10**6), (3, 9, 10**6), (0, 2, 10**6), (1, 9, 25_000), (1, 9, 61_000), (4, 9, 1), (0, 9, 300)):
        assert shop.sql(many, *bounds) == shop.sql(one, *bounds) != [], bounds


def test_a_change_carries_the_row_its_client_and_its_time(shop: Shop) -> None:
    before = shop.one("select extract(epoch from clock_timestamp()) * 1000")
    shop.table("add", NEW_TABLE, "tablet 7")
    [row] = shop.sql("select type, action, data, client_id, milliseconds from pos.read_changes('{1}', '{0}', 9, 9)")
    assert row[:4] == ("UPDATE_TABLE", "add", shop.rows("tables")["t"], "tablet 7")
    assert before - 1 <= row[4] <= before + 60_000


def test_a_snapshot_is_the_state_at_one_revision(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "number": 9})
    shop.table("add", {**NEW_TABLE, "id": "u", "number": 3})
    with shop.again(autocommit=False) as reader, shop.again(autocommit=False) as writer:
        writer.sql("update pos.tables set seats = 9")
        # What is not committed is not there,
        state = shop.snapshot()
        assert (state["revision"], [row["number"] for row in state["tables"]]) == (2, [3, 9])
        assert {row["seats"] for row in state["tables"]} == {4}
        writer.connection.commit()
        # and what is, is there with its revision.
        state = reader.snapshot()
        assert (state["revision"], {row["seats"] for row in state["tables"]}) == (4, {9})
    assert shop.sql("select * from pos.snapshot(99, 10)") == []


def test_an_empty_restaurant_has_an_empty_snapshot(shop: Shop) -> None:
    state = shop.snapshot()
    assert [state[key] for key in ("revision", "tables", "menu_items", "categories", "settings", "orders")] == [
        0, [], [], [], {}, [],
    ]  # fmt: skip


def test_orders_are_the_newest_and_can_be_paged(shop: Shop) -> None:
    for n in range(6):
        shop.order("add", {**NEW_ORDER, "id": f"o{n}"})
    shop.order("update", {"id": "o0", "total": 1})
    assert [row["id"] for row in shop.snapshot(orders=3)["orders"]] == ["o0", "o5", "o4"]
    pages: list[Any] = []
    before = 2**62
    while page := shop.sql("select revision, (data::jsonb) ->> 'id' from pos.read_orders(1, %s, 2)", before):
        pages += page
        before = page[-1][0]
    assert pages == [(7, "o0"), (6, "o5"), (5, "o4"), (4, "o3"), (3, "o2"), (2, "o1")]
    shop.order("clear", {})
    shop.order("add", {**NEW_ORDER, "id": "late"})
    assert shop.sql("select data::jsonb ->> 'id' from pos.read_orders(1, 99, 10)") == [("late",)]


def test_a_checklist_has_a_line_for_all_that_a_terminal_shows(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    shop.table("update", {"id": "t", "seats": 8})
    shop.dish("add_item", NEW_DISH)
    shop.dish("add_category", {"name": "Beverage and more"})
    shop.settings({"theme": "dark", "open": False, "taxRate": 5.50, "empty": ""})
    for n in range(3):
        shop.order("add", {**NEW_ORDER, "id": f"o{n}"})
    shop.order("update", {"id": "o0", "total": 1})
    query: LiteralString = "select revision, lines from pos.checklist(1, 2)"
    [(revision, lines)] = shop.sql(query)
    rest = {"table 2 t", "dish 1 d", "category Beverage and more", "setting theme dark", "setting open false"}
    rest |= {"setting taxRate", "setting empty "}
    assert (revision, set(lines)) == (shop.head, rest | {"order 2 o0", "order 1 o2"})
    shop.order("clear", {})
    assert shop.sql(query) == [(shop.head, [line for line in lines if not line.startswith("order")])]
    assert shop.sql("select from pos.checklist(99, 10)") == []


def test_a_checklist_is_of_one_revision(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    with shop.again(autocommit=False) as writer:
        writer.table("update", {"id": "t", "seats": 8})
        assert shop.sql("select revision, lines from pos.checklist(1, 9)") == [(1, ["table 1 t"])]
        writer.connection.commit()
        assert shop.sql("select revision, lines from pos.checklist(1, 9)") == [(2, ["table 2 t"])]


def test_only_messages_of_the_last_minute_are_read_and_the_newest_of_them(shop: Shop) -> None:
    shop.sql(
        """insert into pos.messages (restaurant_id, number, type, client_id, data, created_at)
           select 1, n, 'MESSAGE', 't1', '{}', now() - interval '2 minutes' * (n <= 50)::integer
           from generate_series(1, 1150) as n"""
    )
    read: LiteralString = "select number from pos.read_messages('{1}', array[%s::bigint])"
    assert [row[0] for row in shop.sql(read, 0)] == list(range(151, 1151))
    assert [row[0] for row in shop.sql(read, 1148)] == [1149, 1150]
    shop.sql("delete from pos.messages where number > 60")
    assert [row[0] for row in shop.sql(read, 0)] == list(range(51, 61))


# What is read often must not be read from end to end.

ROWS = 20_000
FILL: list[LiteralString] = [
    "insert into pos.restaurants (slug, name) select 'r' || n, 'x' from generate_series(1, 200) as n",
    """insert into pos.order_history (restaurant_id, id, status, total)
       select 1 + n %% 200, 'X-' || n, 'completed', 1 from generate_series(1, %s) as n""",
    """insert into pos.tables (restaurant_id, id, number, seats, order_id)
       select 1 + n %% 200, n, n, 4, 'X-' || n from generate_series(1, %s) as n""",
    """insert into pos.menu_items (restaurant_id, id, name, price)
       select 1 + n %% 200, n, 'x', n from generate_series(1, %s) as n""",
    """insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision)
       select 1 + n %% 200, 't', n, '', 1 from generate_series(1, %s) as n""",
    """insert into pos.order_replacements (restaurant_id, given_id, wanted_id, client_id, table_id)
       select 1 + n %% 200, 'g' || n, 'w' || n, 't', 1 from generate_series(1, %s) as n""",
]
LARGE = ("sync_log", "order_history", "tables", "menu_items", "mutations", "order_claims", "order_replacements")


def scans(shop: Shop) -> dict[str, int]:
    """How often each large table was read from end to end."""
    shop.sql("select pg_stat_force_next_flush()")
    query: LiteralString = "select relname, seq_scan from pg_stat_user_tables where relname = any (%s)"
    return dict(shop.sql(query, list(LARGE)))


def test_no_large_table_is_read_from_end_to_end(shop: Shop) -> None:
    for statement in FILL:
        shop.sql(statement, *([ROWS] if "%s" in statement else []))
    shop.sql("analyze")
    taken = {**NEW_ORDER, "id": "X-400", "tableNumber": 400}
    deeds: dict[str, Callable[[], object]] = {
        "changes": lambda: shop.sql("select from pos.changes_after(1, 100, 100, 100000)"),
        "changes of many": lambda: shop.sql("select from pos.read_changes('{1,2,3}', '{99,99,99}', 100, 100000)"),
        "heads": lambda: shop.sql("select from pos.read_heads('{1,2,3}')"),
        "a snapshot": lambda: shop.sql("select from pos.snapshot(1, 100)"),
        "orders": lambda: shop.sql("select from pos.read_orders(1, 100, 10)"),
        "a checklist": lambda: shop.sql("select from pos.checklist(1, 100)"),
        "a table": lambda: shop.table("update", {"id": "400", "seats": 3, "orderId": "X-9"}, id="m1"),
        "a table's number": lambda: shop.table("add", {**NEW_TABLE, "number": 400}),
        "lines": lambda: shop.table("add_items", {"id": "600", "items": [{"id": "1"}]}),
        "an order": lambda: shop.order("add", {**NEW_ORDER, "tableNumber": 400}, id="m2"),
        "an order's id": lambda: shop.order("add", taken, "t2"),
        "a dish": lambda: shop.dish("update_item", {"id": "400", "price": 1}),
        "an order id": shop.next_order_id,
        "plain SQL": lambda: shop.sql("update pos.tables set seats = 3 where restaurant_id = 1 and id = '800'"),
    }
    before = scans(shop)
    for name, deed in deeds.items():
        for _ in range(7):  # past the plans that know their parameters
            deed()
        assert scans(shop) == before, name


def test_rows_are_looked_up_by_their_key_by_plans_from_when_a_table_was_empty(shop: Shop) -> None:
    rows = 3000
    shop.sql("set plan_cache_mode = force_generic_plan")
    shop.sql(
        "insert into pos.tables (restaurant_id, id, number, seats) select 1, n, n, 4 from generate_series(1, %s) as n",
        rows,
    )
    shop.sql(
        """insert into pos.order_history (restaurant_id, id, status, total)
           select 1, n, 'completed', 1 from generate_series(1, %s) as n""",
        rows,
    )
    shop.table("update", {"id": "7", "seats": 5, "orderId": "A-1"}, id="m1")
    shop.order("update", {"id": "7", "total": 5}, id="m2")
    shop.sql("select pg_stat_force_next_flush()")
    # Entries read in an index, by each of its scans: the whole restaurant would be thousands.
    read: LiteralString = """select indexrelname, idx_tup_read / idx_scan from pg_stat_user_indexes
        where relname in ('tables', 'order_history', 'mutations', 'order_claims') and idx_tup_read > 100 * idx_scan"""
    assert shop.sql(read) == []


def blocks(shop: Shop, read: LiteralString) -> int:
    """How many blocks of tables and indexes a read looks at."""
    [(found,)] = shop.sql("explain (analyze, buffers, format json) execute " + read)
    plan = found[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("vacuumed", [False, True])
def test_a_restaurant_of_many_orders_and_changes_is_read_like_a_small_one(shop: Shop, *, vacuumed: bool) -> None:
    few, many = 200, 100_000
    reads: dict[LiteralString, LiteralString] = {
        "changes": "select from pos.changes_after(1, (select revision from pos.heads) - 100, 100, 100000)",
        "changes_of_many": """select from pos.read_changes(
            '{1}', array(select revision - 100 from pos.heads), 100, 100000)""",
        "heads": "select from pos.read_heads('{1}')",
        "a_snapshot": "select length(orders) from pos.snapshot(1, 100)",
        "orders": "select length(data) from pos.read_orders(1, 9223372036854775807, 100)",
        "a_checklist": "select lines from pos.checklist(1, 100)",
    }
    grow: LiteralString = """insert into pos.order_history (restaurant_id, id, status, total)
        select 1, n, 'completed', 1 from generate_series(%s::int, %s) as n"""
    for name, query in reads.items():
        shop.sql("prepare " + name + " as " + query)
    shop.sql(grow, 1, few)
    # Past the plans that know their parameters: what is kept from now on was made for a small restaurant.
    small = {name: min(blocks(shop, name) for _ in range(7)) for name in reads}
    shop.sql(grow, few + 1, many)
    if vacuumed:
        shop.sql("vacuum analyze")
    for name, found in small.items():
        # The first time after a vacuum it is planned anew, and looks at the catalogue too.
        assert min(blocks(shop, name) for _ in range(3)) <= 2 * found + 20, name
