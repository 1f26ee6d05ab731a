"""No sale is lost, and none takes the place of another: a table that is paid at two terminals."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.library.shops import execute
from tests.pages.crossing import cut_off, deafened, pay, query, sales, table
from tests.pages.floor import Floor
from tests.relays import relay_process

# Somebody has paid, and somebody else had added a dish in that moment: the table was not freed.
_PAID_IN_PART = """
    insert into pos.order_history (restaurant_id, id, table_number, status, total, items, extra)
    select restaurant_id, order_id, number, 'completed', 2625, order_items, '{"payment": "card"}'
    from pos.tables where number = 4;
    update pos.tables
    set order_items = order_items || '[{"id": "line_x", "name": "Samosa", "price": 2000, "quantity": 1}]'
    where number = 4
"""


async def test_the_first_of_two_payments_stands_and_the_second_is_told_of_it(floor: Floor) -> None:
    async with cut_off(floor) as (window, other):
        await window.order("Samosa")
        await pay(window, 4, "Card")
        await pay(other, 4, "Cash")
        await other.seat(4, 3)
        await other.order("Tea Leaf")
        await floor.relay.start()
        await expect(window.notice).to_contain_text("The payment of table 4 was not recorded")
        await expect(window.notice).to_contain_text(
            re.compile(r"Already paid: 2,625 MMK cash by Till 1.* at \d\d:\d\d")
        )
        await expect(window.notice).to_contain_text(
            re.compile("Not saved: 4,725 MMK card; 1 . .*Mohinga; 1 . .*Samosa")
        )
        await expect(window.notice).to_have_count(1)
        await floor.agree(window, other)
        assert sales(floor.conninfo) == [(2625, "cash")]
        guests = table(floor.conninfo, 4)
        assert (guests["status"], guests["guests"], guests["items"]) == ("occupied", 3, [("Tea Leaf Salad", 1)])
        await window.reload()
        buttons = window.notice.get_by_role("button")
        await expect(buttons).to_have_text(["Leave it as it is", "Record it as another sale"])
        await buttons.last.click()
        await expect(window.notice).to_have_count(0)
        await floor.agree(window, other)
        assert sales(floor.conninfo) == [(2625, "cash"), (4725, "card")]
        assert table(floor.conninfo, 4) == guests


async def test_two_who_take_one_payment_at_one_moment_make_one_sale_and_one_of_them_is_told(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    deaf = await deafened(other)
    await window.seat(4, 2)
    await window.order("Mohinga")
    await floor.agree(window, other)
    await other.open(4)
    deaf.is_deaf = True
    await pay(window, 4, "Card")
    await expect(window.table(4)).to_contain_text("Free")
    await pay(other, 4, "Cash")
    await deaf.misses('"ORDER_ID_TAKEN"')
    deaf.hear()
    await expect(other.notice).to_contain_text("Already paid: 2,625 MMK card by Till 1")
    await expect(other.notice).to_contain_text("Not saved: 2,625 MMK cash")
    await other.button("Leave it as it is").click()
    await expect(other.notice).to_have_count(0)
    await floor.agree(window, other)
    await expect(window.notice).to_have_count(0)
    assert sales(floor.conninfo) == [(2625, "card")]
    assert table(floor.conninfo, 4)["status"] == "available"


async def test_what_is_ordered_after_a_payment_is_still_to_be_paid(floor: Floor) -> None:
    async with cut_off(floor) as (window, other):
        await pay(window, 4, "Card")
        await other.open(4)
        await other.order("Samosa")
        await floor.relay.start()
        await expect(window.notice).to_contain_text("Table 4 is paid, and was not freed")
        await expect(window.notice).to_contain_text(re.compile("Ordered meanwhile and not paid: 1 . .*Samosa"))
        await expect(window.notice.get_by_role("button")).to_have_text(["Understood"])
        await floor.agree(window, other)
        assert sales(floor.conninfo) == [(2625, "card")]
        await other.button("Pay").click()
        dialog = other.page.get_by_role("dialog")
        await expect(dialog.get_by_role("alert")).to_contain_text(re.compile("Already paid: 2,625 MMK card by Till 1"))
        await expect(dialog.locator(".sum.total")).to_contain_text("2,100 MMK")
        await dialog.get_by_role("button", name="Cash").click()
        await expect(window.notice).to_have_count(0)
        await floor.agree(window, other)
        assert sales(floor.conninfo) == [(2625, "card"), (2100, "cash")]
        assert table(floor.conninfo, 4)["status"] == "available"


async def test_the_rest_of_an_order_is_paid_once_and_is_known_until_then(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    deaf = await deafened(other)
    await window.seat(4, 2)
    await window.order("Mohinga")
    await floor.agree(window, other)
    execute(floor.conninfo, _PAID_IN_PART)
    await expect(window.panel.locator(".total")).to_have_text("2,100 MMK")
    await expect(window.panel).to_contain_text("More can be ordered once the rest is paid")
    await expect(window.page.get_by_role("searchbox", name="Find a dish")).to_be_hidden()
    await window.go("Orders")
    await window.button("Clear history").click()
    await expect(window.page.get_by_role("dialog")).to_contain_text("of table 4 a part is paid")
    await window.page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await window.go("Floor")
    await other.open(4)
    deaf.is_deaf = True
    await pay(window, 4, "Card")
    await expect(window.table(4)).to_contain_text("Free")
    await pay(other, 4, "Cash")
    await deaf.misses("ORDER_ID_TAKEN")
    deaf.hear()
    await expect(other.notice).to_contain_text(re.compile("Already paid: 2,100 MMK card by"))
    await expect(other.notice).to_contain_text("Not saved: 2,100 MMK cash")
    await floor.agree(window, other)
    assert sales(floor.conninfo) == [(2625, "card"), (2100, "card")]


async def test_a_table_whose_payment_is_refused_is_not_freed(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(4, 2)
    await window.order("Mohinga")
    await floor.agree(window)
    await floor.relay.kill()
    await window.stands("offline")
    await pay(window, 4, "Card")
    execute(
        floor.conninfo,
        "insert into pos.order_history (restaurant_id, id, table_number, status, total, items)"
        " select restaurant_id, order_id, 9, 'completed', 1, '[]' from pos.tables where number = 4",
    )
    await floor.relay.start()
    await expect(window.notice).to_contain_text("Already paid: 1 MMK")
    await expect(window.notice).to_have_count(1)
    await floor.agree(window)
    assert table(floor.conninfo, 4)["status"] == "occupied"
    await window.button("Record it as another sale").click()
    await expect(window.notice).to_have_count(0)
    await floor.agree(window)
    assert sales(floor.conninfo) == [(1, None), (2625, "card")]


async def test_a_payment_of_a_table_that_was_deleted_or_cleared_meanwhile_is_recorded_on_demand(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    dialog = window.page.get_by_role("dialog")
    for number, told in ((3, "deleted"), (4, "cleared")):
        await window.seat(number, 2)
        await window.order("Mohinga")
        await floor.agree(window, other)
        await window.button("Pay").click()
        await expect(dialog.get_by_role("button", name="Cash")).to_be_visible()
        if told == "deleted":
            execute(floor.conninfo, "delete from pos.tables where number = 3")
        else:
            await other.open(number)
            await other.button("Clear table").click()
            await other.button("Clear it").click()
            await other.seat(number, 5)
        await expect(dialog.get_by_role("alert")).to_contain_text(f"Table {number} was {told} meanwhile")
        await expect(dialog.get_by_role("button", name="Close")).to_be_focused()
        await expect(dialog.get_by_role("button", name="Cash")).to_be_hidden()
        await dialog.get_by_role("button", name="Record 2,625 MMK all the same").click()
        await dialog.get_by_role("button", name="Cash").click()
        await expect(dialog).to_have_count(0)
        await floor.agree(window, other)
    assert sales(floor.conninfo) == [(2625, "cash"), (2625, "cash")]
    assert [
        row for (row,) in query(floor.conninfo, "select table_number from pos.order_history order by revision")
    ] == [3, 4]
    assert (table(floor.conninfo, 4)["status"], table(floor.conninfo, 4)["guests"]) == ("occupied", 5)
    await expect(window.notice).to_have_count(0)


async def test_a_payment_goes_by_the_number_that_its_table_gets_meanwhile(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(4, 2)
    await window.order("Mohinga")
    await floor.agree(window)
    await window.button("Pay").click()
    dialog = window.page.get_by_role("dialog", name="Table 4 pays")
    await expect(dialog).to_be_visible()
    execute(floor.conninfo, "update pos.tables set number = 44 where number = 4")
    dialog = window.page.get_by_role("dialog", name="Table 44 pays")
    await dialog.get_by_role("button", name="Cash").click()
    await expect(window.table(44)).to_contain_text("Free")
    await floor.agree(window)
    assert query(floor.conninfo, "select table_number, total from pos.order_history") == [(44, 2625)]


async def test_who_takes_a_payment_is_told_that_somebody_else_has_taken_it(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.seat(3, 2)
    await window.order("Mohinga")
    await floor.agree(window, other)
    await window.button("Pay").click()
    await pay(other, 3, "Card")
    dialog = window.page.get_by_role("dialog")
    await expect(dialog).to_contain_text(re.compile("nothing to pay any more. Already paid: 2,625 MMK card by Till 1"))
    await expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    await expect(dialog.get_by_role("button")).to_have_count(1)
    await window.page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    await floor.agree(window, other)
    assert sales(floor.conninfo) == [(2625, "card")]


async def test_a_payment_of_a_closed_window_that_is_refused_is_told_in_the_one_that_is_open(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        first = await floor.open()
        second, other = await floor.open(beside=first), await floor.open(relay=other_relay)
        await second.seat(4, 2)
        await second.order("Mohinga")
        await floor.agree(second, other)
        await first.opens_offline()
        await floor.relay.kill()
        await second.stands("offline")
        await pay(second, 4, "Card")
        await expect(second.table(4)).to_contain_text("Free")
        await second.page.close()
        await pay(other, 4, "Cash")
        await expect(other.table(4)).to_contain_text("Free")
        await floor.relay.start()
        for _ in range(2):
            await first.reload()
            await first.stands("live")
            await expect(first.notice).to_contain_text("Already paid: 2,625 MMK cash")
            await expect(first.notice).to_have_count(1)
        await first.button("Record it as another sale").click()
        await expect(first.notice).to_have_count(0)
        await floor.agree(first, other)
        assert sales(floor.conninfo) == [(2625, "cash"), (2625, "card")]
        await first.reload()
        await first.stands("live")
        await expect(first.notice).to_have_count(0)


async def test_a_sale_counts_for_the_day_on_which_it_was_made_here(floor: Floor) -> None:
    window = await floor.open(timezone_id="America/New_York")
    await window.page.clock.set_fixed_time("2026-11-26T02:10:00Z")  # the evening before
    execute(
        floor.conninfo,
        "insert into pos.order_history (restaurant_id, id, order_date, status, total, items, created_at)"
        " select restaurant_id, 'POS-11262026-001', '2026-11-26', 'completed', 5000, '[]', '2026-11-26T02:05:00Z'"
        " from pos.restaurants",  # with the day in London, as the MiniPOS app writes it
    )
    await window.go("Orders")
    await expect(window.page.locator(".orders .view-head")).to_contain_text("1 order today, 5,000 MMK")
