"""The same tests of the whole relay, but it connects as pos_relay, to a database in which roles.sql was run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import relays
from tests.e2e.conftest import shop
from tests.least import as_role, install_roles
from tests.relays import LocalRelay, clean_relay

__all__ = ["shop"]


@pytest.fixture
def database(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of the test's own with roles in it; the test itself connects as a superuser, its relays do not."""
    install_roles(database)
    monkeypatch.setattr(relays, "connects_as", lambda conninfo: as_role(conninfo, "pos_relay"))
    return database


@pytest.fixture
async def relay(database: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[LocalRelay]:
    """A relay on it that must be left clean, and that connects as pos_relay with all that it has."""
    async with clean_relay(database, caplog) as running:
        conninfos = {running.relay.settings.conninfo, running.relay.settings.listen_conninfo}
        assert conninfos == {as_role(database, "pos_relay")}
        yield running
