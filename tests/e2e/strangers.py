"""Sockets that say who they are, or do not, and how they are turned away."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import websockets


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def closed(socket: websockets.ClientConnection, within: float = 6.0) -> tuple[int, str]:
    """How the relay closed a socket."""
    async with asyncio.timeout(within):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


async def turned_away(url: str, first: object = None, **options: Any) -> tuple[int, str]:
    async with websockets.connect(url, **options) as socket:
        if first is not None:
            with suppress(websockets.ConnectionClosed):
                await socket.send(first if isinstance(first, str | bytes) else json.dumps(first))
        return await closed(socket)


def hello(token: object = None, **data: object) -> dict[str, object]:
    return {"type": "CLIENT_CONNECTED", "data": {"clientId": "a", "token": token, **data}}
