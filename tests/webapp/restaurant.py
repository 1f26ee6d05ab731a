"""A restaurant whose terminals are browsers with the web app."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from tests.relays import LocalRelay, Reachable
from tests.terminals import Terminal
from tests.waiting import until
from tests.webapp.agreement import agree
from tests.webapp.browser import Browser
from tests.webapp.storage import TABLES

PHOTO = "data:image/jpeg;base64," + "/9j/4AAQSkZJRgABAQAA" * 1_500  # 30 KB, as the app makes of a photograph


class Restaurant:
    """One restaurant: its database, the relay that browsers open next, and the browsers in it."""

    def __init__(self, conninfo: str, relay: Reachable, slug: str = "default") -> None:
        self.conninfo = conninfo
        self.relay = relay
        self.slug = slug
        self.browsers: list[Browser] = []
        self.terminals: list[Terminal] = []

    async def open(self, *, relay: Reachable | None = None, **options: Any) -> Browser:
        """Open a browser, a fresh one unless it is given a storage, and wait for its first answer."""
        browser = Browser((relay or self.relay).url, **options).open()
        self.browsers.append(browser)
        await until(lambda: browser.syncs(TABLES), what="the first SYNC_RESPONSE with tables")
        return browser

    async def core_terminal(self, name: str = "core-terminal", *, relay: Reachable | None = None) -> Terminal:
        """A terminal that knows only the core protocol."""
        terminal = Terminal((relay or self.relay).url, name)
        self.terminals.append(terminal)
        return await terminal.connect()

    async def reload(self, browser: Browser) -> Browser:
        """Press F5 in one of the browsers."""
        page = await browser.reload()
        self.browsers[self.browsers.index(browser)] = page
        await until(lambda: page.syncs(TABLES), what="a SYNC_RESPONSE with tables after a reload")
        return page

    async def agree(self, within: float = 10.0) -> None:
        """All browsers, all core terminals and the database hold the same, and no browser met a fault."""
        await agree(
            self.conninfo,
            *self.browsers,
            terminals=(*self.terminals,),
            slug=self.slug,
            within=within,
            gathers=self._gathers if isinstance(self.relay, LocalRelay) else None,
        )

    def _gathers(self) -> bool:
        """Whether the relay, which runs in this very loop, has mutations to do or lists to send."""
        assert isinstance(self.relay, LocalRelay)
        under_way = (task.get_name() == "app lists" for task in asyncio.all_tasks())
        return self.relay.relay.writer.pending > 0 or any(under_way)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(browser.close() for browser in self.browsers))
        await asyncio.gather(*(terminal.close() for terminal in self.terminals))
