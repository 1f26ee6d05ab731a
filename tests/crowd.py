"""Terminals by the thousand: each checks every frame it is sent as bytes, and parses none but the answers.

What one terminal of a restaurant was sent first, every other one must be sent byte by byte; each change once, in order.
At the end `Sent` is compared with the log, where every change is parsed once.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from tests.terminals import Row
from tests.waiting import slow_down, until

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FIN, CONTINUATION, TEXT, CLOSE, PING, PONG = 0x80, 0x0, 0x1, 0x8, 0x9, 0xA  # RFC 6455, section 5.2
CHANGE, REVISION = b'{"type":"UPDATE_', b'"revision":'
RETRY_AFTER = re.compile(rb"retry after ([0-9.]+) s")
RETRY_SECONDS = (0.05, 0.5)  # after a loss without a word; the second doubles with each failure, up to
MOST_RETRY_SECONDS = 4.0
SYNC_SECONDS = 20.0  # from a try to connect to being synced, before the next


class Sent:
    """What the terminals of one restaurant were sent: each change once, and how often in all."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        self.client_id = f"the crowd of {slug}"
        self.changes: dict[tuple[str, int], bytes] = {}
        self.deliveries = 0
        self.terminals: list[LightTerminal] = []
        self.arrivals: list[tuple[int, float]] | None = None  # (revision, seconds since 1970), while it is a list

    @property
    def applied(self) -> list[tuple[str, int, Row]]:
        """(epoch, revision, message), as Terminal.applied has it."""
        return [
            (epoch, revision, json.loads(payload, parse_float=Decimal))
            for (epoch, revision), payload in sorted(self.changes.items(), key=lambda item: item[0][1])
        ]


class LightTerminal(asyncio.Protocol):
    """One of them: it syncs from its cursor again and again, as often as its connection is lost."""

    def __init__(self, url: str, sent: Sent, client_id: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        self._handshake = HANDSHAKE.format(path=f"{parts.path}?{parts.query}", host=parts.netloc).encode()
        self._sent = sent
        self.client_id = client_id
        self.epoch: str | None = None
        self.revision = -1
        self.faults: list[str] = []  # what the protocol forbids
        self.snapshots = 0
        self.syncs = 0
        self.blackouts: list[float] = []  # seconds from a loss to holding all there was when it came back
        self.up = False  # it holds that
        self.stopping = False
        self._lost_at: float | None = None
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()
        self._pause = 0.0
        self._reset()

    def _reset(self) -> None:
        self._rest = b""
        self._parts: list[bytes] = []
        self._upgraded = self._synced = self.up = False
        self._goal = -1

    async def live(self) -> None:
        """Be connected until told to stop."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self.stopping:
            self._gone.clear()
            self._pause = random.uniform(RETRY_SECONDS[0], min(RETRY_SECONDS[1] * 2.0**failures, MOST_RETRY_SECONDS))
            failures = min(failures + 1, 10)
            with suppress(OSError):
                await loop.create_connection(lambda: self, *self._address)
                given_up = loop.call_later(SYNC_SECONDS, self._give_up)
                await self._gone.wait()
                given_up.cancel()
                failures = 0 if self._synced else failures
            if not self.stopping:
                await slow_down(self._pause)

    def cut(self) -> None:
        """Lose the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self) -> None:
        if not self._synced:
            self.cut()

    # What asyncio.Protocol calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._reset()
        self._transport = transport
        transport.write(self._handshake)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._lost_at is None and self.syncs:
            self._lost_at = time.time()
        self.up = False
        self._gone.set()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at, size = 0, len(data)
        if not self._upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101 "):  # nginx has no relay, or the relay no room
                self.cut()
                return
            at, self._upgraded = end + 4, True
            self._say("CLIENT_CONNECTED", {"clientId": self.client_id})
            self._say("SYNC_REQUEST", {} if self.epoch is None else {"epoch": self.epoch, "revision": self.revision})
        while at + 2 <= size:
            length, start = data[at + 1], at + 2
            if length > 125:
                start += 2 if length == 126 else 8
                if start > size:
                    break
                length = int.from_bytes(data[at + 2 : start])
            if (end := start + length) > size:
                break
            self._hear(data[at], data[start:end])
            at = end
        self._rest = data[at:]

    def _hear(self, first: int, payload: bytes) -> None:
        if first == FIN | TEXT:
            self._read(payload)
        elif first & 0x0F in (TEXT, CONTINUATION):
            self._parts.append(payload)
            if first & FIN:
                whole, self._parts = b"".join(self._parts), []
                self._read(whole)
        elif first & 0x0F == PING:
            self._write(PONG, payload)
        elif first & 0x0F == CLOSE:
            if after := RETRY_AFTER.search(payload):
                self._pause = float(after[1])
            self._write(CLOSE, payload[:2])

    def _read(self, payload: bytes) -> None:
        if payload.startswith(CHANGE):
            if self._synced:
                self._take(int(payload[payload.rindex(REVISION) + len(REVISION) : -1]), payload)
        elif payload.startswith(b'{"type":"SYNC_RESPONSE"'):
            self._sync(json.loads(payload)["data"])

    def _take(self, revision: int, payload: bytes) -> None:
        assert self.epoch is not None
        sent = self._sent
        if revision != self.revision + 1:
            self.faults.append(f"{self.client_id}: {revision} after {self.revision}")
        self.revision = revision
        sent.deliveries += 1
        known = sent.changes.setdefault((self.epoch, revision), payload)
        if known is not payload and known != payload:
            self.faults.append(f"{self.client_id} was sent another change {revision} than its neighbours")
        if sent.arrivals is not None:
            sent.arrivals.append((revision, time.time()))
        if not self.up:
            self._look()

    def _sync(self, data: Row) -> None:
        self.syncs += 1
        self._synced, self._goal = True, data["revision"]
        if data["mode"] == "snapshot":
            self.snapshots += 1
            if data["epoch"] == self.epoch and data["revision"] < self.revision and data["reason"] != "ahead":
                self.faults.append(f"{self.client_id} was moved back from {self.revision} to {data['revision']}")
            self.epoch, self.revision = data["epoch"], data["revision"]
        elif (data["epoch"], data["from"]) != (self.epoch, self.revision):
            self.faults.append(f"{self.client_id} asked for what follows {self.revision}, and got {data}")
        self._look()

    def _look(self) -> None:
        """Whether it holds now what there was when it came back."""
        if self.revision >= self._goal:
            self.up = True
            if self._lost_at is not None:
                self.blackouts.append(time.time() - self._lost_at)
                self._lost_at = None

    def _say(self, type_: str, data: Mapping[str, Any]) -> None:
        self._write(TEXT, json.dumps({"type": type_, "data": data, "clientId": self.client_id}).encode())

    def _write(self, opcode: int, payload: bytes) -> None:
        # Masked as a terminal must, with zeros: the mask hides nothing from a relay (RFC 6455, section 10.3).
        size = len(payload)
        head = bytes((FIN | opcode, 0x80 | size)) if size < 126 else bytes((FIN | opcode, 0xFE)) + size.to_bytes(2)
        if self._transport is not None:
            self._transport.write(head + bytes(4) + payload)


class Crowd:
    """All of them, and what each restaurant's were sent."""

    def __init__(self) -> None:
        self.terminals: list[LightTerminal] = []
        self.sent: dict[str, Sent] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def grow(self, urls: Sequence[str], slugs: Sequence[str], count: int, within: float = 60.0) -> None:
        """Let more come until there are so many, spread over restaurants, and of each over the addresses."""
        for number in range(len(self.terminals), count):
            turn, place = divmod(number, len(slugs))
            sent = self.sent.setdefault(slugs[place], Sent(slugs[place]))
            url = f"{urls[turn % len(urls)]}?restaurant={sent.slug}"
            one = LightTerminal(url, sent, f"light-{number}")
            sent.terminals.append(one)
            self.terminals.append(one)
            self._tasks.append(asyncio.create_task(one.live()))
        await until(lambda: self.is_up, within=within, what="every light terminal to be up")

    @property
    def is_up(self) -> bool:
        """Whether every one holds what there was when it came."""
        return all(one.up for one in self.terminals)

    def holds(self, heads: Mapping[str, int]) -> bool:
        """Whether every one holds at least these revisions of its restaurant."""
        return all(one.revision >= heads[slug] for slug, sent in self.sent.items() for one in sent.terminals)

    @property
    def deliveries(self) -> int:
        return sum(sent.deliveries for sent in self.sent.values())

    @property
    def faults(self) -> list[str]:
        return [fault for one in self.terminals for fault in one.faults]

    async def leave(self) -> None:
        for one in self.terminals:
            one.stopping = True
            one.cut()
        # Whoever is between two tries sleeps.
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def crowd(urls: Sequence[str], slugs: Sequence[str], count: int) -> AsyncIterator[Crowd]:
    """So many light terminals, connected meanwhile; what the protocol forbids fails the test at the end."""
    made = Crowd()
    try:
        await made.grow(urls, slugs, count)
        yield made
        assert made.faults == [], made.faults[:5]
    finally:
        await made.leave()
