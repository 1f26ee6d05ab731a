"""What the tests of the relay's pages may ask for: a browser that Playwright drives, and a seeded restaurant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from relay import schema
from tests.e2e.chromium import headless_arguments, needs_chromium
from tests.pages.floor import Floor
from tests.pages.windows import PATIENCE_MS, Windows
from tests.relays import relay_process

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these on one event loop: the browser belongs to it."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(180), append=False)
            if isinstance(item, pytest.Function) and item.get_closest_marker("asyncio") is not None:
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium; nothing is downloaded. Without it the test is skipped, in CI it fails."""
    found = needs_chromium()
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=headless_arguments())
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def windows(chromium: Browser) -> AsyncIterator[Windows]:
    """Windows to open; at the end none of their pages may have met a fault, and they are closed."""
    opened = Windows(chromium)
    try:
        yield opened
        assert opened.faults == []
    finally:
        await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def shop(database: str) -> str:
    """A database whose restaurant is complete: the app's built-in data."""
    await schema.seed(database)
    return database


@pytest_asyncio.fixture(loop_scope="session")
async def floor(shop: str, windows: Windows) -> AsyncIterator[Floor]:
    """The seeded restaurant, and a relay that may be killed."""
    async with relay_process(shop) as relay:
        yield Floor(shop, relay, windows)
