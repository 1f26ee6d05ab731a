"""A plain asyncio loop as the reference: what NOTIFY carries is framed once and written to every transport.

The row is in NOTIFY's payload: a trigger puts it there. A terminal's change is written in a transaction of its own: by
a bare UPDATE, or, where a restaurant is named, by the relay's function for it, with log and ledger.

    python -m tests.bench.references.plain PORT CONNINFO CHANNEL [RESTAURANT_ID]
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import resource
import sys
from typing import cast

import psycopg
import uvloop
from psycopg import sql

from relay.frames import encode

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
CHANGE = "update bench.tables set data = %s where channel = %s"
LOGGED = """select pg_notify(%s, %s) from pos.update_table(%s, 'update', %s, %s, %s)"""
terminals: set[Terminal] = set()
changes: asyncio.Queue[tuple[Terminal, str]]


class Terminal(asyncio.Protocol):
    """One connection; it understands a handshake and unfragmented text frames."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self.held = b""
        self.is_open = False

    def connection_lost(self, _exc: Exception | None) -> None:
        terminals.discard(self)

    def data_received(self, data: bytes) -> None:
        self.held += data
        if not self.is_open:
            self._open()
        while self.is_open and (text := self._text()) is not None:
            if text.startswith('{"type":"UPDATE'):
                changes.put_nowait((self, text))

    def _open(self) -> None:
        head, end, rest = self.held.partition(b"\r\n\r\n")
        if not end:
            return
        (key,) = (line[18:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.held = rest
        self.is_open = True
        terminals.add(self)

    def _text(self) -> str | None:
        if len(self.held) < 6:
            return None
        size, at = self.held[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(self.held[2:4], "big"), 4
        end = at + 4 + size
        if len(self.held) < end:
            return None
        mask, masked = self.held[at : at + 4], self.held[at + 4 : end]
        self.held = self.held[end:]
        return bytes(byte ^ mask[place & 3] for place, byte in enumerate(masked)).decode()


async def write(conninfo: str, channel: str, restaurant_id: int) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute("insert into bench.tables values (%s, '') on conflict do nothing", (channel,))
        while True:
            terminal, text = await changes.get()
            if restaurant_id:
                said = json.loads(text)
                row = json.dumps(said["data"]["data"])
                values = channel, text, restaurant_id, row, said["clientId"], said["id"]
                await connection.execute(LOGGED, values)
            else:
                await connection.execute(CHANGE, (text, channel))
            if terminal in terminals:
                terminal.transport.write(encode('{"type":"ACK","data":{}}')[0])


async def hear(conninfo: str, channel: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        async for notification in connection.notifies():
            frame = encode(notification.payload)[0]
            for terminal in terminals:
                terminal.transport.write(frame)


async def main(port: int, conninfo: str, channel: str, restaurant_id: int = 0) -> None:
    global changes
    changes = asyncio.Queue()
    server = await asyncio.get_running_loop().create_server(Terminal, "127.0.0.1", port, backlog=4096)
    async with server, asyncio.TaskGroup() as tasks:
        tasks.create_task(hear(conninfo, channel))
        tasks.create_task(write(conninfo, channel, restaurant_id))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])))
