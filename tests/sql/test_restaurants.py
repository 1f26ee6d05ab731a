"""Tenants: made plainly, kept apart, taken away only when nothing of theirs is lost."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Mutation, Shop, codes, doorbell


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


def test_a_restaurant_inserted_plainly_works_from_revision_0(shop: Shop) -> None:
    with doorbell(shop.conninfo) as bell:
        shop.sql("insert into pos.restaurants (slug, name) values ('cafe', 'Café')")
        assert bell.rings() == []
    [(restaurant_id, slug)] = shop.sql("select * from pos.find_restaurant('cafe')")
    with Shop(shop.conninfo, restaurant_id) as cafe:
        assert (slug, cafe.head, cafe.log()) == ("cafe", 0, [])
        assert cafe.snapshot()["revision"] == 0
        assert cafe.table("add", NEW_TABLE).revision == 1
        cafe.sql("insert into pos.tables (restaurant_id, id, number, seats) values (%s, 'u', 2, 2)", restaurant_id)
        assert cafe.head == 2
        cafe.check()


def test_the_restaurant_that_nobody_names_is_the_default_one(shop: Shop) -> None:
    assert shop.sql("select * from pos.find_restaurant(null)") == [(1, "default")]
    assert shop.sql("select * from pos.find_restaurant('nowhere')") == []


def test_nothing_crosses_from_one_restaurant_to_another(shop: Shop) -> None:
    with shop.open("other") as other:
        for each, seats in ((shop, 2), (other, 4)):
            assert each.table("add", {**NEW_TABLE, "seats": seats, "orderId": "X-1"}, id="m1").revision == 1
            each.dish("add_item", NEW_DISH, id="m2")
            each.dish("add_category", {"name": "Tea"}, id="m3")
            each.order("add", {**NEW_ORDER, "createdAt": seats}, id="m4")
            each.settings({"n": seats}, id="m5")
        shop.table("delete", {"id": "t"})
        shop.order("clear", {})
        assert other.table("update", {"id": "t", "status": "occupied"}).code == "OK"
        state = other.snapshot()
        assert (state["tables"][0]["seats"], state["settings"], len(state["orders"])) == (4, {"n": 4}, 1)
        shop.check()
        other.check()


def test_a_mutation_for_a_restaurant_that_is_not_there_is_refused(shop: Shop) -> None:
    nowhere = Mutation("UPDATE_TABLE", "add", NEW_TABLE, restaurant_id=99)
    here = Mutation("UPDATE_TABLE", "add", NEW_TABLE)
    assert codes(shop.apply([nowhere, here])) == ["APART", "OK"]
    assert codes(shop.apply([nowhere], isolate=True)) == ["SQLSTATE RL404"]


WRONG: list[LiteralString] = [
    "insert into pos.restaurants (slug, name) values ('has space', 'x')",
    "insert into pos.restaurants (slug, name) values ('', 'x')",
    "insert into pos.restaurants (slug, name) values ('default', 'x')",
    "insert into pos.restaurants (slug, name) values ('x', '')",
    "insert into pos.restaurants (slug, name, settings) values ('x', 'x', '[]')",
    "insert into pos.restaurants (slug, name, time_zone) values ('x', 'x', 'Mars/Olympus Mons')",
    "update pos.restaurants set time_zone = 'Mars/Olympus Mons'",
]


def test_a_restaurant_that_would_not_work_is_refused(shop: Shop) -> None:
    for statement in WRONG:
        with pytest.raises(psycopg.Error):
            shop.sql(statement)
    assert shop.one("select count(*) from pos.restaurants") == 1


def test_a_restaurant_without_rows_can_be_deleted_and_leaves_nothing(shop: Shop) -> None:
    with shop.open("brief") as brief:
        brief.table("add", {**NEW_TABLE, "orderId": "X-1"}, id="m1")
        brief.dish("add_category", {"name": "Tea"})
        brief.next_order_id()
        brief.message({"kitchen": "bell"})
        with shop.connection.transaction():
            shop.sql("delete from pos.tables where restaurant_id = %s", brief.restaurant_id)
            shop.sql("delete from pos.categories where restaurant_id = %s", brief.restaurant_id)
            shop.sql("update pos.restaurants set settings = '{\"n\": 1}' where slug = 'brief'")
            shop.sql("delete from pos.restaurants where slug = 'brief'")
        for table in shop.sql(TABLES_WITH_A_RESTAURANT):
            query = psycopg.sql.SQL("select from pos.{} where restaurant_id = %s").format(
                psycopg.sql.Identifier(table[0])
            )
            assert shop.connection.execute(query, (brief.restaurant_id,)).fetchall() == [], table
    assert shop.table("add", NEW_TABLE).revision == 1


TABLES_WITH_A_RESTAURANT: LiteralString = """
    select c.relname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
    where c.relnamespace = 'pos'::regnamespace and c.relkind = 'r' and a.attname = 'restaurant_id'"""


@pytest.mark.parametrize("kind", ["table", "sale"])
def test_a_restaurant_with_rows_cannot_be_deleted(shop: Shop, kind: str) -> None:
    with shop.open("busy") as busy:
        busy.table("add", NEW_TABLE) if kind == "table" else busy.order("add", NEW_ORDER)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            shop.sql("delete from pos.restaurants where slug = 'busy'")
        busy.check()


def test_settings_changed_by_hand_are_a_change_like_any_other(shop: Shop) -> None:
    shop.settings({"theme": "dark", "taxRate": 5})
    shop.sql("update pos.restaurants set settings = settings - 'theme' where slug = 'default'")
    [_, change] = shop.log()
    assert (change.type, change.version, change.data, change.client_id) == (
        "UPDATE_SETTINGS",
        2,
        {"taxRate": 5},
        "database",
    )
    shop.check()
