"""A TCP hop in front of PostgreSQL that can be deaf, slow, gone, or drop a link at the worst moment."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.waiting import slow_down

READY = b"Z\x00\x00\x00\x05I"  # ReadyForQuery, idle: PostgreSQL has committed (manual, "Message Formats")
# An ErrorResponse (manual, "Error and Notice Message Fields").
ENDED_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
ENDED = b"E" + struct.pack("!I", 4 + len(ENDED_FIELDS)) + ENDED_FIELDS
PIECE = 64 * 1024


class Link:
    """One client's connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.answer_is_lost = False
        self.last_word: bytes | None = None  # instead of a reset where an answer is lost

    def reset(self) -> None:
        """End it with a RST on both sides, as a machine does that has forgotten the connection."""
        for writer in (self.client, self.server):
            found: socket.socket | None = writer.get_extra_info("socket")
            if found is not None and found.fileno() >= 0:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """`conninfo` leads through it. What it does to the bytes is set while it runs."""

    def __init__(self, conninfo: str) -> None:
        self._target = "127.0.0.1", int(conninfo_to_dict(conninfo)["port"] or 0)
        self._conninfo = conninfo
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.links: list[Link] = []
        self.deaf = False  # swallow everything, both ways; new connections too
        self.deaf_to_client = False  # swallow what the server says
        self.delay = 0.0  # seconds by which everything is late, each way
        self.rate = float("inf")  # bytes a second on each link, each way
        self.losses = 0
        self._lose_answer_to: bytes | None = None
        self._last_word: bytes | None = None

    @property
    def conninfo(self) -> str:
        return make_conninfo(self._conninfo, host="127.0.0.1", port=self.port)

    def lead_to(self, port: int) -> None:
        """Take new links to another server, as an address does that moves to a standby."""
        self._target = self._target[0], port

    def lose_answer_to(self, said: bytes) -> None:
        """Once: let the statement that holds `said` commit, swallow its answer, and reset the link."""
        self._lose_answer_to, self._last_word = said, None

    def end_after(self, said: bytes) -> None:
        """Once: let the statement that holds `said` commit, and say behind its answer that the backend is ended.

        So does PostgreSQL, a moment before it closes the connection; here that moment does not end.
        """
        self._lose_answer_to, self._last_word = said, ENDED

    def reset(self) -> None:
        """Reset every link."""
        for link in self.links:
            link.reset()

    async def start(self) -> None:
        """Take connections, after a stop on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and reset those that there are."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        link = Link(writer, server_writer)
        self.links.append(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, reader, server_writer, to_server=True))
                pumps.create_task(self._pump(link, server_reader, writer, to_server=False))
        except* OSError:
            pass
        finally:
            self.links.remove(link)
            server_writer.transport.abort()

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        while data := await reader.read(PIECE):
            if pause := self.delay + len(data) / self.rate:
                await slow_down(pause)
            if self.deaf or (self.deaf_to_client and not to_server):
                continue
            if to_server and self._lose_answer_to is not None and self._lose_answer_to in data:
                self._lose_answer_to, link.answer_is_lost, link.last_word = None, True, self._last_word
            if link.answer_is_lost and not to_server:
                if data.endswith(READY):
                    self.losses += 1
                    if link.last_word is None:
                        link.reset()
                    else:
                        data = data.removesuffix(READY) + link.last_word
                if link.last_word is None:
                    continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side has ended, and the other goes with it


@asynccontextmanager
async def proxied(conninfo: str) -> AsyncIterator[Proxy]:
    """A running proxy in front of the server of a connection string, which must listen on TCP."""
    proxy = Proxy(conninfo)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
