"""Browsers with the app, terminals of the core protocol, and psql in one restaurant."""

from __future__ import annotations

import asyncio

from tests.faults.deeds import execute
from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.restaurant import PHOTO, Restaurant


async def test_a_table_that_a_core_terminal_adds_is_in_every_window_once(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    await core.table("add", {"id": "t9", "number": 9, "seats": 4, "status": "available"})
    await core.dish("add_item", {"id": "d9", "name": "Duck", "price": 9.50, "category": "Pasta", "description": ""})
    await restaurant.agree()
    assert restaurant.browsers[0].table(9)["id"] == "t9"
    assert restaurant.browsers[2].dish("Duck")["price"] == 9.5


async def test_a_core_terminal_gets_an_apps_adds_as_plain_changes(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    mya, *_ = restaurant.browsers
    snapshots = len(core.snapshots)
    table, dish = mya.add_table(9), mya.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    await restaurant.agree()
    assert {table["id"], dish["id"]} <= {message["data"]["data"]["id"] for _, _, message in core.applied}
    assert len(core.snapshots) == snapshots
    assert all("data" not in snapshot for snapshot in core.snapshots)


async def test_an_order_goes_from_the_app_to_a_core_terminal_and_back(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    mya, hla, _ = restaurant.browsers
    saved = mya.save_order(mya.table(1), line(mya.menu[0]))
    await restaurant.agree()
    await core.table("add_items", {"id": "1", "items": [{"id": "tea", "name": "Tea", "price": 800, "quantity": 2}]})
    await restaurant.agree()
    assert [one["id"] for one in hla.table(1)["orderItems"]] == ["1", "tea"]
    hla.complete_order(hla.table(1))
    await restaurant.agree()
    assert core.orders[saved["orderId"]]["items"][1]["quantity"] == 2


async def test_a_core_terminal_and_an_app_edit_one_table_at_once(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    mya, *_ = restaurant.browsers
    for round_ in range(5):
        mya.change_table(mya.table(1), note=f"app {round_}")
        await core.table("update", {"id": "1", "note": f"core {round_}"})
        await restaurant.agree()


async def test_a_core_terminal_voids_a_sale_and_clears_the_history(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    mya, hla, _ = restaurant.browsers
    sold = mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    await restaurant.agree()
    await core.order("void", {"id": sold["id"]})
    await restaurant.agree()
    assert hla.orders[0]["status"] == "void"
    await core.order("clear", {})
    await restaurant.agree()
    assert hla.orders == []


async def test_a_core_terminals_sale_under_an_apps_number_gets_its_own(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    mya, hla, _ = restaurant.browsers
    sold = mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    await restaurant.agree()
    other = sold | {"items": [], "total": 7, "createdAt": "2026-11-26T10:00:00.000Z", "tableNumber": 3}
    error = await core.refused("UPDATE_ORDER", {"action": "add", "data": other})
    await core.order("add", other | {"id": error["suggestedId"]})
    await restaurant.agree()
    assert sorted(order["total"] for order in hla.orders) == [7, 2625]


async def test_settings_and_categories_of_a_core_terminal_reach_the_app(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    await core.ask("UPDATE_SETTINGS", {"taxRate": 9, "lamps": "lit"})
    await core.dish("add_category", {"name": "Tonight"})
    await core.dish("delete_category", {"name": "Pizza"})
    await restaurant.agree()
    assert restaurant.browsers[0].settings["lamps"] == "lit"
    assert restaurant.browsers[0].settings["restaurantName"] == "MiniPOS"


async def test_a_change_in_psql_reaches_every_window(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    execute(restaurant.conninfo, "update pos.tables set status = 'occupied' where number = 4")
    execute(restaurant.conninfo, "update pos.menu_items set price = price + 100")
    execute(
        restaurant.conninfo,
        "insert into pos.tables (restaurant_id, id, number, seats, status)"
        " select restaurant_id, 'terrace', 50, 8, 'available' from pos.find_restaurant(null)",
    )
    execute(restaurant.conninfo, "delete from pos.tables where number = 8")
    await restaurant.agree()
    assert (mya.table(4)["status"], mya.table(50)["id"], mya.menu[0]["price"]) == ("occupied", "terrace", 2600)


async def test_tables_that_are_renumbered_in_psql_at_once_are_so_in_every_window(restaurant: Restaurant) -> None:
    execute(restaurant.conninfo, "update pos.tables set number = number + 1")
    await restaurant.agree()
    assert sorted(table["number"] for table in restaurant.browsers[0].tables) == [*range(2, 10)]


async def test_both_kinds_at_work_at_once_agree(restaurant: Restaurant) -> None:
    cores = [await restaurant.core_terminal(f"core-{number}") for number in range(2)]
    for round_ in range(10):
        for place, browser in enumerate(restaurant.browsers):
            browser.change_table(browser.table((round_ + place) % 4 + 1), note=f"{place} {round_}")
        await asyncio.gather(
            *(core.table("update", {"id": str(round_ % 4 + 1), "note": f"{core.client_id} {round_}"}) for core in cores)
        )
    await restaurant.agree()


async def test_staff_and_sessions_are_not_told_to_core_terminals(restaurant: Restaurant) -> None:
    core = await restaurant.core_terminal()
    mya, hla, _ = restaurant.browsers
    mya.log_in("admin", "admin")
    mya.add_user("Su", "su")
    mya.say("REFRESH_SESSIONS", {})
    await until(lambda: len(hla.sessions) == 2)
    await restaurant.agree()
    assert {message["type"] for message in core.received} <= {"WELCOME", "SYNC_RESPONSE"}
    assert core.revision == core.snapshots[-1]["revision"]
