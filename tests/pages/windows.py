"""Windows of a browser that is driven, what goes wrong in them, axe's opinion of them, and pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page

Theme = Literal["light", "dark"]

PATIENCE_MS = 30_000  # on a machine that is shared
SIZE = (1280, 800)
SIZES = {"phone": (360, 740), "tablet": (820, 1180), "wide": (1920, 1080)}
THEMES: tuple[Theme, ...] = ("light", "dark")
# A relay that is away is no fault of the page, and Chromium says it on the console whatever the page does.
_AWAY = ("WebSocket connection to", "Failed to load resource: net::ERR_")
# The levels of WCAG 2.2 that a page must keep, and axe's own advice.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Windows:
    """Windows of one browser process. A context is a browser of its own: it shares no storage with another."""

    def __init__(self, browser: Browser) -> None:
        self.faults: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    async def open(
        self,
        url: str,
        *,
        beside: Page | None = None,
        size: tuple[int, int] = SIZE,
        theme: Theme = "light",
        **options: Any,
    ) -> Page:
        """Open an address in a fresh browser, or in the browser of the page `beside` as another window."""
        if beside is not None:
            context = beside.context
        else:
            viewport: Any = {"width": size[0], "height": size[1]}
            options = {"reduced_motion": "reduce", "locale": "en-GB", **options}
            context = await self._browser.new_context(viewport=viewport, color_scheme=theme, **options)
            context.set_default_timeout(PATIENCE_MS)
            self._contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)
        await page.goto(url)
        return page

    async def close(self) -> None:
        """Close every window."""
        for context in self._contexts:
            await context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_AWAY):
            self.faults.append(message.text)


async def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it is shown now."""
    found = await Axe().run(page, options={"runOnly": _RULES, "resultTypes": ["violations"]})
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]} ({node['failureSummary']})"
        for one in found.response["violations"]
        for node in one["nodes"]
    ]


async def picture(page: Page, name: str, folder: Path) -> None:
    """Keep a picture of what can be seen, as `name`.png in the folder SCREENSHOTS names, or else in this one."""
    target = Path(os.environ.get("SCREENSHOTS") or folder)
    await page.screenshot(path=target / f"{name}.png", animations="disabled")
