"""A browser is opened: what it shows, and what it is told."""

from __future__ import annotations

import asyncio

from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.agreement import shown
from tests.webapp.browser import Browser
from tests.webapp.restaurant import PHOTO, Restaurant
from tests.webapp.storage import BUILT_IN, MENU, TABLES, USERS


async def test_a_fresh_browser_shows_the_built_in_restaurant(restaurant: Restaurant) -> None:
    for browser in restaurant.browsers:
        assert shown(browser) == shown(Browser(""))  # which has only what it is built with
        assert browser.users == BUILT_IN["users"]


async def test_the_built_in_users_log_in_from_a_fresh_browser(restaurant: Restaurant) -> None:
    browser = await restaurant.open()
    assert browser.syncs(USERS)
    for username in ("admin", "cashier", "waiter"):
        assert browser.log_in(username, username)
        browser.log_out()
    assert not browser.log_in("admin", "wrong")
    await restaurant.agree()


async def test_a_late_fresh_browser_shows_the_whole_restaurant(restaurant: Restaurant) -> None:
    """The old server gave it what it happened to remember, and the shop looked new on the second tablet."""
    mya, hla, khin = restaurant.browsers
    mya.add_table(9, seats=10)
    hla.delete_table(hla.table(8))
    khin.add_dish("Duck", 9000.5, "Main Menu", image=PHOTO)
    khin.add_category("Tonight")
    mya.change_settings(restaurantName="Golden Duck", taxRate=7.5)
    hla.add_user("Su", "su", password="secret")
    await restaurant.agree()
    hla.complete_order(hla.save_order(hla.table(1), line(hla.dish("Duck"))))
    khin.save_order(khin.table(2), line(khin.dish("Duck"), 3), customer={"name": "U Tun"})
    late = await restaurant.open()
    await restaurant.agree()
    assert late.table(9)["seats"] == 10
    assert late.table(2)["customer"] == {"name": "U Tun"}
    assert late.dish("Duck")["image"] == PHOTO
    assert [order["status"] for order in late.orders] == ["completed"]
    assert late.settings["restaurantName"] == "Golden Duck"
    assert late.log_in("su", "secret")


async def test_a_late_browser_does_not_undo_what_the_others_have_changed(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    mya.change_dish(mya.menu[0], price=1)
    mya.delete_table(mya.table(3))
    mya.delete_category("Pizza")
    await restaurant.agree()
    before = mya.tables, mya.menu, mya.categories
    for _ in range(3):
        await restaurant.open()
    await restaurant.agree()
    assert (mya.tables, mya.menu, mya.categories) == before


async def test_a_reloaded_browser_goes_on_where_it_was(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.save_order(mya.table(4), line(mya.menu[0], 2))
    await restaurant.agree()
    page = await restaurant.reload(mya)
    hla.seat(hla.table(5))
    await restaurant.agree()
    assert page.table(4)["status"] == page.table(5)["status"] == "occupied"


async def test_a_browser_with_old_data_takes_the_restaurants(restaurant: Restaurant) -> None:
    """A tablet from the drawer: it holds last month's tables and prices, and never uploads what it has."""
    mya, *_ = restaurant.browsers
    drawer = await restaurant.open()
    await restaurant.agree()
    await drawer.close()
    drawer.add_table(40)
    drawer.change_dish(drawer.menu[0], price=1)
    drawer.change_settings(currency="USD")
    drawer.queue.clear()
    mya.add_table(9)
    await restaurant.reload(drawer)
    await restaurant.agree()
    assert mya.settings["currency"] == "MMK"
    assert {table["number"] for table in mya.tables} == {*range(1, 10)}


async def test_ten_browsers_that_open_at_once_show_the_same(restaurant: Restaurant) -> None:
    await asyncio.gather(*(restaurant.open() for _ in range(10)))
    await restaurant.agree()
    assert len(restaurant.browsers[0].users) == 3


async def test_a_heartbeat_is_answered_with_one_pong_and_nothing_else(restaurant: Restaurant) -> None:
    """The app answers each HEARTBEAT with another: when both sides did, it was 650 a second."""
    mya, hla, _ = restaurant.browsers
    before = len(mya.heard)
    for _ in range(3):
        mya.beat()
    await until(lambda: mya.pongs == 3)
    hla.say("HEARTBEAT", {"response": True})
    await restaurant.agree()
    assert [message["type"] for message in mya.heard[before:]] == ["PONG"] * 3
    assert hla.pongs == 0


async def test_every_question_for_the_state_is_answered_in_full(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    before = mya.syncs(TABLES)
    for _ in range(5):
        mya.say("SYNC_REQUEST", {})
    await until(lambda: mya.syncs(TABLES) == before + 5)
    bodies = [message["data"] for message in mya.heard if message["type"] == "SYNC_RESPONSE"][-5:]
    assert all({TABLES, MENU, "categories", "settings", "orderHistory"} <= body["data"].keys() for body in bodies)
    assert all(len(body["users"]) == 3 for body in bodies)
    await restaurant.agree()
