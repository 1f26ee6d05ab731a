"""Peers that connect and do not ask, or never come to the end: they are let go, and keep nobody out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from relay import upgrade
from tests.relays import LocalRelay
from tests.terminals import Terminal
from tests.waiting import slow_down, until

BEGUN = b"GET /ws HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Slow: "
WITH_BODY = b"GET /health HTTP/1.1\r\nHost: relay\r\nContent-Length: 100000\r\n\r\n"

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def peers(relay: LocalRelay, count: int, first: bytes = b"") -> AsyncIterator[list[Peer]]:
    found = [await asyncio.open_connection(relay.host, relay.port) for _ in range(count)]
    try:
        for _, writer in found:
            writer.write(first)
        yield found
    finally:
        for _, writer in found:
            writer.transport.abort()


async def let_go(peer: Peer) -> float:
    """Wait until a peer is cut off; when that was."""
    try:
        while await peer[0].read(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic()


def waiting(relay: LocalRelay) -> int:
    """Connections that are no terminal's."""
    return len(relay.relay._server.server_state.connections) - len(relay.relay.connections.open)


async def drip(peer: Peer) -> None:
    """A byte now and then."""
    while not peer[1].is_closing():
        peer[1].write(b"x")
        await slow_down(0.5)


async def test_five_hundred_half_open_handshakes_are_let_go_and_keep_nobody_out(relay: LocalRelay) -> None:
    began = time.monotonic()
    async with peers(relay, 500, BEGUN) as slow:
        dripping = [asyncio.create_task(drip(peer)) for peer in slow]
        async with Terminal(relay.url) as one:
            assert one.snapshots
        gone = await asyncio.gather(*(let_go(peer) for peer in slow))
        for task in dripping:
            task.cancel()
    print(f"500 half-open handshakes: the last is let go after {max(gone) - began:.1f} s")
    await until(lambda: waiting(relay) == 0)


@pytest.mark.parametrize(
    "first", [b"", BEGUN, WITH_BODY, WITH_BODY + b"x"], ids=["nothing", "half a header", "no body", "half a body"]
)
async def test_whoever_does_not_come_to_the_end_is_let_go(
    relay: LocalRelay, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(upgrade, "REQUEST_SECONDS", 1.0)
    async with peers(relay, 1, first) as (peer,):
        dripping = asyncio.create_task(drip(peer)) if first else None
        async with asyncio.timeout(15.0):
            await let_go(peer)
        if dripping:
            dripping.cancel()
    await until(lambda: waiting(relay) == 0)


async def test_a_second_request_on_a_connection_has_its_time_too(
    relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "REQUEST_SECONDS", 1.0)
    async with peers(relay, 1, b"GET /health/live HTTP/1.1\r\nHost: relay\r\n\r\n") as (peer,):
        answer = await peer[0].readuntil(b'"live"}')
        assert answer.startswith(b"HTTP/1.1 200 ")
        peer[1].write(b"GET /health/live HTTP/1.1\r\nX-Slow: ")
        dripping = asyncio.create_task(drip(peer))
        async with asyncio.timeout(15.0):
            await let_go(peer)
        dripping.cancel()
    await until(lambda: waiting(relay) == 0)


async def test_a_request_without_an_end_is_cut_off_at_a_size(relay: LocalRelay) -> None:
    async with peers(relay, 1, BEGUN) as (peer,):
        peer[1].write(b"x" * 4 * upgrade.REQUEST_BYTES)
        assert (await peer[0].readline()).startswith(b"HTTP/1.1 431 ")
        async with asyncio.timeout(15.0):
            await let_go(peer)
    await until(lambda: waiting(relay) == 0)


async def test_an_answer_that_nobody_takes_is_let_go(
    relay: LocalRelay, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "STALLED_SECONDS", 0.5)
    with psycopg.connect(database) as connection:  # more than the kernel takes for a peer
        connection.execute(
            "insert into pos.menu_items (restaurant_id, id, name, price, category, image)"
            " select 1, n::text, 'dish', 1, '', repeat('x', 100000) from generate_series(1, 150) as n"
        )
    async with peers(relay, 2, b"GET /api/sync HTTP/1.1\r\nHost: relay\r\n\r\n") as (_stopped, slow):
        taken = 0
        while taken < 15_000_000:  # far longer than that all in all
            taken += len(await slow[0].read(1_000_000))
            await slow_down(0.02)
        await until(lambda: waiting(relay) == 1, what="the end of who takes nothing")


async def test_a_terminal_that_is_in_is_not_meant(relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "REQUEST_SECONDS", 0.2)
    async with Terminal(relay.url) as one:
        await slow_down(0.5)
        await one.table("add", {"id": "t1", "number": 1, "seats": 4, "status": "available"})
