"""Orders: saved, changed, paid and cancelled at several terminals."""

from __future__ import annotations

from tests.webapp.acts import line
from tests.webapp.restaurant import Restaurant
from tests.webapp.storage import ORDERS, Row

NOON = 1_795_000_000_000  # on 18 November 2026


def sales(restaurant: Restaurant, status: str = "completed") -> list[Row]:
    return [order for order in restaurant.browsers[-1].orders if order["status"] == status]


async def test_a_saved_order_shows_its_lines_and_total_everywhere(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    lines = [line(mya.menu[0], 2), line(mya.menu[1]) | {"notes": "no chilli / ငရုတ်သီးမပါ"}]
    saved = mya.save_order(mya.table(1), *lines)
    await restaurant.agree()
    assert khin.table(1)["orderItems"] == lines
    assert (khin.table(1)["orderTotal"], khin.table(1)["orderId"]) == (7350, saved["orderId"])


async def test_an_order_saved_at_one_terminal_is_completed_at_another(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0], 2), customer="U Tun")
    await restaurant.agree()
    paid = hla.complete_order(hla.table(1))
    await restaurant.agree()
    assert khin.table(1).keys() == {"id", "number", "seats", "status", "version"}
    assert [(order["id"], order["total"], order["customerName"]) for order in khin.orders] == [
        (paid["id"], 5250, "U Tun")
    ]


async def test_an_order_grows_at_three_terminals_and_is_paid_once(restaurant: Restaurant) -> None:
    lines: list[Row] = []
    for number, browser in enumerate(restaurant.browsers):
        lines.append(line(browser.menu[number]))
        browser.save_order(browser.table(1), *lines)
        await restaurant.agree()
    mya, _, khin = restaurant.browsers
    assert khin.table(1)["orderItems"] == lines
    mya.complete_order(mya.table(1))
    await restaurant.agree()
    assert [order["total"] for order in sales(restaurant)] == [8400]


async def test_a_cancelled_order_frees_its_table_and_stays_in_the_history(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0]))
    await restaurant.agree()
    hla.cancel_order(hla.table(1))
    await restaurant.agree()
    assert khin.table(1)["status"] == "available"
    assert len(sales(restaurant, "cancelled")) == 1


async def test_a_table_is_used_again_and_again(restaurant: Restaurant) -> None:
    for round_ in range(3):
        waiter = restaurant.browsers[round_]
        waiter.save_order(waiter.table(1), line(waiter.menu[round_]))
        await restaurant.agree()
        cashier = restaurant.browsers[round_ - 1]
        cashier.complete_order(cashier.table(1))
        await restaurant.agree()
    assert len({order["id"] for order in sales(restaurant)}) == 3


async def test_two_terminals_number_two_orders_at_once_and_both_get_an_id_of_their_own(
    restaurant: Restaurant,
) -> None:
    """Both said 001: the second sale overwrote the first in the history."""
    mya, hla, khin = restaurant.browsers
    first = mya.save_order(mya.table(1), line(mya.menu[0]))
    second = hla.save_order(hla.table(2), line(hla.menu[1], 2))
    assert first["orderId"] == second["orderId"]
    await restaurant.agree()
    assert khin.table(1)["orderId"] != khin.table(2)["orderId"]
    mya.complete_order(mya.table(1))
    hla.complete_order(hla.table(2))
    await restaurant.agree()
    assert sorted(order["total"] for order in sales(restaurant)) == [2625, 4200]


async def test_two_terminals_sell_the_same_at_once_and_it_is_two_sales(restaurant: Restaurant) -> None:
    """One beer at each of two tables, under one number: that is no order that moved from one table to the other."""
    mya, hla, khin = restaurant.browsers
    for number, browser in enumerate((mya, hla), 1):
        browser.save_order(browser.table(number), line(browser.menu[5]))
    await restaurant.agree()
    assert (khin.table(1)["status"], khin.table(2)["status"]) == ("occupied", "occupied")
    for number, browser in enumerate((mya, hla), 1):
        browser.complete_order(browser.table(number))
    await restaurant.agree()
    assert [order["total"] for order in sales(restaurant)] == [1260, 1260]


async def test_three_orders_open_at_one_terminal_get_three_ids(restaurant: Restaurant) -> None:
    """It numbers them from the history, where open ones are not: all three get one number from the app."""
    mya, _, khin = restaurant.browsers
    for number in (1, 2, 3):
        mya.save_order(mya.table(number), line(mya.menu[number]))
    await restaurant.agree()
    assert len({khin.table(number)["orderId"] for number in (1, 2, 3)}) == 3
    for number in (3, 2, 1):
        khin.complete_order(khin.table(number))
    await restaurant.agree()
    assert sorted(order["total"] for order in sales(restaurant)) == [2100, 2940, 3675]


async def test_sales_that_are_saved_and_paid_in_one_breath_at_two_terminals_are_both_kept(
    restaurant: Restaurant,
) -> None:
    """The completing add still carries the number that the terminal gave, which is another sale's by now."""
    mya, hla, _ = restaurant.browsers
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    hla.complete_order(hla.save_order(hla.table(2), line(hla.menu[1])))
    await restaurant.agree()
    assert sorted(order["total"] for order in sales(restaurant)) == [2100, 2625]


async def test_two_terminals_save_on_one_free_table_at_once(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0]))
    hla.save_order(hla.table(1), line(hla.menu[1]))
    await restaurant.agree()
    assert [one["id"] for one in khin.table(1)["orderItems"]] in (["1"], ["2"])


async def test_crossing_saves_of_one_open_order_leave_one_of_them(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0]))
    await restaurant.agree()
    mya.save_order(mya.table(1), line(mya.menu[0]), line(mya.menu[1]))
    hla.save_order(hla.table(1), line(hla.menu[0]), line(hla.menu[2]))
    await restaurant.agree()
    assert [one["id"] for one in khin.table(1)["orderItems"]] in (["1", "2"], ["1", "3"])


async def test_one_order_that_is_completed_at_two_terminals_at_once_is_not_lost(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0]))
    await restaurant.agree()
    for browser in (mya, hla):
        browser.clock.set(NOON)  # so that both made it in the same moment: it is one sale
        browser.complete_order(browser.table(1))
    await restaurant.agree()
    assert len(sales(restaurant)) == 1
    assert khin.table(1)["status"] == "available"


async def test_a_late_save_of_an_order_that_is_paid_does_not_open_it_again(restaurant: Restaurant) -> None:
    """A waiter has the table open on the screen while the till takes the money, and saves once more."""
    mya, hla, khin = restaurant.browsers
    mya.save_order(mya.table(1), line(mya.menu[0]))
    await restaurant.agree()
    hla.complete_order(hla.table(1))
    mya.save_order(mya.table(1), line(mya.menu[0]), line(mya.menu[5]))
    await restaurant.agree()
    assert khin.table(1)["status"] == "available"
    assert [order["total"] for order in sales(restaurant)] == [2625]


async def test_guests_with_an_order_move_to_another_table(restaurant: Restaurant) -> None:
    """The app saves the order on the new table and frees the old one itself."""
    mya, hla, khin = restaurant.browsers
    saved = mya.save_order(mya.table(1), line(mya.menu[0], 2))
    await restaurant.agree()
    hla.save_order(hla.table(5) | {"orderId": saved["orderId"]}, *saved["orderItems"])
    hla.free(hla.table(1))
    await restaurant.agree()
    assert khin.table(1)["status"] == "available"
    assert khin.table(5)["orderItems"] == saved["orderItems"]


async def test_an_order_of_forty_lines_goes_through_a_whole_evening(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    lines = [line(mya.menu[number % 6], number + 1) | {"notes": f"line {number}"} for number in range(40)]
    for number in range(1, 41):
        mya.save_order(mya.table(1), *lines[:number])
    await restaurant.agree()
    assert len(khin.table(1)["orderItems"]) == 40
    hla.complete_order(hla.table(1))
    await restaurant.agree()


async def test_the_history_is_cleared_everywhere(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    for number in (1, 2):
        mya.complete_order(mya.save_order(mya.table(number), line(mya.menu[number])))
        await restaurant.agree()
    hla.clear_history()
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert mya.orders == late.orders == []


async def test_what_is_sold_after_the_clear_is_kept_once(restaurant: Restaurant) -> None:
    """The app begins again at 001, which the cleared sale has: this one gets 002, and no screen may keep both."""
    mya, hla, _ = restaurant.browsers
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    await restaurant.agree()
    hla.clear_history()
    await restaurant.agree()
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[1])))
    await restaurant.agree()
    assert [order["total"] for order in sales(restaurant)] == [2100]


async def test_the_first_order_after_a_clear_is_saved_on_the_table_of_the_last_one(restaurant: Restaurant) -> None:
    """The app begins again at 001, which this table carried when it was paid: yet it is no late save of that order."""
    mya, hla, khin = restaurant.browsers
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    await restaurant.agree()
    mya.clear_history()
    await restaurant.agree()
    saved = mya.save_order(mya.table(1), line(mya.menu[1]))
    await restaurant.agree()
    assert khin.table(1)["status"] == "occupied"
    assert khin.table(1)["orderItems"] == saved["orderItems"]
    hla.complete_order(hla.table(1))
    await restaurant.agree()
    assert [order["total"] for order in sales(restaurant)] == [2100]


async def test_a_clear_that_crosses_a_sale_leaves_all_with_the_same(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    await restaurant.agree()
    hla.clear_history()
    mya.complete_order(mya.save_order(mya.table(2), line(mya.menu[1])))
    await restaurant.agree()
    assert len(sales(restaurant)) <= 1


async def test_a_clear_does_not_touch_what_is_open_on_a_table(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    saved = mya.save_order(mya.table(1), line(mya.menu[0]))
    hla.clear_history()
    await restaurant.agree()
    assert khin.table(1)["orderItems"] == saved["orderItems"]
    khin.complete_order(khin.table(1))
    await restaurant.agree()
    assert len(sales(restaurant)) == 1


async def test_a_sale_sends_no_menu_and_orders_only_in_part(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    before = hla.syncs("menuItems")
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    await restaurant.agree()
    assert hla.syncs("menuItems") == before
    assert hla.syncs(ORDERS)
