"""What every end-to-end test may ask for: a relay that must be left clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay import schema
from tests.relays import LocalRelay, clean_relay


@pytest.fixture
async def relay(database: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[LocalRelay]:
    """A relay on a database of the test's own; nothing may be left of its terminals, nor an error in the log."""
    async with clean_relay(database, caplog) as running:
        yield running


@pytest.fixture
def shop(database: str) -> str:
    """A database whose restaurant is complete: the app's built-in data."""
    asyncio.run(schema.seed(database))
    return database
