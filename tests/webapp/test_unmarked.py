"""A relay in front of a database that does not hold the shop: the terminals keep what they have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.relays import clean_relay
from tests.terminals import Terminal
from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.agreement import held
from tests.webapp.browser import Browser
from tests.webapp.restaurant import Restaurant
from tests.webapp.storage import CATEGORIES, MENU, SETTINGS, TABLES, USERS, Storage

LISTS = (TABLES, MENU, CATEGORIES, SETTINGS, USERS)


def of_an_old_shop() -> Storage:
    """A storage with tables, dishes and staff that no database knows."""
    shop = Browser("")
    for number in (9, 10):
        shop.add_table(number)
        shop.add_dish(f"Dish {number}", number, "Main Menu")
    shop.delete_table(shop.table(1))
    shop.change_settings(restaurantName="The old shop")
    shop.add_user("Su", "su")
    return shop.storage


@pytest.fixture
async def shop(database: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Restaurant]:
    """A restaurant of which the database has only the row, and three browsers that hold it."""
    async with clean_relay(database, caplog) as relay, Restaurant(database, relay) as made:
        template = of_an_old_shop()
        for _ in range(3):
            storage = Storage()
            for key in LISTS:
                storage.write(key, template.read(key))
            made.browsers.append(Browser(relay.url, storage=storage).open())
        await until(lambda: all(browser.connected for browser in made.browsers))
        yield made
        for browser in made.browsers:
            assert browser.faults == []
            assert [browser.syncs(key) for key in LISTS] == [0] * len(LISTS), "a list of an unmarked restaurant"


async def told(shop: Restaurant) -> None:
    """Wait until what was done before has gone through: a SYNC_REQUEST is answered after the edits before it."""
    before = [answers(browser) for browser in shop.browsers]
    for browser in shop.browsers:
        browser.say("SYNC_REQUEST", {})
    await until(lambda: all(answers(one) > count for one, count in zip(shop.browsers, before, strict=True)))


def answers(browser: Browser) -> int:
    return sum(message["type"] == "SYNC_RESPONSE" for message in browser.heard)


async def test_terminals_keep_what_they_have(shop: Restaurant) -> None:
    before = [(browser.tables, browser.menu, browser.settings, browser.users) for browser in shop.browsers]
    await told(shop)
    assert before == [(browser.tables, browser.menu, browser.settings, browser.users) for browser in shop.browsers]
    assert shop.browsers[0].table(9)["seats"] == 4


async def test_updates_reach_the_other_terminals(shop: Restaurant) -> None:
    mya, hla, khin = shop.browsers
    mya.seat(mya.table(9))
    hla.change_dish(hla.dish("Dish 9"), price=99)
    await until(lambda: khin.table(9)["status"] == "occupied" and khin.dish("Dish 9")["price"] == 99)
    await until(lambda: mya.dish("Dish 9")["price"] == 99 and hla.table(9)["status"] == "occupied")


async def test_orders_are_saved_on_one_terminal_and_completed_on_another(shop: Restaurant) -> None:
    mya, hla, khin = shop.browsers
    mya.save_order(mya.table(9), line(mya.menu[0], 2))
    await until(lambda: "orderItems" in hla.table(9))
    hla.complete_order(hla.table(9))
    await until(lambda: khin.table(9)["status"] == "available" and len(khin.orders) == len(mya.orders) == 1)
    assert mya.orders[0]["total"] == khin.orders[0]["total"] == 5250


async def test_deletes_reach_the_other_terminals(shop: Restaurant) -> None:
    mya, hla, khin = shop.browsers
    mya.seat(mya.table(9))  # so that the database knows it
    await until(lambda: hla.table(9)["status"] == "occupied")
    mya.delete_table(mya.table(9))
    await until(lambda: all(table["number"] != 9 for table in (*hla.tables, *khin.tables)))


async def test_an_add_is_kept_by_the_database_and_stays_where_it_was_made(shop: Restaurant) -> None:
    mya, hla, _ = shop.browsers
    mya.add_table(30)
    await until(lambda: [row["number"] for row in held(shop.conninfo)[TABLES]] == [30])
    async with Terminal(shop.relay.url, "core") as core:
        assert 30 in {table["number"] for table in core.tables.values()}
    assert mya.table(30)["status"] == "available"
    assert all(table["number"] != 30 for table in hla.tables)


async def test_a_terminal_that_was_away_keeps_what_it_has(shop: Restaurant) -> None:
    mya, hla, _ = shop.browsers
    mya.lose_network()
    mya.seat(mya.table(9))
    mya.find_network()
    await until(lambda: hla.table(9)["status"] == "occupied")
    await told(shop)
    assert mya.dish("Dish 10")["price"] == 10
    assert mya.settings["restaurantName"] == "The old shop"


async def test_a_fresh_browser_in_an_unmarked_restaurant_keeps_its_built_in_data(shop: Restaurant) -> None:
    fresh = Browser(shop.relay.url).open()
    shop.browsers.append(fresh)
    await until(lambda: fresh.connected)
    await told(shop)
    assert len(fresh.tables) == 8
    assert len(fresh.users) == 3
