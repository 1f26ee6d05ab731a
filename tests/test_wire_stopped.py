"""Terminals that do not read, and every way in which a connection ends."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from relay.frames import PIECE_BYTES, encode
from relay.wire import BUFFER_HIGH, BUFFER_LOW, SocketWire
from tests.served import (
    GOODBYE,
    Served,
    accepted,
    close_code,
    fill,
    masked,
    on_both_loops,
    raw,
    rest,
    socket_wire,
    terminal,
)
from tests.waiting import until


@on_both_loops
async def test_a_reader_that_stops_costs_a_bounded_buffer_and_nobody_elses_time(relay: Served) -> None:
    drained: list[bool] = []
    with raw(relay, read=False) as stopped:
        accepted(stopped)
        wire = await socket_wire(relay)
        wire.on_writable = lambda: drained.append(wire.writable)
        assert wire.transport.get_write_buffer_limits() == (BUFFER_LOW, BUFFER_HIGH)
        written = relay.do(lambda: fill(wire))
        assert not wire.writable
        assert not wire.closed
        assert BUFFER_HIGH < wire.buffered <= BUFFER_HIGH + PIECE_BYTES + 10
        assert written < 1_000_000  # the rest is the kernel's
        async with terminal(relay) as other:
            second = await socket_wire(relay, 2)
            relay.do(lambda: second.write(encode("served")[0]))
            assert await other.recv() == "served"
        assert drained == []
        while written > 0:
            written -= len(stopped.recv(65536))
        await until(lambda: drained == [True])
        assert wire.writable


@on_both_loops
async def test_a_slow_reader_is_given_a_big_message_piece_by_piece(relay: Served) -> None:
    text = "x" * 20_000_000
    pieces = deque(encode(text))
    most = 0

    def pump() -> None:
        nonlocal most
        while pieces and wire.writable:
            wire.write(pieces.popleft())
            most = max(most, wire.buffered)

    async with terminal(relay) as one:
        wire = await socket_wire(relay)
        wire.on_writable = pump
        relay.do(pump)
        assert pieces  # the kernel alone does not hold it
        assert await one.recv() == text
    assert most <= BUFFER_HIGH + PIECE_BYTES + 10


def close_and_be_closed(wire: SocketWire, stopped: socket.socket) -> None:
    wire.close(1012)
    stopped.sendall(GOODBYE)


def ping_twice(wire: SocketWire, _stopped: socket.socket) -> None:
    assert wire.ping(b"once")
    assert not wire.ping(b"again")


ENDINGS: dict[str, Callable[[SocketWire, socket.socket], object]] = {
    "our close": lambda wire, _: wire.close(1012),
    "no answer to a ping": ping_twice,
    "an illegal frame": lambda _, stopped: stopped.sendall(b"\xff\xff\xff\xff"),
    "its close": lambda _, stopped: stopped.sendall(GOODBYE),
    "its close after ours": close_and_be_closed,
    "its half close": lambda _, stopped: stopped.shutdown(socket.SHUT_WR),
    "the endpoint's end": lambda _, stopped: stopped.sendall(masked(Opcode.TEXT, b"leave")),
    "the server's end": lambda wire, _: wire.shutdown(),
}


@on_both_loops
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
async def test_a_reader_that_stopped_is_aborted_however_its_connection_ends(
    relay: Served, end: Callable[[SocketWire, socket.socket], object]
) -> None:
    with raw(relay, read=False) as stopped:
        accepted(stopped)
        wire = await socket_wire(relay)
        relay.do(lambda: fill(wire))
        relay.do(lambda: end(wire, stopped))
        await until(lambda: wire.closed)
        await until(lambda: not relay.sockets and not relay.server.server_state.tasks)


async def test_a_peer_that_reads_but_does_not_answer_a_close_is_aborted(relay: Served) -> None:
    with raw(relay) as silent:
        accepted(silent)
        wire = await socket_wire(relay)
        relay.do(lambda: wire.close(1000))
        await until(lambda: not relay.sockets)
        assert close_code(rest(silent)) == 1000


async def test_a_server_that_ends_passes_over_a_connection_that_is_closing(relay: Served) -> None:
    with raw(relay, read=False) as stopped:
        accepted(stopped)
        wire = await socket_wire(relay)
        relay.do(lambda: fill(wire))
        stopped.sendall(GOODBYE)
        await until(lambda: wire.closed)
        async with terminal(relay) as other:
            await socket_wire(relay, 2)
            relay.server.should_exit = True
            with pytest.raises(ConnectionClosed) as closed:
                await other.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012


async def test_pings_of_a_peer_that_does_not_read_are_not_answered_without_limit(relay: Served) -> None:
    with raw(relay, read=False) as stopped:
        accepted(stopped)
        wire = await socket_wire(relay)
        relay.do(lambda: fill(wire))
        before = wire.buffered
        stopped.sendall(masked(Opcode.PING, b"p" * 125) * 10_000 + masked(Opcode.TEXT, b"done"))
        await until(lambda: relay.received == ["done"])
        assert wire.buffered <= before


async def test_a_ping_is_answered(relay: Served) -> None:
    async with terminal(relay) as one:
        await (await one.ping("here"))
