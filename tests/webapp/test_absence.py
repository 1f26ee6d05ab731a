"""A tablet is out of reach for a while: what it did is not lost, and it shows what the others did."""

from __future__ import annotations

from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.browser import Browser
from tests.webapp.restaurant import PHOTO, Restaurant

NOON = 1_795_000_000_000


def totals(browser: Browser) -> list[float]:
    return sorted(order["total"] for order in browser.orders)


async def give_up(browser: Browser) -> None:
    """Stay out of reach for longer than the app's last try."""
    browser.lose_network()
    await until(lambda: browser.gave_up, within=10.0, what="the app's last try")


async def test_a_second_of_absence_is_not_noticed(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.lose_network()
    hla.seat(hla.table(1))
    mya.seat(mya.table(2))
    mya.find_network()
    await restaurant.agree()
    assert mya.tries == []
    assert hla.table(1)["status"] == mya.table(2)["status"] == "occupied"


async def test_after_a_long_absence_it_shows_all_that_the_others_did(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.lose_network()
    await until(lambda: len(mya.tries) == 3)
    hla.add_table(9)
    hla.delete_table(hla.table(8))
    hla.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    hla.rename_category("Appetizers", "Starters")
    hla.change_settings(taxRate=7)
    khin.add_user("Su", "su")
    khin.complete_order(khin.save_order(khin.table(1), line(khin.menu[0])))
    mya.find_network()
    await restaurant.agree()
    assert mya.dish("Duck")["image"] == PHOTO
    assert mya.log_in("su", "1234")
    assert len(mya.orders) == 1


async def test_a_tablet_that_has_given_up_is_reloaded_and_shows_all(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    await give_up(mya)
    hla.complete_order(hla.save_order(hla.table(1), line(hla.menu[0])))
    hla.add_table(9)
    mya.find_network()
    page = await restaurant.reload(mya)
    await restaurant.agree()
    assert page.table(9)["status"] == "available"


async def test_what_was_done_while_away_arrives_in_order(restaurant: Restaurant) -> None:
    """A whole visit while the Wi-Fi was down: the table, the guests, the order, the bill."""
    mya, hla, _ = restaurant.browsers
    mya.lose_network()
    mya.add_table(9)
    mya.seat(mya.table(9))
    mya.save_order(mya.table(9), line(mya.menu[0]))
    mya.save_order(mya.table(9), line(mya.menu[0]), line(mya.menu[1]))
    mya.complete_order(mya.table(9))
    mya.change_table(mya.table(9), seats=12)
    mya.find_network()
    await restaurant.agree()
    assert totals(hla) == [4725]
    assert (hla.table(9)["seats"], hla.table(9)["status"]) == (12, "available")


async def test_each_kind_of_edit_that_was_queued_arrives(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    mya.lose_network()
    mya.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    mya.delete_dish(mya.menu[0])
    mya.rename_category("Main Menu", "Mains")
    mya.change_settings(restaurantName="Golden Duck")
    mya.add_user("Su", "su")
    mya.reserve(mya.table(3), "U Tun", "20:00")
    mya.find_network()
    await restaurant.agree()
    assert khin.dish("Duck")["category"] == "Mains"
    assert khin.settings["restaurantName"] == "Golden Duck"
    assert khin.staff("su")["name"] == "Su"
    assert khin.table(3)["customer"] == "U Tun"


async def test_every_stale_question_in_the_queue_is_answered(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    mya.lose_network()
    for seats in range(1, 21):
        mya.change_table(mya.table(1), seats=seats)
    before = mya.syncs("menuItems")
    mya.find_network()
    await until(lambda: mya.connected)
    await restaurant.agree()
    assert mya.asked > 20
    assert mya.syncs("menuItems") - before == mya.asked
    assert restaurant.browsers[1].table(1)["seats"] == 20


async def test_all_three_are_away_and_come_back_with_their_edits(restaurant: Restaurant) -> None:
    for browser in restaurant.browsers:
        browser.lose_network()
    for number, browser in enumerate(restaurant.browsers, 1):
        browser.change_table(browser.table(8), note=f"number {number}")
        browser.save_order(browser.table(number), line(browser.menu[number]))
        browser.add_table(9, seats=number)
    for browser in restaurant.browsers:
        browser.find_network()
    await restaurant.agree()
    mya, *_ = restaurant.browsers
    assert {mya.table(number)["seats"] for number in (9, 10, 11)} == {1, 2, 3}
    assert len({mya.table(number)["orderId"] for number in (1, 2, 3)}) == 3


async def test_two_terminals_sell_under_one_number_while_they_are_away(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    for number, browser in enumerate((mya, hla), 1):
        browser.lose_network()
        browser.complete_order(browser.save_order(browser.table(number), line(browser.menu[number])))
    assert mya.orders[0]["id"] == hla.orders[0]["id"]
    mya.find_network()
    await until(lambda: mya.connected)
    hla.find_network()
    await restaurant.agree()
    assert totals(khin) == [2100, 3675]


async def test_several_sales_of_an_offline_evening_keep_their_totals(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.lose_network()
    for number in (1, 2, 3):
        mya.complete_order(mya.save_order(mya.table(number), line(mya.menu[0], number)))
        hla.complete_order(hla.save_order(hla.table(number + 3), line(hla.menu[1], number)))
        await until(lambda: not hla._outbox.qsize())
    mya.find_network()
    await restaurant.agree()
    assert totals(khin) == [2100, 2625, 4200, 5250, 6300, 7875]


async def test_a_terminal_that_was_away_during_a_clear_has_no_old_orders(restaurant: Restaurant) -> None:
    """A merge takes nothing away: without the clear it kept yesterday's sales for ever."""
    mya, hla, _ = restaurant.browsers
    for number in (1, 2):
        hla.complete_order(hla.save_order(hla.table(number), line(hla.menu[number])))
        await restaurant.agree()
    mya.lose_network()
    hla.clear_history()
    await until(lambda: restaurant.browsers[2].orders == [])
    hla.complete_order(hla.save_order(hla.table(3), line(hla.menu[3])))
    mya.find_network()
    await restaurant.agree()
    assert totals(mya) == [2940]


async def test_a_terminal_that_sold_while_away_during_a_clear_keeps_that_sale(restaurant: Restaurant) -> None:
    """What reaches the relay after the clear is shown, whenever it was sold."""
    mya, hla, _ = restaurant.browsers
    hla.complete_order(hla.save_order(hla.table(1), line(hla.menu[0])))
    await restaurant.agree()
    mya.lose_network()
    mya.complete_order(mya.save_order(mya.table(2), line(mya.menu[1])))
    hla.clear_history()
    await until(lambda: restaurant.browsers[2].orders == [])
    mya.find_network()
    await restaurant.agree()
    assert totals(hla) == [2100]


async def test_a_clear_that_was_queued_clears_what_was_there(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    hla.complete_order(hla.save_order(hla.table(1), line(hla.menu[0])))
    await restaurant.agree()
    mya.lose_network()
    mya.clear_history()
    mya.find_network()
    await restaurant.agree()
    assert hla.orders == []


async def test_a_table_that_was_deleted_meanwhile_does_not_come_back(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.lose_network()
    mya.save_order(mya.table(7), line(mya.menu[0]))
    hla.delete_table(hla.table(7))
    await until(lambda: len(restaurant.browsers[2].tables) == 7)
    mya.find_network()
    await restaurant.agree()
    assert 7 not in {table["number"] for table in mya.tables}


async def test_a_dish_that_was_deleted_meanwhile_does_not_come_back(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.lose_network()
    mya.change_dish(mya.menu[0], price=1)
    hla.delete_dish(hla.menu[0])
    await until(lambda: len(restaurant.browsers[2].menu) == 5)
    mya.find_network()
    await restaurant.agree()
    assert {dish["id"] for dish in mya.menu} == {"2", "3", "4", "5", "6"}


async def test_an_order_that_was_paid_elsewhere_meanwhile_is_not_opened_again(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0]))
    await restaurant.agree()
    mya.lose_network()
    mya.save_order(mya.table(1), line(mya.menu[0]), line(mya.menu[5]))
    hla.complete_order(hla.table(1))
    await until(lambda: restaurant.browsers[2].orders)
    mya.find_network()
    await restaurant.agree()
    assert mya.table(1)["status"] == "available"
    assert totals(mya) == [2625]


async def test_ids_that_two_offline_terminals_made_in_one_millisecond_are_told_apart(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    for number, browser in enumerate((mya, hla)):
        browser.lose_network()
        browser.clock.set(NOON)
        browser.add_table(20 + number)
        browser.seat(browser.table(20 + number))
        browser.add_dish(f"Dish {number}", 1, "Pasta")
    mya.find_network()
    await until(lambda: mya.connected)
    hla.find_network()
    await restaurant.agree()
    assert khin.dish("Dish 0")["id"] != khin.dish("Dish 1")["id"]
    assert khin.table(20)["id"] != khin.table(21)["id"]
    assert khin.table(20)["status"] == "occupied"


async def test_a_tablet_that_comes_and_goes_all_evening_agrees_in_the_end(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    for round_ in range(5):
        mya.lose_network()
        mya.change_table(mya.table(1), seats=round_ + 1)
        hla.change_table(hla.table(2), seats=round_ + 1)
        mya.find_network()
        await until(lambda: mya.connected)
    await restaurant.agree()
    assert (hla.table(1)["seats"], mya.table(2)["seats"]) == (5, 5)
