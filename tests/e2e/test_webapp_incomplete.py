"""App sessions of a restaurant whose lists the database does not hold completely."""

from __future__ import annotations

import pytest

from relay import schema
from tests.e2e.apps import DISH, USER, app, sql
from tests.relays import local_relay
from tests.waiting import until


async def test_a_restaurant_that_is_not_complete_gets_no_list_and_no_add(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.do("UPDATE_TABLE", "update", {"id": "3", "number": 3, "seats": 4, "status": "occupied"})
        await one.do("UPDATE_MENU", "add_item", DISH)
        await one.do("UPDATE_TABLE", "update", {"id": "3", "status": "available"})
        await one.do("UPDATE_USERS", "add", USER)
        await one.do("UPDATE_TABLE", "delete", {"id": "3"})
        await until(lambda: [m["data"]["action"] for m in two.of("UPDATE_TABLE")][-1:] == ["delete"])
        found = [m["data"]["action"] for m in two.heard if m["type"] in ("UPDATE_TABLE", "UPDATE_MENU")]
        assert found == ["update", "update_item", "update", "delete"]
        await one.do("UPDATE_TABLE", "delete", {"id": "5"})
        await one.do("UPDATE_MENU", "delete_item", {"id": "6"})
        await one.do("UPDATE_MENU", "delete_category", {"name": "Pasta"})
        await one.do("UPDATE_USERS", "delete", {"id": "3"})
        await one.say("UPDATE_SETTINGS", {"theme": "dark"})
        await until(lambda: len(two.of("UPDATE_MENU")) == 3, what="what the database never knew is deleted in browsers")
        assert two.of("UPDATE_TABLE")[-1]["data"]["data"]["id"] == "5"
        await one.do("UPDATE_TABLE", "delete", {"id": "6"})
        await until(lambda: two.of("UPDATE_TABLE")[-1]["data"]["data"]["id"] == "6")
        assert two.of("UPDATE_SETTINGS") == [], "they would replace all of the browser's"
        await schema.seed(database)
        assert not sql(database, "select 1 from pos.tables where id = '5' union select 1 from pos.staff where id = '3'")


async def test_a_restaurant_that_is_not_complete_answers_without_lists(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.do("UPDATE_USERS", "add", USER)
        await until(lambda: two.of("UPDATE_USERS"))
        assert two.of("UPDATE_USERS")[0]["data"]["action"] == "update"
        await two.say("SYNC_REQUEST")
        await until(lambda: len(two.of("SYNC_RESPONSE")) > 1)
        assert not [message for message in one.heard + two.heard if "users" in message["data"]]
        assert [lists for lists in one.lists + two.lists if lists] == []


async def test_a_restaurant_that_becomes_complete_is_sent_all_lists_at_once(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one:
        await schema.seed(database)
        await until(lambda: one.lists[-1].keys() >= {"tables", "menuItems", "categories", "settings"})
        assert len(one.of("SYNC_RESPONSE")[-1]["data"]["users"]) == 3


async def test_the_mark_counts_for_who_comes_right_after_it(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one:
        assert one.lists == [{}]
        sql(database, "insert into pos.tables (restaurant_id, id, number, seats) values (1, '1', 1, 4)")
        async with app(relay, 2) as two:
            assert two.lists == [{}]
        sql(database, "update pos.restaurants set complete = true")
        async with app(relay, 3) as three:
            assert [table["id"] for table in three.lists[0]["tables"]] == ["1"]
        sql(database, "update pos.restaurants set complete = false")
        async with app(relay, 4) as four:
            assert four.lists == [{}], "they would replace what only the browser has"


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 3000 + "]" * 3000])
async def test_settings_that_python_cannot_read_hurt_nobody(shop: str, value: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        sql(
            shop,
            "update pos.restaurants set settings = settings - 'currency' || jsonb_build_object('x', %s::jsonb)",
            value,
        )
        sql(shop, "update pos.tables set seats = 9 where id = '1'")
        await until(lambda: one.of("UPDATE_TABLE"))
        async with app(relay, 2) as two:
            assert len(two.lists[0]["tables"]) == 8


async def test_settings_that_are_not_all_there_are_never_sent(shop: str) -> None:
    sql(shop, "update pos.restaurants set settings = settings - 'currency'")
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        assert "settings" not in one.lists[0]
        assert len(one.lists[0]["tables"]) == 8
        await two.say("UPDATE_SETTINGS", {"theme": "dark"})
        await two.do("UPDATE_TABLE", "update", {"id": "1", "seats": 9})
        await until(lambda: one.of("UPDATE_TABLE"))
        assert one.of("UPDATE_SETTINGS") == []
        assert not [lists for lists in one.lists + two.lists if "settings" in lists]
