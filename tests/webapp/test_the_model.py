"""The model of the web app does what PROTOCOL.md, section 6, says of the app."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.waiting import until
from tests.webapp.browser import RETRY_SECONDS, Browser
from tests.webapp.fake_relay import FakeRelay, fake_relay
from tests.webapp.page import HOOKS
from tests.webapp.storage import BUILT_IN, Clock, Row, Storage

PACE = 0.01
ANNOUNCED = ["UPDATE_USERS add"] * 3


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with fake_relay() as running:
        yield running


@pytest.fixture
async def browser(relay: FakeRelay) -> AsyncIterator[Browser]:
    """A browser whose storage is not fresh, so that it announces nobody."""
    storage = Storage()
    storage.write("tables", BUILT_IN["tables"])
    async with Browser(relay.url, storage=storage, pace=PACE) as opened:
        await until(lambda: len(relay.heard) > HOOKS)
        yield opened


async def hears(relay: FakeRelay, browser: Browser, type_: str, data: object, **envelope: object) -> None:
    before = len(browser.heard)
    await relay.say(type_, data, **envelope)
    await until(lambda: len(browser.heard) > before)


def without_syncs(types: list[str]) -> list[str]:
    return [type_ for type_ in types if type_ != "SYNC_REQUEST"]


async def test_it_names_itself_as_the_app_does(browser: Browser, relay: FakeRelay) -> None:
    assert re.fullmatch(r"client_\d{13}_[0-9a-z]+", browser.client_id)
    assert relay.heard[0]["type"] == "CLIENT_CONNECTED"
    assert relay.heard[0]["data"] == {"clientId": browser.client_id}
    assert {message["clientId"] for message in relay.heard} == {browser.client_id}
    assert all("id" not in message for message in relay.heard)


async def test_a_fresh_browser_announces_the_three_default_users_and_an_old_one_does_not(relay: FakeRelay) -> None:
    async with Browser(relay.url, pace=PACE) as fresh:
        await until(lambda: without_syncs(relay.types()) == ["CLIENT_CONNECTED", *ANNOUNCED])
        again = await fresh.reload()
        await until(lambda: without_syncs(relay.types()) == ["CLIENT_CONNECTED", *ANNOUNCED, "CLIENT_CONNECTED"])
        assert again.client_id == fresh.client_id
        await again.close()


@pytest.mark.parametrize("sender", [{"clientId": None}, {"clientId": 7}])
async def test_a_message_without_a_client_id_of_text_is_lost(browser: Browser, relay: FakeRelay, sender: Row) -> None:
    await hears(relay, browser, "SYNC_RESPONSE", {"data": {"tables": []}}, **sender)
    assert browser.tables == BUILT_IN["tables"]
    assert browser.faults


async def test_it_drops_its_own_messages(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "PONG", {}, clientId=browser.client_id)
    assert (browser.pongs, browser.faults) == (0, [])
    change = {"action": "delete", "data": {"id": "1"}}
    await hears(relay, browser, "UPDATE_TABLE", change, clientId=browser.client_id)
    assert len(browser.tables) == 8
    assert browser.faults


async def test_lists_are_read_from_data_data_and_replace(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "SYNC_RESPONSE", {"tables": [], "menuItems": [], "mode": "snapshot"})
    assert browser.tables == BUILT_IN["tables"]
    assert browser.faults
    await hears(relay, browser, "SYNC_RESPONSE", {"data": {"tables": [{"id": "x"}], "categories": []}})
    assert (browser.tables, browser.categories, browser.menu) == ([{"id": "x"}], [], BUILT_IN["menuItems"])


async def test_users_are_read_from_data_only_and_an_empty_list_is_a_fault(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "SYNC_RESPONSE", {"data": {"users": [{"id": "9"}]}})
    assert browser.users == BUILT_IN["users"]
    await hears(relay, browser, "SYNC_RESPONSE", {"users": [{"id": "9"}]})
    assert (browser.users, browser.faults) == ([{"id": "9"}], [])
    await hears(relay, browser, "SYNC_RESPONSE", {"users": []})
    assert browser.faults


async def test_orders_merge_and_only_clear_takes_them_away(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "UPDATE_ORDER", {"action": "add", "data": {"id": "a", "total": 1}})
    orders = [{"id": "a", "total": 2}, {"id": "b", "total": 3}]
    await hears(relay, browser, "SYNC_RESPONSE", {"data": {"orderHistory": orders}})
    await hears(relay, browser, "SYNC_RESPONSE", {"data": {"orderHistory": []}})
    assert sorted(browser.orders, key=lambda order: str(order["id"])) == orders
    await hears(relay, browser, "UPDATE_ORDER", {"action": "clear", "data": {}})
    assert (browser.orders, browser.faults) == ([], [])


async def test_settings_replace_in_a_sync_and_must_be_complete(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "UPDATE_SETTINGS", {"taxRate": 7})
    assert browser.settings == BUILT_IN["settings"] | {"taxRate": 7}
    await hears(relay, browser, "SYNC_RESPONSE", {"data": {"settings": {"taxRate": 8}}})
    assert browser.settings == {"taxRate": 8}
    assert browser.faults


@pytest.mark.parametrize(
    ("type_", "action", "row"), [("UPDATE_TABLE", "add", {"id": "x"}), ("UPDATE_MENU", "add_item", {"id": "x"})]
)
async def test_an_add_that_it_receives_multiplies_under_new_ids(
    browser: Browser, relay: FakeRelay, type_: str, action: str, row: Row
) -> None:
    before = len(browser.tables) + len(browser.menu)
    await hears(relay, browser, type_, {"action": action, "data": row})
    rows = browser.tables + browser.menu
    assert len(rows) == before + HOOKS
    assert all(found["id"] != "x" for found in rows)
    assert browser.faults


async def test_it_changes_and_removes_what_it_knows(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "UPDATE_TABLE", {"action": "update", "data": {"id": "1", "status": "occupied"}})
    await hears(relay, browser, "UPDATE_TABLE", {"action": "update", "data": {"id": "unknown", "status": "occupied"}})
    await hears(relay, browser, "UPDATE_TABLE", {"action": "delete", "data": {"id": "2"}})
    await hears(relay, browser, "UPDATE_MENU", {"action": "update_item", "data": {"id": "1", "price": 1}})
    await hears(relay, browser, "UPDATE_MENU", {"action": "delete_item", "data": {"id": "2"}})
    for _ in range(2):
        await hears(relay, browser, "UPDATE_MENU", {"action": "add_category", "data": {"name": "Soups"}})
    await hears(relay, browser, "UPDATE_MENU", {"action": "delete_category", "data": {"name": "Pizza"}})
    await hears(relay, browser, "UPDATE_USERS", {"action": "update", "data": {"id": "1", "password": "new"}})
    await hears(relay, browser, "UPDATE_USERS", {"action": "delete", "data": {"id": "2"}})
    await hears(relay, browser, "UPDATE_USERS", {"action": "add", "data": {"id": "7"}})
    await hears(relay, browser, "UPDATE_USERS", {"action": "add", "data": {"id": "7"}})
    assert browser.table(1)["status"] == "occupied"
    assert [table["id"] for table in browser.tables] == ["1", "3", "4", "5", "6", "7", "8"]
    assert [(dish["id"], dish["price"]) for dish in browser.menu][:2] == [("1", 1), ("3", 3500)]
    assert browser.categories == ["Appetizers", "Main Menu", "Pasta", "Dessert", "Beverage", "Soups"]
    assert [user["id"] for user in browser.users] == ["1", "3", "7"]
    assert browser.users[0]["password"] == "new"
    assert browser.faults == []


async def test_it_answers_every_heartbeat_and_counts_pongs(browser: Browser, relay: FakeRelay) -> None:
    await hears(relay, browser, "PONG", {})
    await hears(relay, browser, "HEARTBEAT", {"response": True})
    await until(lambda: relay.heard[-1]["type"] == "HEARTBEAT")
    assert relay.heard[-1]["data"] == {"response": True}
    assert browser.pongs == 1
    assert browser.faults


async def test_its_own_edit_shows_at_once_and_is_said_once(browser: Browser, relay: FakeRelay) -> None:
    browser.add_table(9)
    assert browser.table(9)["status"] == "available"
    await until(lambda: without_syncs(relay.types()) == ["CLIENT_CONNECTED", "UPDATE_TABLE add"])


async def test_the_queue_goes_out_in_order_with_stale_sync_requests_in_between(
    browser: Browser, relay: FakeRelay
) -> None:
    browser.lose_network()
    relay.heard.clear()
    table = browser.save_order(browser.table(1), {"id": "1", "price": 10, "quantity": 1})
    browser.complete_order(table)
    browser.find_network()
    wanted = ["CLIENT_CONNECTED", "UPDATE_TABLE update", "UPDATE_ORDER add", "UPDATE_TABLE update"]
    await until(lambda: without_syncs(relay.types()) == wanted)
    await until(lambda: relay.types()[-2:] == ["SYNC_REQUEST"] * 2)
    first, last = relay.types().index(wanted[1]), len(relay.types()) - relay.types()[::-1].index(wanted[3])
    assert relay.types()[:first] == ["CLIENT_CONNECTED"] + ["SYNC_REQUEST"] * (first - 1)
    assert relay.types()[first:last].count("SYNC_REQUEST") == 2
    assert isinstance(relay.heard[relay.types().index("UPDATE_ORDER add")]["data"]["data"]["items"], str)


async def test_it_tries_at_its_times_and_then_never_again(browser: Browser, relay: FakeRelay) -> None:
    await relay.stop()
    await until(lambda: browser.gave_up)
    assert browser.tries == [*RETRY_SECONDS]
    await relay.start()
    async with await browser.reload() as page:
        await until(lambda: page.connected)


async def test_it_drops_its_socket_for_a_second_when_settings_closes(browser: Browser, relay: FakeRelay) -> None:
    browser.change_settings(taxRate=6)
    browser.close_settings()
    assert not browser.connected
    browser.add_table(9)
    await until(lambda: len(relay.connections) == 2)
    wanted = ["CLIENT_CONNECTED", "UPDATE_SETTINGS", "CLIENT_CONNECTED", "UPDATE_TABLE add"]
    await until(lambda: without_syncs(relay.types()) == wanted)
    assert browser.tries == []


async def test_what_it_shows_outlives_a_reload(browser: Browser) -> None:
    browser.add_table(9)
    browser.change_settings(restaurantName="Golden Duck")
    async with await browser.reload() as page:
        assert page.table(9) == browser.table(9)
        assert page.settings["restaurantName"] == "Golden Duck"


def test_two_browsers_whose_clocks_tell_the_same_make_the_same_ids() -> None:
    one, other = Browser("", clock=Clock()), Browser("", clock=Clock())
    for browser in (one, other):
        browser.clock.set(1_795_000_000_000)
        browser.add_table(9)
        browser.add_dish("Duck", 1, "Pasta")
        browser.add_user("Mya", "mya")
    assert one.tables == other.tables
    assert (one.menu, one.users) == (other.menu, other.users)
    assert one.tables[-1]["id"] == "table_1795000000000"
    assert re.fullmatch(r"item_\d{13}", one.menu[-1]["id"])
    assert re.fullmatch(r"\d{13}", one.users[-1]["id"])


def test_an_order_is_numbered_from_what_the_history_holds() -> None:
    browser = Browser("")
    browser.clock.set(1_795_000_000_000)
    soup = {"id": "1", "price": 10, "quantity": 2}
    table = browser.save_order(browser.table(1), soup)
    assert table["orderId"] == "POS-11182026-001"
    assert table["orderTotal"] == 21
    browser.complete_order(table)
    assert browser.table(1) == BUILT_IN["tables"][0]
    assert browser.save_order(browser.table(2), soup)["orderId"] == "POS-11182026-002"
