"""Sums as the currency has them: in what is shown, what is typed and what is recorded."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.library.shops import execute
from tests.pages.crossing import pay, query, sales
from tests.pages.floor import Floor
from tests.waiting import until

_CURRENCY = 'update pos.restaurants set settings = settings || \'{{"currency": "{}"}}\''


@pytest.mark.parametrize(
    ("currency", "price", "total", "recorded"),
    [("JPY", "333", "350 JPY", "350"), ("KWD", "3.335", "3.502 KWD", "3.502"), ("Beans", "2", "2.10 Beans", "2.1")],
)
async def test_a_bill_has_the_decimals_of_its_currency(
    floor: Floor, currency: str, price: str, total: str, recorded: str
) -> None:
    execute(floor.conninfo, _CURRENCY.format(currency))
    execute(floor.conninfo, f"update pos.menu_items set price = {price} where id = '1'")
    window = await floor.open()
    await window.seat(3, 2)
    await window.order("Mohinga")
    await expect(window.panel.locator(".total")).to_have_text(total)
    await expect(window.table(3).locator(".table-sum")).to_have_text(total)
    await pay(window, 3, "Cash")
    await window.go("Orders")
    await expect(window.page.locator(".order-row")).to_contain_text(total)
    await until(lambda: sales(floor.conninfo), what="the sale")
    assert [(str(found), payment) for found, payment in sales(floor.conninfo)] == [(recorded, "cash")]


async def test_a_price_has_no_more_decimals_than_its_currency_and_an_end(floor: Floor) -> None:
    execute(floor.conninfo, _CURRENCY.format("EUR"))
    window = await floor.open()
    await window.go("Menu")
    await window.page.locator(".dish-row", has_text="Mohinga").click()
    dialog = window.page.get_by_role("dialog")
    await dialog.get_by_label("Price").fill("0.005")
    await dialog.get_by_role("button", name="Save").click()
    told = await dialog.get_by_label("Price").evaluate("(input) => input.validationMessage")
    assert told == "EUR has 2 decimals"
    await dialog.get_by_label("Price").fill("1e21")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_be_visible()
    await dialog.get_by_label("Price").fill("2.5")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    await expect(window.page.locator(".dish-row", has_text="Mohinga")).to_contain_text("2.50 EUR")
    await expect(window.page.locator(".dish-row", has_text="Samosa")).to_contain_text("2,000.00 EUR")
    await floor.agree(window)
    assert query(floor.conninfo, "select price::text from pos.menu_items where id = '1'") == [("2.5",)]


async def test_card_and_open_table_show_what_the_guests_will_pay_whoever_changes_their_lines(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(3, 2)
    await window.order("Mohinga")
    for shown in (window.table(3).locator(".table-sum"), window.panel.locator(".total")):
        await expect(shown).to_have_text("2,625 MMK")
    await window.agrees(floor.conninfo)
    execute(
        floor.conninfo,
        "update pos.tables set order_items = order_items || "
        """'[{"id": "x", "name": "Tea", "price": 400}]' where number = 3""",
    )
    for shown in (window.table(3).locator(".table-sum"), window.panel.locator(".total")):
        await expect(shown).to_have_text("3,045 MMK")
    execute(floor.conninfo, """update pos.restaurants set settings = settings || '{"taxRate": 10}'""")
    for shown in (window.table(3).locator(".table-sum"), window.panel.locator(".total")):
        await expect(shown).to_have_text("3,190 MMK")


async def test_an_order_keeps_its_currency_its_rates_and_who_took_the_money(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(3, 2)
    await window.order("Mohinga")
    await pay(window, 3, "Cash")
    await floor.agree(window)
    execute(floor.conninfo, _CURRENCY.format("EUR"))
    execute(floor.conninfo, "update pos.menu_items set price = 2.5 where id = '1'")
    execute(floor.conninfo, """update pos.restaurants set settings = settings || '{"taxRate": 8}'""")
    await window.seat(3, 2)
    await window.order("Mohinga")
    await pay(window, 3, "Card")
    await until(lambda: len(sales(floor.conninfo)) == 2, what="the second sale")
    execute(
        floor.conninfo,
        "insert into pos.order_history (restaurant_id, id, table_number, status, total, items, extra)"
        " select restaurant_id, 'theirs', 9, 'completed', 1, '[]', '{\"tax\": 1}' from pos.restaurants",
    )
    reader = await floor.open()  # it has seen nothing of it
    await reader.go("Orders")
    await expect(reader.page.locator(".orders .view-head")).to_contain_text("3 orders today, 3.70 EUR + 2,625 MMK")
    row = reader.page.locator(".order-row", has_text="2,625 MMK")
    await expect(row.locator(".who")).to_contain_text(re.compile(r"Till 1.*, \d\d:\d\d"))
    await row.click()
    dialog = reader.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("taken by Till 1")
    await expect(dialog.locator(".sum", has_text="Tax")).to_have_text("Tax 5 %125 MMK")
    await dialog.get_by_role("button", name="Close").click()
    await reader.page.locator(".order-row", has_text="Table 9").click()
    await expect(dialog.locator(".sum", has_text="Tax")).to_have_text("Tax1.00 EUR")
