"""The page when something comes between: a quick hand, another's edit, a relay that is away."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, expect

from tests.library.shops import execute
from tests.pages.crossing import cut_off
from tests.pages.floor import RUNS_OUT, Floor
from tests.pages.windows import Windows
from tests.waiting import until

# In one task: nothing comes between, neither a frame nor an event that the browser has yet to tell.
_AT_ONCE = """() => {
  const key = (name) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true }))
  const panel = document.querySelector('.panel')
  const place = () => document.activeElement.dataset.id ?? document.activeElement.innerText
  const stands = () => `${panel.hidden ? 'closed' : 'open'}, ${place()}`
  const card = document.querySelector('a.table[data-id="3"]')
  const seen = []
  for (let turn = 0; turn < 2; turn++) {
    card.click()
    seen.push(stands())
    key('Escape')
    seen.push(stands())
  }
  return seen
}"""
# Others than Chromium say so at the request, whose event then goes to the transaction.
_DISK_IS_FULL = """(atTheRequest) => {
  const { put, add } = IDBObjectStore.prototype
  globalThis.put = put
  IDBObjectStore.prototype.put = function (value) {
    if (!atTheRequest) throw new DOMException('the disk is full', 'QuotaExceededError')
    return add.call(this, value, 'client')  // which is there: a ConstraintError
  }
}"""
_CLOSE_THE_DATABASE = """() => {
  const { transaction } = IDBDatabase.prototype
  let first = null
  IDBDatabase.prototype.transaction = function (...how) {
    first ??= this
    if (first === this) this.close()
    return transaction.apply(this, how)
  }
}"""
_TAP_TWICE = """(button) => { button.click(); button.click() }"""
_TYPE_AND_ENTER = """(field) => {
  field.value = 'mohin'
  field.dispatchEvent(new Event('input', { bubbles: true }))
  field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }))
}"""
# Whether it is within the window, and a finger that is put on it hits it.
_IN_REACH = """(element) => {
  const { top, bottom, left, right } = element.getBoundingClientRect()
  const isWithin = top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth
  return isWithin && element.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2))
}"""


async def in_reach(*buttons: Locator) -> None:
    """Wait until buttons can be seen and hit, as the page stands."""
    for button in buttons:
        await until(lambda button=button: button.evaluate(_IN_REACH), what=f"{button} in reach")  # type: ignore[misc]


@pytest.mark.parametrize("size", [(360, 640), (820, 1180), (1000, 700)])
async def test_what_is_told_and_an_open_table_leave_each_other_room(floor: Floor, size: tuple[int, int]) -> None:
    window = await floor.open(size=size)
    panel = [window.button("Clear table"), window.button("Pay"), window.button("Back to the floor")]
    await floor.relay.kill()
    await window.stands("offline")
    await window.seat(4, 2)
    await window.order("Mohinga")
    await expect(window.button("Try now")).to_be_visible()
    await in_reach(window.button("Try now"), *panel)
    execute(floor.conninfo, "update pos.tables set status = 'reserved' where number = 5")
    await window.page.keyboard.press("Escape")
    await window.seat(5, 2)
    await window.order("Mohinga")
    await floor.relay.start()
    await window.stands("live")
    await in_reach(window.notice.first.get_by_role("button").first, window.button("Back to the floor"))
    assert await window.page.evaluate(RUNS_OUT) == []
    await window.page.keyboard.press("Escape")
    await window.open(4)
    await in_reach(window.notice.first.get_by_role("button").first, *panel)


async def test_what_more_was_refused_is_said_before_what_is_shown(floor: Floor) -> None:
    window = await floor.open(size=(360, 740))
    await floor.relay.kill()
    await window.stands("offline")
    for number in (4, 5, 6, 7):
        await window.seat(number, 2)
        await window.page.keyboard.press("Escape")
    execute(floor.conninfo, "update pos.tables set status = 'reserved' where number in (4, 5, 6, 7)")
    await floor.relay.start()
    await expect(window.notice).to_have_count(3)
    more = window.page.get_by_text("1 more change was refused, shown when these are done.")
    await in_reach(more)
    told = [await one.bounding_box() for one in (more, window.notice.first)]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0]["y"] + told[0]["height"] <= told[1]["y"]
    await window.notice.first.get_by_role("button", name="Leave it as it is").click()
    await expect(more).to_be_hidden()
    await expect(window.notice).to_have_count(3)


async def test_a_key_that_follows_at_once_meets_what_the_one_before_has_opened(floor: Floor) -> None:
    window = await floor.open()
    await expect(window.table(3)).to_be_visible()
    assert await window.page.evaluate(_AT_ONCE) == ["open, Table 3", "closed, 3"] * 2
    await window.open(5)  # when the browser has told of all that
    await window.page.go_back()
    await expect(window.panel).to_be_hidden()


async def test_taps_between_two_pictures_all_count(floor: Floor) -> None:
    window = await floor.open()
    await window.open(4)
    await window.button("2 guests").evaluate(_TAP_TWICE)
    await window.panel.get_by_label("Find a dish").evaluate(_TYPE_AND_ENTER)
    await expect(window.panel.locator(".line")).to_contain_text("Mohinga")
    await window.panel.locator(".line .stepper button").last.evaluate(_TAP_TWICE)
    await expect(window.panel.locator(".line-quantity")).to_have_text("3")
    table = (await floor.agree(window))["tables"]["4"]
    assert [(line["price"], line["quantity"]) for line in table["orderItems"]] == [(2500, 3)]
    assert table["version"] == 5  # seated once, a line, two more of it


async def test_a_payment_records_what_it_shows_whatever_is_set_meanwhile(floor: Floor) -> None:
    window = await floor.open()
    dialog = window.page.get_by_role("dialog")
    await window.seat(3, 2)
    await window.order("Mohinga")
    await floor.agree(window)
    await window.button("Pay").click()
    await expect(dialog.locator(".sum.total")).to_contain_text("2,625 MMK")
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    execute(floor.conninfo, """update pos.restaurants set settings = settings || '{"taxRate": 10}'""")
    await expect(dialog.get_by_role("alert")).to_contain_text("What is to be paid has changed meanwhile")
    await expect(dialog.locator(".sum.total")).to_contain_text("2,750 MMK")
    await expect(dialog.get_by_role("button", name="Go on with 2,750 MMK")).to_be_focused()
    await window.page.keyboard.press("Enter")
    await expect(dialog.get_by_role("button", name="Cash")).to_be_focused()
    await window.page.keyboard.press("Enter")
    await expect(window.table(3)).to_contain_text("Free")
    (order,) = (await floor.agree(window))["orders"].values()
    assert (order["total"], order["tax"], order["payment"]) == (2750, 250, "cash")


async def test_dishes_that_a_conflict_refuses_are_named_and_ordered_again_on_demand(floor: Floor) -> None:
    async with cut_off(floor) as (window, other):
        await window.order("Mohinga", "Tea Leaf", "Tea Leaf")
        await other.open(4)
        await other.button("Pay").click()
        await other.page.get_by_role("dialog").get_by_role("button", name="Cash").click()
        await other.seat(4, 3)
        await floor.relay.start()
        await expect(window.notice).to_contain_text("Your change of the order of table 4 was refused")
        lost = re.compile("Not saved: 1 more [^;]*Mohinga; 2 . [^;]*Tea Leaf Salad")
        await expect(window.notice).to_contain_text(lost)
        await expect(window.notice).to_contain_text(
            re.compile(r"The guests have paid \(.* cash by Till 1.*, and others sit")
        )
        await expect(window.notice).to_contain_text("Now: Occupied, 3 guests.")
        await other.button("One guest more").click()
        await expect(window.notice).to_contain_text("Now: Occupied, 4 guests.")
        await window.reload()
        await expect(window.notice).to_contain_text(lost)
        remedy = window.notice.get_by_role("button", name="Order it for those who sit there now")
        await expect(remedy).not_to_have_class(re.compile("primary"))
        await remedy.click()
        await expect(window.notice).to_have_count(0)
        await expect(other.panel.locator(".line")).to_have_count(2)
        table = (await floor.agree(window, other))["tables"]["4"]
        assert sorted((line["price"], line["quantity"]) for line in table["orderItems"]) == [(2500, 1), (2800, 2)]
        assert table["guests"] == 4


async def test_dishes_are_ordered_again_only_where_guests_are(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(4, 2)
    await window.order("Mohinga")
    await floor.agree(window)
    await floor.relay.kill()
    await window.stands("offline")
    await window.order("Mohinga")
    execute(
        floor.conninfo,
        "update pos.tables set status = 'available', order_id = null, order_items = null, order_total = null"
        " where number = 4",
    )
    await floor.relay.start()
    await expect(window.notice).to_contain_text(re.compile("Now: Free. Not saved: 1 more .*Mohinga"))
    await expect(window.notice.get_by_role("button")).to_have_text(["Understood"])
    await window.button("3 guests").click()
    await expect(window.notice).to_contain_text("Now: Occupied, 3 guests")
    await expect(window.notice.get_by_role("button")).to_have_text(
        ["Leave it as it is", "Order it for those who sit there now"]
    )


async def test_a_database_that_the_browser_closed_is_opened_again(floor: Floor, windows: Windows) -> None:
    window = await floor.open()
    await window.page.evaluate(_CLOSE_THE_DATABASE)
    await window.seat(4, 2)
    assert (await floor.agree(window))["tables"]["4"]["guests"] == 2
    assert windows.faults == []


@pytest.mark.parametrize("at_the_request", [False, True])
async def test_what_a_full_disk_does_not_take_is_said_to_be_not_done(
    floor: Floor, windows: Windows, at_the_request: bool
) -> None:
    window = await floor.open()
    await window.page.evaluate(_DISK_IS_FULL, at_the_request)
    await window.open(4)
    await window.button("2 guests").click()
    lost = window.page.get_by_text("Your last change is not done: this browser could not store it.")
    await expect(lost).to_be_visible()
    await expect(window.table(4)).to_contain_text("Free")
    assert {fault.split(" ")[0:3] == ["the", "store", "failed"] for fault in windows.faults} == {True}
    await window.page.evaluate("() => { IDBObjectStore.prototype.put = put }")
    windows.faults.clear()
    await window.seat(4, 2)
    await expect(lost).to_be_hidden()
    assert (await floor.agree(window))["tables"]["4"]["guests"] == 2
