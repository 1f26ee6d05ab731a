"""The nginx of the chaos, and of whoever copies its configuration."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from tests.chaos.world import Nginx, needs_nginx
from tests.relays import relay_process
from tests.terminals import terminals

TERMINALS = 30


@needs_nginx
async def test_terminals_come_back_at_once_to_relays_that_were_all_down(database: str) -> None:
    """With `max_fails=1` each worker would give each relay one connection in two seconds: half a minute for these."""
    async with relay_process(database) as one, relay_process(database) as other:
        nginx = Nginx([one, other])
        try:
            await asyncio.gather(one.kill(), other.kill())
            for _ in range(8):  # both workers have seen both relays fail
                with pytest.raises(websockets.InvalidStatus, match="502"):
                    await websockets.connect(nginx.url)
            await asyncio.gather(one.start(), other.start())
            async with asyncio.timeout(5.0), terminals(nginx.url, TERMINALS) as back:
                assert all(terminal.close_code is None for terminal in back)
        finally:
            nginx.stop()
