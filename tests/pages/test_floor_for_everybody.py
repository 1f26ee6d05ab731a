"""The page by keyboard, by touch, for who sees less, small and large, light and dark."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.library.shops import execute
from tests.pages.evening import have_an_evening
from tests.pages.floor import RUNS_OUT, Floor, Window
from tests.pages.windows import SIZES, THEMES, Theme, Windows, picture, violations
from tests.waiting import until

VIEWS = ("Floor", "Menu", "Orders", "Changes", "Settings")
# What a finger is meant to hit and is smaller than 44 CSS pixels (WCAG 2.5.5); a link in a sentence may be.
_SMALL = """() => [...document.querySelectorAll('a, button, input, textarea')]
  .filter((one) => one.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }))
  .filter((one) => !one.closest('.skip'))
  .map((one) => [one.matches('input[type=checkbox]') ? one.closest('label') : one])
  .map(([one]) => [one.outerHTML.slice(0, 120), one.getBoundingClientRect()])
  .filter(([, box]) => box.width < 43.5 || box.height < 43.5)
  .map(([html, box]) => `${html} ${Math.round(box.width)} x ${Math.round(box.height)}`)"""
_TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"
_LONG = "Daw Khin Myat Thiri Aung-Featherstonehaughcholmondeleymarjoribanks of Mandalay"
_LENGTHEN = (
    f"update pos.tables set customer = to_jsonb('{_LONG}'::text), reservation_time = '20:30' where number in (3, 5)",
    "update pos.tables set number = 2147483640 where number = 8",
    f"update pos.menu_items set name = replace('{_LONG}', ' ', ''), description = '{_LONG} {_LONG}' where id = '7'",
    f"update pos.menu_items set name = '{_LONG}', price = 1234567890.50, category = replace('{_LONG}', ' ', '')"
    " where id = '8'",
    f"""insert into pos.categories (restaurant_id, name)
        select restaurant_id, replace('{_LONG}', ' ', '') from pos.restaurants where slug = 'default'""",
    f"update pos.order_history set customer_name = '{_LONG}', total = 1234567890.50",
    f"""update pos.tables set order_total = 9876543210.50, order_items = jsonb_set(jsonb_set(order_items, '{{0,name}}',
        to_jsonb(replace('{_LONG}', ' ', ''))), '{{0,price}}', '4938271605.25') where number = 3""",
    f"""update pos.restaurants set settings = settings || '{{"restaurantName": "{_LONG}"}}' where slug = 'default'""",
)
_MOVES = "document.getAnimations().map((one) => one.animationName ?? one.transitionProperty)"


async def focused(page: Page) -> str:
    """What has the focus, as a person would name it."""
    found = str(await page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"))
    return " ".join(found.split())


async def tab_to(page: Page, name: str, *, most: int = 60) -> None:
    """Press Tab until something of this name has the focus, which must be seen."""
    for _ in range(most):
        await page.keyboard.press("Tab")
        if name in await focused(page):
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", f"the focus on {name} cannot be seen"
            return
    raise AssertionError(f"{name} is not reached by {most} tabs; the focus is on {await focused(page)!r}")


async def test_a_whole_visit_is_done_by_keyboard_alone(floor: Floor) -> None:
    window = await floor.open()
    page, keys = window.page, window.page.keyboard
    await keys.press("Tab")
    assert await focused(page) == "Skip to the content"
    await keys.press("Enter")
    await tab_to(page, "Table 3")
    await keys.press("Enter")
    await expect(window.panel.locator(".panel-title")).to_be_focused()
    await tab_to(page, "2 guests")
    await keys.press("Enter")
    await expect(window.panel).to_contain_text("Occupied")
    await expect(window.panel.locator(".panel-title")).to_be_focused()  # what had the focus is gone
    await tab_to(page, "Find a dish")
    await keys.type("mohin")
    await keys.press("Enter")
    await expect(window.panel.locator(".line")).to_have_count(1)
    await keys.press("Escape")  # empties the field
    await tab_to(page, "Pay")
    await keys.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(window.button("Pay")).to_be_focused()
    await keys.press("Enter")
    # Who presses Enter twice has not seen what is to be paid.
    await expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    await tab_to(page, "Cash")
    await keys.press("Enter")
    await expect(window.table(3)).to_contain_text("Free")
    await expect(window.table(3)).to_be_focused()
    await keys.press("Enter")
    await keys.press("Escape")
    await expect(window.panel).to_be_hidden()
    await expect(window.table(3)).to_be_focused()
    assert len((await floor.agree(window))["orders"]) == 1


async def escape(page: Page) -> None:
    """Close the dialog, or else the table, that is open."""
    left = page.locator("dialog, .panel:visible")
    before = await left.count()
    await page.keyboard.press("Escape")
    await expect(left).to_have_count(before - 1)


async def see_every_view(window: Window, look: Any) -> None:
    """Go through all there is to see, and look."""
    page = window.page
    for view in VIEWS:
        await window.go(view)
        await expect(page.locator(f".view.{view.lower()}")).to_be_visible()
        await look("tables" if view == "Floor" else view.lower())
    await window.go("Floor")
    await window.open(3)
    await look("table")
    await window.button("Pay").click()
    await look("pay")
    await escape(page)
    await escape(page)
    await window.open(1)
    await look("free-table")
    await window.button("Reserve").click()
    await look("reserve")
    await escape(page)
    await window.button("Edit table").click()
    await look("edit-table")
    await escape(page)
    await escape(page)
    await window.go("Menu")
    await page.locator(".dish-row").first.click()
    await look("edit-dish")
    await escape(page)
    await window.button("Categories").click()
    await look("categories")
    await escape(page)
    await window.go("Orders")
    await page.locator(".order-row").first.click()
    await look("order")
    await escape(page)
    await window.pill.click()
    await look("connection")
    await escape(page)


async def see_trouble(floor: Floor, window: Window, look: Any) -> None:
    """Lose the relay, work on, and be refused."""
    await window.go("Floor")
    await floor.relay.kill()
    await window.stands("offline")
    await window.seat(1, 2)
    await escape(window.page)
    await expect(window.page.locator(".banner").first).to_be_visible()
    await look("offline")
    execute(floor.conninfo, "update pos.tables set status = 'reserved' where number = 1")
    await floor.relay.start()
    await expect(window.notice).to_be_visible()
    await window.stands("live")
    await look("refused")
    await window.notice.get_by_role("button", name="Leave it as it is").click()


@pytest.mark.parametrize("theme", THEMES)
async def test_axe_finds_nothing_wrong_in_any_view(floor: Floor, theme: Theme) -> None:
    await have_an_evening(floor.conninfo)
    window = await floor.open(theme=theme)
    found: list[str] = []

    async def look(name: str) -> None:
        found.extend(f"{name}: {one}" for one in await violations(window.page))

    await see_every_view(window, look)
    await see_trouble(floor, window, look)
    assert found == []


@pytest.mark.parametrize("size", [*SIZES.values(), (1000, 700)], ids=str)
async def test_everything_can_be_hit_and_nothing_runs_out(floor: Floor, size: tuple[int, int]) -> None:
    await have_an_evening(floor.conninfo)
    execute(floor.conninfo, *_LENGTHEN)
    window = await floor.open(size=size, has_touch=size != SIZES["wide"])
    found: list[str] = []

    async def look(name: str) -> None:
        found.extend(f"{name}: {one}" for one in await window.page.evaluate(_SMALL))
        found.extend(f"{name}: {one}" for one in await window.page.evaluate(RUNS_OUT))
        if over := await window.page.evaluate(_TOO_WIDE):
            found.append(f"{name} is {over} too wide")

    await see_every_view(window, look)
    assert found == []


async def test_nothing_moves_for_who_does_not_want_it(floor: Floor) -> None:
    await have_an_evening(floor.conninfo)
    window = await floor.open()  # as windows are opened: prefers-reduced-motion
    execute(floor.conninfo, "update pos.tables set status = 'reserved' where number = 1")
    await expect(window.table(1)).to_contain_text("Reserved")
    assert await window.page.evaluate(_MOVES) == []
    window = await floor.open(reduced_motion="no-preference")
    await window.watch_cards()
    execute(floor.conninfo, "update pos.tables set status = 'available' where number = 1")
    await until(window.highlighted, what="the highlight")
    assert await window.highlighted() == {"1": "arrive"}


async def test_a_chosen_theme_is_kept_and_followed_by_the_other_window(floor: Floor) -> None:
    window = await floor.open(theme="light")
    other = await floor.open(beside=window)
    background = "getComputedStyle(document.body).backgroundColor"
    light = await window.page.evaluate(background)
    await window.go("Settings")
    await window.button("Dark").click()
    await expect(other.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await other.page.evaluate(background) == await window.page.evaluate(background) != light
    await window.reload()
    assert await window.page.evaluate(background) != light
    await window.button("As the system").click()
    await expect(other.page.locator("html")).not_to_have_attribute("data-theme", "dark")
    assert await window.page.evaluate(background) == light


@pytest.mark.pictures
async def test_pictures_of_two_windows_side_by_side(floor: Floor, windows: Windows, tmp_path: Path) -> None:
    """The one of README.md: what the left window has just done is seen in the right one."""
    await have_an_evening(floor.conninfo)
    left = await floor.open(size=(900, 760))
    right = await floor.open(beside=left)
    await right.page.set_viewport_size({"width": 620, "height": 760})
    await left.seat(2, 3)
    await left.order("Tea Leaf")
    await left.order("Myanmar Beer", "Myanmar Beer")
    await floor.agree(left, right)
    await expect(right.table(2).locator(".who")).to_contain_text("Till 1")
    await left.panel.locator(".serving").evaluate("(one) => one.scrollTo(0, 0)")
    shots = [base64.b64encode(await one.page.screenshot(animations="disabled")).decode() for one in (right, left)]
    both = await windows.open("about:blank", size=(1580, 800))
    images = "".join(f'<img src="data:image/png;base64,{shot}" alt="">' for shot in reversed(shots))
    style = "body { margin: 20px; display: flex; justify-content: space-between; background: #c9c5bb } img"
    await both.set_content(f"<style>{style} {{ border-radius: 12px }}</style>{images}")
    await picture(both, "floor-two-windows", tmp_path)


@pytest.mark.pictures
async def test_pictures_of_every_view(floor: Floor, tmp_path: Path) -> None:
    await have_an_evening(floor.conninfo)
    for size, theme in [(size, theme) for size in SIZES for theme in THEMES]:
        window = await floor.open(size=SIZES[size], theme=theme)
        other = await floor.open()
        await other.open(6)
        await other.order("Mohinga")

        async def look(name: str, window: Window = window, where: str = f"{size}-{theme}") -> None:
            await picture(window.page, f"floor-{name}-{where}", tmp_path)

        await see_every_view(window, look)
        await see_trouble(floor, window, look)
        await window.page.context.close()
        await other.page.context.close()
        execute(floor.conninfo, "update pos.tables set status = 'available' where number = 1")
