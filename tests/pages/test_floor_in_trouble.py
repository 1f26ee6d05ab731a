"""The page when something comes between: a quick hand, another's edit, a relay that is away."""

from __future__ import annotations

from playwright.async_api import expect

from tests.pages.floor import Floor

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
_TAP_TWICE = """(button) => { button.click(); button.click() }"""
_TYPE_AND_ENTER = """(field) => {
  field.value = 'mohin'
  field.dispatchEvent(new Event('input', { bubbles: true }))
  field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }))
}"""


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
