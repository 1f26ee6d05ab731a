"""Who may do what at the page: tokens, roles, and what it says to who is kept out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from relay import auth, terminals
from relay.protocol import KINDS
from tests.cluster import free_port
from tests.library.shops import execute, ledger
from tests.pages.crossing import query
from tests.pages.floor import Floor, Window
from tests.pages.windows import Windows, violations
from tests.relays import relay_process

# What a notice says where the role is in the way.
FORBIDDEN = (
    "Nothing was changed: only a waiter's or a manager's terminal may change tables and their orders. "
    "You wanted: Occupied, 2 guests.",
    "Nothing was changed: only a manager's terminal may change the menu. You wanted: ",
    "Nothing was changed: only a manager's terminal may change the settings. Not saved: Tax, percent: 1.",
)

_OFFERED = ("UPDATE_TABLE", "UPDATE_ORDER", "UPDATE_MENU", "UPDATE_SETTINGS", "MESSAGE")
# Guests with an order, a reservation, and a sale of before.
_EVENING = (
    """update pos.tables set status = 'occupied', order_id = 'POS-01022026-002', order_total = 800,
       order_items = '[{"id": "x", "name": "Tea", "price": 800}]', extra = extra || '{"guests": 2}' where number = 4""",
    "update pos.tables set status = 'reserved' where number = 5",
    "insert into pos.order_history (restaurant_id, id, table_number, status, total, items)"
    " select restaurant_id, 'POS-01022026-001', 4, 'completed', 1, '[]' from pos.restaurants",
)


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(shop: str, windows: Windows) -> AsyncIterator[Floor]:
    """A floor whose relay asks for a token."""
    port = str(free_port())
    settings: dict[str, Any] = {"PORT": port, "RELAY_AUTH": "token", "RELAY_ORIGINS": f"http://127.0.0.1:{port}"}
    async with relay_process(shop, **settings) as relay:
        yield Floor(shop, relay, windows)


async def refused(floor: Floor, windows: Windows) -> Window:
    window = Window(await windows.open(floor.url))
    await window.stands("refused")
    return window


async def show_token(window: Window, token: str) -> None:
    await window.page.get_by_label("Token of this terminal").fill(token)
    await window.button("Connect").click()


async def test_a_terminal_without_a_token_is_told_and_comes_in_with_one(guarded: Floor, windows: Windows) -> None:
    token = await terminals.add(guarded.conninfo, "default", "Bar 1", "terminal")
    window = await refused(guarded, windows)
    dialog = window.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("The relay does not let this terminal in")
    await expect(dialog).to_contain_text("show a token")
    await window.page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await window.pill.click()
    await show_token(window, token[:-1] + ("A" if token[-1] != "A" else "B"))
    await expect(dialog).to_contain_text("this token is not known here")
    await show_token(window, token)
    await window.stands("live")
    await window.seat(4, 2)
    await guarded.agree(window)
    await window.reload()
    await window.stands("live")
    assert token not in window.page.url
    execute(guarded.conninfo, "delete from pos.terminals")
    await window.stands("refused")


async def test_what_was_not_sent_under_one_token_is_sent_under_the_next(guarded: Floor, windows: Windows) -> None:
    window = await refused(guarded, windows)
    await show_token(window, await terminals.add(guarded.conninfo, "default", "Bar 1", "terminal"))
    await window.stands("live")
    await guarded.relay.kill()
    await window.stands("offline")
    await window.seat(4, 2)
    await terminals.revoke(guarded.conninfo, None, "Bar 1")
    await guarded.relay.start()
    await window.stands("refused")
    await show_token(window, await terminals.add(guarded.conninfo, "default", "Bar 2", "terminal"))
    await window.stands("live")
    await expect(window.table(4)).to_contain_text("2 of 4 seats")
    assert list(ledger(guarded.conninfo).values()) == [1]


async def test_what_a_role_may_not_do_is_refused_with_who_may(guarded: Floor, windows: Windows) -> None:
    window = await refused(guarded, windows)
    await show_token(window, await terminals.add(guarded.conninfo, "default", "Bar 1", "manager"))
    await window.stands("live")
    await guarded.relay.kill()
    await window.stands("offline")
    await window.seat(4, 2)
    await window.go("Menu")
    await window.page.locator(".dish-row", has_text="Mohinga").click()
    dialog = window.page.get_by_role("dialog")
    await dialog.get_by_label("Price").fill("1")
    await dialog.get_by_role("button", name="Save").click()
    await window.go("Settings")
    await window.page.get_by_label("Tax, percent").fill("1")
    await window.button("Save").click()
    execute(guarded.conninfo, "update pos.terminals set role = 'display'")
    await guarded.relay.start()
    notices = [window.notice.filter(has_text=text) for text in ("table 4", "Mohinga", "settings")]
    for notice, told in zip(notices, FORBIDDEN, strict=True):
        await expect(notice.locator(".notice-text")).to_contain_text(told)
        await expect(notice).to_contain_text("Have it done there, or ask a manager to let this terminal do it.")
        await expect(notice).not_to_contain_text("needs the role")
    await expect(window.page.get_by_role("status").filter(has_text="Saved")).to_have_count(0)
    await expect(window.page.get_by_label("Tax, percent")).to_have_value("5")
    await window.go("Menu")
    await expect(window.page.locator(".dish-row", has_text="Mohinga")).to_contain_text("2,500 MMK")
    for notice in notices:
        await notice.get_by_role("button", name="Understood").click()
    await expect(window.notice).to_have_count(0)
    await guarded.agree(window)


async def test_the_page_knows_what_each_role_may_do(floor: Floor) -> None:
    window = await floor.open()
    roles, types = [*auth.ROLES, auth.NOBODY], sorted(KINDS)
    asked = f"select role, type, pos.may(role, type) from unnest(array{roles}) as role, unnest(array{types}) as type"
    found = [list(row) for row in query(floor.conninfo, asked)]
    answers = "([role, type]) => import('/floor/roles.js').then(({ may }) => [role, type, may(role, type)])"
    assert [await window.page.evaluate(answers, [role, type_]) for role, type_, _ in found] == found


async def enter(floor: Floor, windows: Windows, role: str) -> Window:
    """A window that shows a token of this role."""
    window = await refused(floor, windows)
    await show_token(window, await terminals.add(floor.conninfo, "default", f"The {role}", role))
    await window.stands("live")
    return window


async def offered(type_: str, *controls: Locator) -> set[str]:
    """The mutation that these controls of what is shown lead to, where they can be used: all of them, or none."""
    found = {await one.is_visible() and await one.is_enabled() for one in controls}
    assert len(found) == 1, (type_, [str(one) for one in controls])
    return {type_} if found == {True} else set()


@pytest.mark.parametrize("role", auth.ROLES)
async def test_a_role_is_offered_what_it_may_do(guarded: Floor, windows: Windows, role: str) -> None:
    execute(guarded.conninfo, *_EVENING)
    window = await enter(guarded, windows, role)
    page, button, dialog = window.page, window.button, window.page.get_by_role("dialog")
    await window.open(4)
    dish = window.panel.locator(".dish").first
    serving = [
        button(name) for name in ("Add table", "Edit table", "One guest more", "One more Tea", "Pay", "Clear table")
    ]
    found = await offered("UPDATE_TABLE", *serving, dish)
    await expect(window.panel.get_by_text("This terminal only shows")).to_be_visible(visible=role == "display")
    await expect(window.panel).to_contain_text("840 MMK")
    await window.open(5)
    seating = [button(name) for name in ("Edit table", "2 guests", "Cancel the reservation")]
    assert await offered("UPDATE_TABLE", *seating) == found & {"UPDATE_TABLE"}
    await window.open(6)
    assert await offered("UPDATE_TABLE", button("2 guests"), button("Reserve")) == found & {"UPDATE_TABLE"}
    await window.go("Orders")
    await page.locator(".order-row").click()
    found |= await offered("UPDATE_ORDER", dialog.get_by_role("button", name="Void"))
    await dialog.get_by_role("button", name="Close").click()
    assert await offered("UPDATE_ORDER", button("Clear history")) == found & {"UPDATE_ORDER"}
    await window.go("Menu")
    dishes = page.locator(".dish-row")
    found |= await offered("UPDATE_MENU", button("Add dish"), button("Categories"), dishes.first, dishes.last)
    await window.go("Settings")
    await expect(page.get_by_label("Tax, percent")).to_have_value("5")
    if await page.get_by_label("Tax, percent").is_enabled():
        await page.get_by_label("Tax, percent").fill("6")
    board = page.get_by_role("link", name="The board")
    found |= await offered("UPDATE_SETTINGS", page.get_by_label("Tax, percent"), button("Save"), board)
    found |= await offered("MESSAGE", page.get_by_label("Name of this terminal"))
    assert found == {type_ for type_ in _OFFERED if auth.may(role, type_)}
    await window.pill.click()
    await expect(dialog.locator("dd", has_text={"terminal": "Waiter"}.get(role, role.title()))).to_be_visible()
    assert await violations(page) == []


async def test_a_refusal_that_somebody_may_do_nothing_about_any_more_is_only_told(
    guarded: Floor, windows: Windows
) -> None:
    window = await enter(guarded, windows, "manager")
    await guarded.relay.kill()
    await window.stands("offline")
    await window.page.evaluate("terminal.dish('update_item', { id: '1', price: 3 }, { ifVersion: 1 })")
    execute(guarded.conninfo, "update pos.menu_items set price = 2 where id = '1'")
    await guarded.relay.start()
    buttons = window.notice.get_by_role("button")
    await expect(buttons).to_have_text(["Leave it as it is", "Do mine all the same"])
    execute(guarded.conninfo, "update pos.terminals set role = 'terminal'")
    await window.stands("refused")
    await window.button("Connect").click()
    await window.stands("live")
    await expect(buttons).to_have_text(["Understood"])


async def test_a_display_says_nothing_to_the_others(guarded: Floor, windows: Windows) -> None:
    window = await enter(guarded, windows, "display")
    said: list[str] = []
    window.page.on("websocket", lambda socket: socket.on("framesent", lambda text: said.append(str(text))))
    await window.reload()
    await window.stands("live")
    await window.page.evaluate("() => { Math.random = () => 0 }")  # who is unknown is asked at once
    other = await enter(guarded, windows, "terminal")
    await other.page.evaluate("terminal.table('update', { id: '4', seats: 9 })")
    await expect(window.table(4).locator(".who")).to_contain_text("Terminal")
    await other.page.evaluate("terminal.table('update', { id: '5', seats: 9 })")
    await expect(window.table(5)).to_contain_text("9 seats")
    assert any("CLIENT_CONNECTED" in text for text in said)
    assert [text for text in said if '"MESSAGE"' in text] == []


async def test_a_token_that_is_forgotten_is_asked_for_again(guarded: Floor, windows: Windows) -> None:
    window = await refused(guarded, windows)
    await show_token(window, await terminals.add(guarded.conninfo, "default", "Bar 1", "manager"))
    await window.stands("live")
    await window.go("Settings")
    await window.button("Forget the token").click()
    await window.stands("refused")


async def test_a_page_that_its_relay_keeps_out_says_what_to_set(shop: str, windows: Windows) -> None:
    async with relay_process(shop, RELAY_AUTH="token") as relay:
        page = await windows.open(f"http://127.0.0.1:{relay.port}/")
        hint = f"it must be started with RELAY_ORIGINS=http://127.0.0.1:{relay.port}"
        await expect(page.locator(".hint")).to_contain_text(hint)


async def test_a_restaurant_that_is_not_there_is_said(floor: Floor, windows: Windows) -> None:
    page = await windows.open(f"{floor.url}?restaurant=nowhere")
    await Window(page).stands("refused")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("The address of this page ends in ?restaurant=nowhere")
    await dialog.get_by_role("link").click()
    await Window(page).stands("live")


_DENIED = """for (const name of ['localStorage', 'sessionStorage', 'indexedDB']) {
  Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError') } })
}"""


async def test_a_browser_that_may_keep_nothing_is_worked_with_and_not_closed_by_mistake(floor: Floor) -> None:
    window = await floor.open()
    await window.page.add_init_script(_DENIED)
    await window.reload()
    await window.stands("live")
    await expect(window.page.get_by_text("This browser cannot keep anything")).to_be_visible()
    await floor.relay.kill()
    await window.stands("offline")
    await window.seat(4, 2)
    await expect(window.page.get_by_text("1 change waits in this window to be sent: do not close it.")).to_be_visible()
    async with window.page.expect_event("dialog") as asked:
        await window.page.close(run_before_unload=True)
    dialog = await asked.value
    assert dialog.type == "beforeunload"
    await dialog.dismiss()
    await floor.relay.start()
    await window.stands("live")
    assert (await floor.agree(window))["tables"]["4"]["guests"] == 2


async def test_a_restaurant_without_anything_says_how_to_begin(floor: Floor) -> None:
    execute(floor.conninfo, "insert into pos.restaurants (slug, name) values ('bistro', 'Bistro')")
    window = await floor.open(path="?restaurant=bistro")
    await expect(window.page.get_by_text("There are no tables yet.")).to_be_visible()
    await window.page.locator(".empty").get_by_role("button", name="Add table").click()
    await window.page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await expect(window.table(1)).to_contain_text("4 seats")
    other = await floor.open(beside=window)  # of the other restaurant, in the same browser
    await expect(other.page.locator("a.table")).to_have_count(8)
