"""What the page at /board calls things, and what it says of what it does not know."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal

import pytest
from playwright.async_api import expect

from relay.terminal import Terminal as LibraryTerminal
from tests.pages.test_board_page import board, by_hand, relay
from tests.pages.windows import SIZE, SIZES, Windows
from tests.relays import LocalRelay
from tests.terminals import Terminal

__all__ = ["relay"]

SLUG = "the-old-harbour-brewery-and-dining-rooms-at-the-end-of-the-pier"
NAME = "The bar on the upper floor, second till from the left"


async def test_a_terminal_is_called_by_its_name_and_a_table_by_its_number(
    shop: str, relay: LocalRelay, windows: Windows
) -> None:
    await asyncio.to_thread(by_hand, shop, "update pos.tables set number = 77 where id = '4'")
    async with LibraryTerminal(relay.url, name=NAME) as bar:
        page = await windows.open(board(relay))
        await expect(page.locator(f'tr[data-client="{bar.client_id}"]')).to_contain_text(NAME)
        await bar.answered(await bar.table("update", {"id": "4", "status": "occupied"}))
        for shown in (page.locator(".log-line").first, page.locator(".way-entry").first):
            await expect(shown).to_contain_text("Table 77 changed")
            await expect(shown).to_contain_text(NAME)
        await expect(page.locator(".way-detail h3")).to_contain_text("Table 77 changed")
    await expect(page.locator(".terminals")).to_be_hidden()
    await page.get_by_placeholder("Table, guest, dish").fill("upper floor")
    await expect(page.locator(".log-line")).to_have_count(1)
    await expect(page.locator(".log-line")).to_contain_text(NAME)


async def test_what_the_log_left_out_is_said_whatever_is_chosen(shop: str, relay: LocalRelay, windows: Windows) -> None:
    async with Terminal(relay.url, "till-1"):
        page = await windows.open(board(relay))
        await expect(page.locator(".log-line").first).to_be_visible()
        await page.get_by_label("What").select_option(label="Orders")
        burst = """insert into pos.tables (restaurant_id, id, number, seats)
            select 1, 'b' || n, 100 + n, 4 from generate_series(1, 500) as n"""
        await asyncio.to_thread(by_hand, shop, burst)
        await expect(page.locator(".log-line")).to_have_count(1)
        await expect(page.locator(".log-line")).to_contain_text("400 changes came too fast to be listed")
        await expect(page.get_by_text("No change is like that")).to_be_visible()


async def test_a_way_that_is_not_known_any_more_is_said_to_be_gone(
    shop: str, relay: LocalRelay, windows: Windows
) -> None:
    async with Terminal(relay.url, "till-1") as till:
        page = await windows.open(board(relay))
        revision = (await till.table("update", {"id": "4", "status": "occupied"}))["revision"]
        link = page.get_by_role("button", name=f"Show its way: {revision}")
        await expect(link).to_be_visible()
        burst = """insert into pos.tables (restaurant_id, id, number, seats)
            select 1, 'b' || n, 100 + n, 4 from generate_series(1, 60) as n"""
        await asyncio.to_thread(by_hand, shop, burst)
        await expect(page.locator(".way-detail")).to_have_attribute("data-change", f"default#{revision + 60}")
        await link.click()
        gone = page.get_by_text(f"The way of #{revision} is not known any more")
        await expect(gone).to_be_visible()
        await page.locator(".way-entry").first.click()
        await expect(gone).to_be_hidden()


async def test_sums_are_shown_where_they_mean_something_and_as_money(relay: LocalRelay, windows: Windows) -> None:
    async with LibraryTerminal(relay.url) as till:
        page = await windows.open(board(relay))
        line = page.locator(".log-line").first
        order = {
            "id": "o1", "tableNumber": 1, "customerName": "U Ba", "orderDate": "2026-11-27", "status": "completed",
            "total": Decimal("12345.50"), "items": [{"id": "1", "price": 5}], "createdAt": "2026-11-27T02:00:00.000Z",
        }  # fmt: skip
        await till.order("add", order)
        await expect(line).to_contain_text("table 1, 1 line, total 12,345.50")
        await till.dish("update_item", {"id": "1", "price": 0.1 + 0.2})
        await expect(line).to_contain_text("price 0.30")
        await till.table("update", {"id": "4", "status": "available", "orderItems": [], "orderTotal": 0})
        await expect(line).to_contain_text("Table 4 changed available")
        await expect(line).not_to_contain_text("total")


@pytest.mark.parametrize(
    "size", [(720, 900), SIZES["tablet"], SIZE, (1600, 900), SIZES["wide"]], ids=lambda size: str(size[0])
)
async def test_what_is_short_is_not_broken_for_what_is_long(
    shop: str, relay: LocalRelay, windows: Windows, size: tuple[int, int]
) -> None:
    await asyncio.to_thread(by_hand, shop, f"insert into pos.restaurants (slug, name) values ('{SLUG}', 'Brewery')")
    async with (
        LibraryTerminal(relay.url, name=NAME.replace(" ", "")),
        LibraryTerminal(relay.url, name=NAME, restaurant=SLUG),
    ):
        page = await windows.open(board(relay), size=size)
        await expect(page.locator(".terminals .chip", has_text="up to date")).to_have_count(2)
        for lines in ("Array.from(document.querySelectorAll('.terminals .chip'))", "relayNames()"):
            heights = await page.evaluate(
                """lines => { const relayNames = () => [...document.querySelectorAll('td.col-relay span')]
                return eval(lines).map(one => one.getBoundingClientRect().height) }""",
                lines,
            )
            assert len(heights) == 2
            assert max(heights) < 36, "one line"
        scroll = page.locator(".terminals-scroll")
        assert await scroll.evaluate("it => it.scrollWidth <= it.clientWidth")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_the_head_of_a_narrow_page_takes_two_lines(shop: str, relay: LocalRelay, windows: Windows) -> None:
    await asyncio.to_thread(by_hand, shop, f"insert into pos.restaurants (slug, name) values ('{SLUG}', 'Brewery')")
    async with LibraryTerminal(relay.url), LibraryTerminal(relay.url, restaurant=SLUG):
        page = await windows.open(board(relay), size=SIZES["phone"])
        await expect(page.get_by_label("Restaurant")).to_be_visible()
        middles = await page.evaluate(
            """[...document.querySelectorAll('.top-tools > *')].map((one) => {
                const { top, bottom } = one.getBoundingClientRect()
                return (top + bottom) / 2
            })"""
        )
        assert max(middles) - min(middles) < 4, "one line below the title"
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_restaurant_whose_changes_nobody_hears_is_not_said_to_have_none(
    relay: LocalRelay, windows: Windows
) -> None:
    page = await windows.open(board(relay))
    await expect(page.locator(".health")).to_contain_text(re.compile("no terminal is connected"))
    await expect(page.get_by_text("that has a terminal connected")).to_be_visible()
