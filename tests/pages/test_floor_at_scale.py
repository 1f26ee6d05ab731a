"""500 tables and 2,000 dishes: how smooth the page stays is printed, and what it touches is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import psycopg
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.library.shops import execute
from tests.pages.floor import Floor, Window

TABLES, DISHES, CHANGES = 500, 2000, 300
FILL = (
    """insert into pos.tables (restaurant_id, id, number, seats, status)
       select r.restaurant_id, 'big' || n, n, 4, 'available'
       from pos.restaurants as r, generate_series(9, 500) as n where r.slug = 'default'""",
    """insert into pos.menu_items (restaurant_id, id, name, price, category, description)
       select r.restaurant_id, 'big' || n, 'Dish number ' || n, n,
              (array['Appetizers', 'Main Menu', 'Pasta', 'Pizza', 'Dessert', 'Beverage'])[1 + n % 6], 'It is ' || n
       from pos.restaurants as r, generate_series(7, 2000) as n where r.slug = 'default'""",
)
# Times between frames, and tasks that held a frame up, from now on.
WATCH = """() => {
  const seen = globalThis.seen = { frames: [], tasks: [], last: performance.now() }
  new PerformanceObserver((list) => seen.tasks.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: 'longtask' })
  const frame = (now) => {
    seen.frames.push(now - seen.last)
    seen.last = now
    requestAnimationFrame(frame)
  }
  requestAnimationFrame(frame)
}"""
FORGET = "Object.assign(seen, { frames: [], tasks: [], last: performance.now() })"
SCROLL = """async () => {
  const frame = () => new Promise(requestAnimationFrame)
  for (let y = 0; y < document.documentElement.scrollHeight; y += 400) {
    scrollTo(0, y)
    await frame()
  }
}"""
# Which cards are touched while something changes.
TOUCHED = """() => {
  globalThis.touched = new Set()
  const watch = new MutationObserver((all) => {
    for (const { target } of all) {
      const element = target.nodeType === 1 ? target : target.parentElement
      touched.add(element.closest('a.table')?.dataset.id ?? element.className)
    }
  })
  watch.observe(document.querySelector('.floor .tables[role=list]'),
    { subtree: true, childList: true, attributes: true, characterData: true })
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def large(floor: Floor) -> AsyncIterator[Floor]:
    execute(floor.conninfo, *FILL)
    yield floor


async def report(page: Page, what: str) -> None:
    """Print what was seen since the last time, and forget it."""
    seen = await page.evaluate("seen")
    frames = sorted(seen["frames"]) or [0.0]
    middle, slow = (round(frames[int(len(frames) * share)], 1) for share in (0.5, 0.95))
    longest = round(max([0, *seen["tasks"]]))
    print(
        f"\n{what}: {len(frames)} frames, half within {middle} ms, 95 % within {slow} ms, the longest "
        f"{frames[-1]:.0f} ms; {len(seen['tasks'])} tasks over 50 ms, the longest {longest} ms"
    )
    await page.evaluate(FORGET)


def change_many(conninfo: str) -> None:
    """As many changes as a busy house makes in minutes, each a commit of its own."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for number in range(CHANGES):
            guests = json.dumps({"guests": number % 4 + 1})
            connection.execute(
                "update pos.tables set status = 'occupied', extra = extra || %s::jsonb where number = %s",
                (guests, number % 40 + 1),
            )


async def test_a_large_house_stays_smooth(large: Floor) -> None:
    window = await large.open()
    page = window.page
    await expect(page.locator("a.table")).to_have_count(TABLES)
    await page.evaluate(WATCH)
    await asyncio.to_thread(change_many, large.conninfo)
    await window.agrees(large.conninfo)
    await report(page, f"{CHANGES} changes among {TABLES} tables")
    await page.evaluate(SCROLL)
    await report(page, f"scrolling {TABLES} tables")
    await window.go("Menu")
    await expect(page.locator(".menu .dish-row")).to_have_count(DISHES)
    await report(page, f"opening a menu of {DISHES}")
    await page.evaluate(SCROLL)
    await report(page, f"scrolling a menu of {DISHES}")
    await page.locator(".menu .find").press_sequentially("number 1999")  # a search by label is work for the page, too
    await expect(page.locator(".menu .dish-row")).to_have_count(1)
    await report(page, f"finding one of {DISHES} dishes")
    await window.go("Floor")
    await window.open(1)
    await expect(window.panel.locator(".dish")).to_have_count(DISHES)
    await report(page, f"opening a table beside {DISHES} dishes")
    await window.panel.locator(".picker .input").fill("number 1996")
    await expect(window.panel.locator(".dish")).to_have_count(1)
    for _ in range(10):
        await window.panel.locator(".dish").click()
    await expect(window.panel.locator(".line-quantity")).to_have_text("10")
    await window.agrees(large.conninfo)
    await report(page, "ordering ten")


async def test_a_change_touches_the_table_that_it_is_about_and_no_other(large: Floor) -> None:
    window = await large.open()
    page = window.page
    await expect(page.locator("a.table")).to_have_count(TABLES)
    await page.evaluate(TOUCHED)
    execute(large.conninfo, "update pos.tables set status = 'reserved' where number = 7")
    await expect(window.table(7)).to_contain_text("Reserved")
    other = await large.open()
    await other.seat(9, 2)
    await expect(window.table(9)).to_contain_text("Occupied")
    await window.agrees(large.conninfo)
    assert set(await page.evaluate("[...touched]")) == {"7", "big9"}


async def test_what_is_sought_in_a_large_house_is_found(large: Floor) -> None:
    window: Window = await large.open(size=(360, 740))
    await window.page.get_by_label("Find a table").fill("499")
    await expect(window.page.locator("a.table")).to_have_count(1)
    await window.open(499)
    await window.button("2 guests").click()
    await window.panel.get_by_label("Find a dish").fill("number 1500")
    await window.panel.get_by_label("Find a dish").press("Enter")
    await expect(window.panel.locator(".line-name")).to_have_text("Dish number 1500")
