"""What one writes first, as the reference: a Starlette endpoint, and a `send_text` to every terminal.

python -m tests.bench.references.send_text PORT CONNINFO CHANNEL
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
import uvicorn
from psycopg import sql
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

terminals: set[WebSocket] = set()


async def serve(websocket: WebSocket) -> None:
    await websocket.accept()
    terminals.add(websocket)
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.receive_text()
    terminals.discard(websocket)


async def hear(conninfo: str, channel: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        async for notification in connection.notifies():
            for websocket in list(terminals):
                with suppress(WebSocketDisconnect, RuntimeError):
                    await websocket.send_text(notification.payload)


def main(port: int, conninfo: str, channel: str) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        hearing = asyncio.create_task(hear(conninfo, channel))
        yield
        hearing.cancel()

    application = Starlette(
        routes=[WebSocketRoute("/ws", serve), WebSocketRoute("/", serve)],
        lifespan=lifespan,
    )
    uvicorn.run(
        application, host="127.0.0.1", port=port, log_level="warning", ws_per_message_deflate=False, backlog=4096
    )


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
