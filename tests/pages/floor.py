"""The page at / as a person uses it, and whether it shows what the database holds."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.pages.windows import Windows
from tests.relays import RelayProcess
from tests.terminals import state_in_database
from tests.waiting import until

# What the page holds and shows, in the form of state_in_database, and how it stands.
_REPORT = """() => {
  const { tables, menuItems, orderHistory, categories, settings } = terminal.view
  const rows = (map) => Object.fromEntries(map)
  const state = { tables: rows(tables), menu: rows(menuItems), orders: rows(orderHistory), settings }
  state.categories = [...categories].sort()
  return { state, revision: terminal.revision, stands: terminal.state, pending: terminal.pending.length }
}"""

# What is wider than what it stands in, and is not cut off with dots or scrolled there; by 6 it may be, for rings.
RUNS_OUT = """() => [...document.body.querySelectorAll('*')]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }) && one.scrollWidth > one.clientWidth + 6)
  .filter((one) => getComputedStyle(one).overflowX === 'visible' && getComputedStyle(one).display !== 'inline')
  .map((one) => `${one.outerHTML.slice(0, 160)} ${one.scrollWidth} in ${one.clientWidth}`)"""
# By id, each card that was ever highlighted from now on, and with which animation: a highlight lasts for seconds only,
# and a machine that is shared may not look within them.
_WATCH = """() => {
  const highlighted = (globalThis.highlighted = {})
  const watch = new MutationObserver((all) => {
    for (const { target } of all) {
      if (target.matches('.table.fresh')) highlighted[target.dataset.id] = getComputedStyle(target).animationName
    }
  })
  watch.observe(document.querySelector('.view.floor'), { subtree: true, attributeFilter: ['class'] })
}"""


class Window:
    """A window with the floor in it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def pill(self) -> Locator:
        return self.page.locator(".pill")

    @property
    def panel(self) -> Locator:
        return self.page.locator(".panel")

    @property
    def notice(self) -> Locator:
        return self.page.locator(".notice")

    def table(self, number: int) -> Locator:
        """The card of a table."""
        return self.page.locator("a.table", has=self.page.locator(".table-number", has_text=re.compile(rf"^{number}$")))

    def button(self, name: str, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    async def stands(self, state: str) -> None:
        await expect(self.pill).to_have_attribute("data-state", state)

    async def go(self, view: str) -> None:
        """Follow a link of the navigation."""
        await self.page.get_by_role("navigation").get_by_role("link", name=view).click()

    async def open(self, number: int) -> None:
        await self.table(number).click()
        await expect(self.panel.locator(".panel-title")).to_have_text(f"Table {number}")

    async def seat(self, number: int, guests: int) -> None:
        await self.open(number)
        await self.button(f"{guests} guests").click()
        await expect(self.panel.locator(".chip").first).to_have_text("Occupied")

    async def order(self, *dishes: str) -> None:
        """Add dishes to the order of the table that is open."""
        for dish in dishes:
            await self.panel.locator(".dish", has_text=dish).click()

    async def watch_cards(self) -> None:
        """From now on, remember which cards are highlighted."""
        await self.page.evaluate(_WATCH)

    async def highlighted(self) -> dict[str, str]:
        """The animations of the cards that were, by their tables' ids."""
        return dict(await self.page.evaluate("highlighted"))

    async def client_id(self) -> str:
        return str(await self.page.evaluate("terminal.clientId"))

    async def reload(self) -> None:
        """Press F5, and wait until it shows what it has kept."""
        await self.page.reload()
        # Not wait_for_function, which is an eval that the page's policy forbids.
        await until(lambda: self.page.evaluate("globalThis.terminal?.revision >= 0"), what="the page")

    async def opens_offline(self) -> None:
        """Wait until the page would open without its relay."""
        kept = "navigator.serviceWorker.ready.then(() => caches.match('/')).then(Boolean)"
        await until(lambda: self.page.evaluate(kept), what="the page in the cache")

    async def type_reservation(self, number: int, guest: str, time: str = "") -> Locator:
        """Open a table and type who reserves it; the dialog, in which that is still to be confirmed."""
        await self.open(number)
        await self.button("Reserve").click()
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill(guest)
        await dialog.get_by_label("Time").fill(time)
        return dialog

    async def agrees(self, conninfo: str) -> None:
        """Wait until it is live and nothing is pending; then it shows what the database holds."""
        await agreed(conninfo, self)


async def agreed(conninfo: str, *windows: Window) -> dict[str, Any]:
    """Wait until windows are live and nothing is pending in any; then all show what the database holds: this."""

    async def settled() -> Any:
        reports = [await window.page.evaluate(_REPORT) for window in windows]
        revision, state = await asyncio.to_thread(state_in_database, conninfo)
        found = {(report["stands"], report["revision"], report["pending"]) for report in reports}
        return (reports, state) if found == {("live", revision, 0)} else None

    reports, state = await until(settled, within=60.0, what="the windows to be up to date")
    assert [report["state"] for report in reports] == [state] * len(windows)
    return dict(state)


class Floor:
    """A restaurant, a relay at it, and the windows that are opened."""

    def __init__(self, conninfo: str, relay: RelayProcess, windows: Windows) -> None:
        self.conninfo, self.relay = conninfo, relay
        self._windows = windows

    @property
    def url(self) -> str:
        return f"http://{self.relay.host}:{self.relay.port}/"

    async def open(
        self, *, beside: Window | None = None, path: str = "", relay: RelayProcess | None = None, **options: Any
    ) -> Window:
        """Open a window of a fresh browser, or `beside` another of the same one, and wait until it is live."""
        url = self.url if relay is None else f"http://{relay.host}:{relay.port}/"
        page = await self._windows.open(url + path, beside=beside.page if beside else None, **options)
        window = Window(page)
        await window.stands("live")
        return window

    async def agree(self, *windows: Window) -> dict[str, Any]:
        """All windows show what the database holds, which is returned."""
        return await agreed(self.conninfo, *windows)
