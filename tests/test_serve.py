"""The process that serves, where no terminal can see it."""

from __future__ import annotations

import gc
import signal

import pytest

from relay import server
from relay.settings import Settings


def test_full_collections_leave_out_what_was_there_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    async def run(_: server.Relay) -> None:
        found.append(gc.get_freeze_count())

    monkeypatch.setattr(server.Relay, "run", run)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    gc.unfreeze()
    try:
        server.serve(Settings(conninfo="", listen_conninfo="", database_named=True))
    finally:
        gc.freeze()  # as it was (tests/conftest.py)
    assert found[0] > 10_000
