"""What every end-to-end test may ask for: a relay that must be left clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay import schema, terminals
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


@pytest.fixture
async def guarded(database: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[LocalRelay]:
    """A relay that asks for tokens."""
    async with clean_relay(database, caplog, auth="token") as running:
        yield running


@pytest.fixture
async def token(database: str) -> str:
    """Of a terminal of the default restaurant."""
    return await terminals.add(database, "default", "Bar 1", "terminal")
