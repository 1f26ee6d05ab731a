"""What is done at the page while the relay is away, and what becomes of it."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import WebSocketRoute, expect

from tests.library.shops import execute, ledger
from tests.nginx import Nginx, needs_nginx
from tests.pages.floor import Floor, Window
from tests.pages.windows import Windows
from tests.relays import relay_process


async def work_offline(window: Window) -> None:
    """Seat guests and take their order."""
    await window.seat(4, 2)
    await window.order("Mohinga", "Mohinga", "Samosa")
    await expect(window.panel.locator(".line-quantity").first).to_be_visible()


async def test_what_is_done_offline_survives_a_reload_and_is_done_once(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.opens_offline()
    client = await window.client_id()
    await floor.relay.kill()
    await window.stands("offline")
    await work_offline(window)
    await expect(window.page.locator(".banner").first).to_contain_text("4 changes are kept here")
    await expect(window.panel.locator(".panel-under .waiting")).to_be_visible()
    await window.reload()
    assert await window.client_id() == client
    await expect(window.panel.locator(".line")).to_have_count(2)
    await expect(window.page.locator(".banner").first).to_contain_text("4 changes are kept here")
    await window.order("Myanmar Beer")
    await floor.relay.start()
    await window.stands("live")
    state = await floor.agree(window, other)
    lines = state["tables"]["4"]["orderItems"]
    assert sorted((line["price"], line["quantity"]) for line in lines) == [(1200, 1), (2000, 1), (2500, 2)]
    assert list(ledger(floor.conninfo).values()) == [1] * 5
    await expect(window.page.locator(".banner").first).to_be_hidden()
    await expect(window.panel.locator(".waiting")).to_be_hidden()
    await expect(other.table(4)).to_contain_text("8,610 MMK")


@needs_nginx
async def test_behind_a_proxy_the_page_opens_without_its_relay(floor: Floor, windows: Windows) -> None:
    nginx = Nginx([(floor.relay.host, floor.relay.port)])
    try:
        window = Window(await windows.open(f"http://127.0.0.1:{nginx.port}/"))
        await window.stands("live")
        await window.opens_offline()
        await window.reload()
        await window.stands("live")
        await floor.relay.kill()
        await window.stands("offline")
        await work_offline(window)
        await window.reload()
        await expect(window.panel.locator(".line")).to_have_count(2)
        await expect(window.page.locator(".banner").first).to_contain_text("4 changes are kept here")
    finally:
        windows.faults.clear()  # the browser counts the 502 among them
        nginx.stop()


async def test_a_browser_without_network_goes_on_working(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.opens_offline()
    await window.page.context.set_offline(True)
    await window.stands("offline")
    await work_offline(window)
    await window.reload()
    await window.stands("offline")
    await expect(window.panel.locator(".line")).to_have_count(2)
    await window.page.context.set_offline(False)
    await window.stands("live")
    await floor.agree(window, other)
    assert list(ledger(floor.conninfo).values()) == [1] * 4
    await expect(other.table(4)).to_contain_text("7,350 MMK")


async def test_a_network_that_comes_and_goes_brings_it_back_no_sooner_than_its_relay_asked(floor: Floor) -> None:
    window = await floor.open()
    lines: list[WebSocketRoute] = []

    def between(line: WebSocketRoute) -> None:
        line.connect_to_server()
        lines.append(line)

    await window.page.route_web_socket("**/ws", between)
    await window.reload()
    await window.stands("live")
    await lines[-1].close(code=1012, reason="restarting; retry after 600.0 s")
    await window.stands("offline")
    for event in ("offline", "online"):
        await window.page.evaluate("(event) => dispatchEvent(new Event(event))", event)
        status = await window.page.evaluate("terminal.status")
        assert (status["state"], status["why"]) == ("offline", "restarting; retry after 600.0 s")
        assert status["retryInSeconds"] > 300
    await window.button("Try now").click()  # a person may
    await window.stands("live")


async def test_a_relay_that_is_killed_in_the_middle_of_work_loses_and_doubles_nothing(floor: Floor) -> None:
    windows = [await floor.open() for _ in range(2)]
    await windows[0].opens_offline()
    await windows[0].seat(1, 2)
    await windows[1].open(1)
    await floor.agree(*windows)
    for turn in range(3):
        for window in windows:
            await window.order("Mohinga", "Samosa", "Mohinga")
        await floor.relay.kill()
        for window in windows:
            await window.order("Tea Leaf")
        if turn == 1:
            await windows[0].reload()
        await floor.relay.start()
    state = await floor.agree(*windows)
    ordered: dict[int, int] = {}
    for line in state["tables"]["1"]["orderItems"]:
        ordered[line["price"]] = ordered.get(line["price"], 0) + line["quantity"]
    assert ordered == {2500: 12, 2000: 6, 2800: 6}
    assert set(ledger(floor.conninfo).values()) == {1}


@pytest.mark.parametrize("reloads", [True, False])
async def test_a_window_that_is_live_sends_what_a_closed_one_has_left(floor: Floor, reloads: bool) -> None:
    first = await floor.open()
    second = await floor.open(beside=first)
    assert await first.client_id() != await second.client_id()
    await floor.relay.kill()
    await second.stands("offline")
    await second.seat(4, 2)
    await expect(second.page.locator(".banner").first).to_contain_text("1 change is kept here")
    await second.page.close()
    await floor.relay.start()
    if reloads:
        await first.reload()  # it is till 1 again, and brings till 2 to its end
    await first.stands("live")
    await expect(first.table(4)).to_contain_text("2 of 4 seats")
    await expect(first.table(4).locator(".who")).not_to_contain_text("You")
    assert list(ledger(floor.conninfo).values()) == [1]


async def test_an_edit_that_crossed_another_is_shown_with_what_to_do(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await floor.relay.kill()
        await window.stands("offline")
        await window.seat(4, 3)
        await other.seat(4, 2)
        await floor.relay.start()
        await expect(window.notice).to_contain_text("Your change of table 4 was refused")
        await expect(window.notice).to_contain_text("Now: Occupied, 2 guests. You wanted: Occupied, 3 guests.")
        await expect(window.table(4)).to_contain_text("2 of 4 seats")
        await window.reload()
        await window.notice.get_by_role("button", name="Do mine all the same").click()
        await expect(other.table(4)).to_contain_text("3 of 4 seats")
        await expect(window.notice).to_have_count(0)
        state = await floor.agree(window, other)
        assert state["tables"]["4"]["guests"] == 3


async def test_an_edit_of_what_was_deleted_is_shown_and_may_be_made_again(floor: Floor) -> None:
    window = await floor.open()
    await floor.relay.kill()
    await window.stands("offline")
    await window.go("Menu")
    await window.page.locator(".dish-row", has_text="Mohinga").click()
    dialog = window.page.get_by_role("dialog")
    await dialog.get_by_label("Price").fill("2700")
    await dialog.get_by_role("button", name="Save").click()
    await expect(window.page.locator(".dish-row", has_text="Mohinga")).to_contain_text("Not sent yet")
    execute(floor.conninfo, "delete from pos.menu_items where id = '1'")
    await floor.relay.start()
    await expect(window.notice).to_contain_text(re.compile("Your change of .*Mohinga.* was refused"))
    await expect(window.page.locator(".dish-row", has_text="Mohinga")).to_have_count(0)
    await window.notice.get_by_role("button", name="Add it again").click()
    await expect(window.page.locator(".dish-row", has_text="Mohinga")).to_contain_text("2,700 MMK")
    assert (await floor.agree(window))["menu"]["1"]["price"] == 2700


async def test_two_windows_that_take_one_payment_make_one_order(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await window.seat(4, 3)
        await window.order("Mohinga")
        await floor.agree(window, other)
        await floor.relay.kill()
        await window.stands("offline")
        for one in (window, other):
            await one.open(4)
            await one.button("Pay").click()
            await one.page.get_by_role("dialog").get_by_role("button", name="Card").click()
        await expect(other.table(4)).to_contain_text("Free")
        await floor.relay.start()
        await window.stands("live")
        await expect(window.notice).to_contain_text("Already paid: 2,625 MMK card by Till 1")
        await expect(window.notice).to_have_count(1)
        await window.notice.get_by_role("button", name="Leave it as it is").click()
        state = await floor.agree(window, other)
        assert [order["total"] for order in state["orders"].values()] == [2625]
        assert state["tables"]["4"]["status"] == "available"
