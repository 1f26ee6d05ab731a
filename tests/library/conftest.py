"""What the tests of the two libraries may ask for: a language, a scripted relay, a terminal of that language at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.chromium import running_chromium
from tests.library.driven import LANGUAGES, Driven, driven, needs
from tests.library.scripted import ScriptedRelay, scripted_relay


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    needs(found)
    return found


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    """Where a browser is driven."""
    with running_chromium() as found:
        yield found


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedRelay]:
    async with scripted_relay() as relay:
        yield relay


@pytest.fixture
async def terminal(language: str, scripted: ScriptedRelay, tmp_path: Path) -> AsyncIterator[Driven]:
    async with driven(language, scripted.url, tmp_path / "terminal") as made:
        yield made
