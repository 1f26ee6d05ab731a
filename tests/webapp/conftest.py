"""What every flow may ask for: a seeded restaurant with a relay, and three browsers open in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay import schema
from tests.relays import clean_relay
from tests.webapp.restaurant import Restaurant


@pytest.fixture
async def restaurant(database: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Restaurant]:
    """The app's built-in restaurant with three fresh browsers; an error in the relay's log fails the test."""
    await schema.seed(database)
    async with clean_relay(database, caplog) as relay, Restaurant(database, relay) as made:
        for _ in range(3):
            await made.open()
        await made.agree()
        yield made
