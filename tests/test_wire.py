"""Ready frames, and what terminals send, over real sockets."""

from __future__ import annotations

import logging
from contextlib import suppress
from threading import Thread

import pytest
from starlette.types import Scope
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.sync.client import connect as connect_blocking

from relay import wire as wire_module
from relay.frames import encode
from relay.wire import (
    EXTENSION,
)
from tests.served import (
    GOODBYE,
    MAX_MESSAGE,
    Served,
    accepted,
    close_code,
    masked,
    on_both_loops,
    raw,
    rest,
    serving,
    socket_wire,
    terminal,
    url,
)
from tests.waiting import until

# Ready frames


@on_both_loops
async def test_ready_frames_arrive_among_those_of_uvicorn(relay: Served) -> None:
    async with terminal(relay) as one:
        wire = await socket_wire(relay)
        relay.do(lambda: wire.write(b"".join(encode("first") + encode("second"))))
        assert [await one.recv(), await one.recv()] == ["first", "second"]
        await one.send("echo third")
        assert await one.recv() == "third"
        relay.do(lambda: wire.write(encode("fourth")[0]))
        assert await one.recv() == "fourth"


async def test_pings_lie_between_the_pieces_of_a_big_message(relay: Served) -> None:
    text = "ဟင်း" * 175_000
    pieces = encode(text)
    assert len(pieces) > 30

    def write() -> None:
        for piece in pieces:
            protocol.wire.write(piece)
            protocol.send_keepalive_ping()

    async with terminal(relay) as one:
        await socket_wire(relay)
        [protocol] = relay.protocols
        relay.do(write)
        assert await one.recv() == text
        assert one.state.name == "OPEN"


async def test_nothing_is_written_before_the_handshake_is_complete(relay: Served) -> None:
    def early(scope: Scope) -> None:
        wire = scope["extensions"][EXTENSION]
        assert not wire.writable
        assert not wire.closed
        wire.write(encode("early")[0])

    relay.before_accept = early
    async with terminal(relay) as one:
        await one.send("echo late")
        assert await one.recv() == "late"


async def test_nothing_is_written_after_a_close(relay: Served) -> None:
    def close() -> None:
        wire.write(encode("last")[0])
        wire.close(1012, "5")
        assert wire.closed
        assert not wire.writable
        wire.write(encode("too late")[0])
        wire.close(1000)

    async with terminal(relay) as one:
        wire = await socket_wire(relay)
        relay.do(close)
        assert await one.recv() == "last"
        with pytest.raises(ConnectionClosed) as closed:
            await one.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "5")
    await until(lambda: not relay.protocols)
    relay.do(lambda: wire.write(encode("too late")[0]))
    relay.do(lambda: wire.abort())


async def test_a_terminal_that_leaves_ends_the_endpoint(relay: Served) -> None:
    async with terminal(relay):
        wire = await socket_wire(relay)
        wire.on_writable = lambda: None
    await until(lambda: not relay.server.server_state.tasks)
    assert wire.closed
    assert wire.on_writable is None


# What terminals send


async def test_a_flood_of_small_messages_is_queued_no_faster_than_it_is_read(relay: Served) -> None:
    texts = [str(number) for number in range(30_000)]
    with raw(relay) as flood:
        accepted(flood)
        await socket_wire(relay)
        [protocol] = relay.protocols
        relay.do(relay.may_read.clear)
        flood.sendall(masked(Opcode.TEXT, b"start"))
        await until(lambda: relay.received == ["start"])
        sender = Thread(target=flood.sendall, args=[b"".join(masked(Opcode.TEXT, text.encode()) for text in texts)])
        sender.start()
        await until(lambda: protocol.read_paused)
        assert 0 < protocol.queue.qsize() < 1000
        relay.do(relay.may_read.set)
        await until(lambda: len(relay.received) == 1 + len(texts))
        assert relay.received[1:] == texts
        sender.join(5)
        flood.sendall(GOODBYE)
        assert close_code(rest(flood)) == 1000


async def test_what_a_peer_sent_before_it_heard_of_a_close_is_still_received(
    relay: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CLOSE_SECONDS", 60.0)
    with raw(relay) as flood:
        accepted(flood)
        wire = await socket_wire(relay)
        [protocol] = relay.protocols
        relay.do(relay.may_read.clear)
        flood.sendall(masked(Opcode.TEXT, b"start"))
        await until(lambda: relay.received == ["start"])
        flood.sendall(masked(Opcode.TEXT, b"x") * 10_000 + GOODBYE)
        await until(lambda: protocol.read_paused)
        relay.do(lambda: wire.close(1000))
        relay.do(relay.may_read.set)
        assert close_code(rest(flood)) == 1000
        await until(lambda: relay.received == ["start"] + ["x"] * 10_000)


async def test_a_message_of_countless_empty_fragments_takes_bounded_memory(relay: Served) -> None:
    with raw(relay) as sly:
        accepted(sly)
        await socket_wire(relay)
        [protocol] = relay.protocols
        sly.sendall(masked(Opcode.TEXT, b"a", fin=False))
        sly.sendall(masked(Opcode.CONT, b"", fin=False) * 5000 + masked(Opcode.CONT, b"b", fin=False))
        sly.sendall(masked(Opcode.PING))
        assert sly.recv(2) == b"\x8a\x00"
        assert len(protocol.frames) < 2000
        sly.sendall(masked(Opcode.CONT, b"c"))
        await until(lambda: relay.received == ["abc"])


@on_both_loops
@pytest.mark.parametrize("fragmented", [False, True])
async def test_a_message_above_the_limit_closes_1009_and_hurts_nobody_else(relay: Served, fragmented: bool) -> None:
    async with terminal(relay) as other:
        for _ in range(10):
            with connect_blocking(url(relay), compression=None) as one:
                whole = "x" * (8 * MAX_MESSAGE)
                parts = [whole[at : at + 50_000] for at in range(0, len(whole), 50_000)]
                with suppress(ConnectionClosed):
                    one.send(parts if fragmented else whole)
                with pytest.raises(ConnectionClosed) as closed:
                    one.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1009
        await other.send("echo still here")
        assert await other.recv() == "still here"
    await until(lambda: not relay.protocols)


@pytest.mark.parametrize("fragmented", [False, True])
async def test_a_message_at_the_limit_goes_through(relay: Served, fragmented: bool) -> None:
    async with terminal(relay) as one:
        whole = "x" * MAX_MESSAGE
        await one.send([whole[: MAX_MESSAGE // 3], whole[MAX_MESSAGE // 3 :]] if fragmented else whole)
        await until(lambda: relay.received == [whole])


async def test_messages_before_an_illegal_frame_in_one_segment_are_not_lost(relay: Served) -> None:
    with raw(relay) as terminal:
        accepted(terminal)
        terminal.sendall(masked(Opcode.TEXT, b"counts") + b"\xff\xff\xff\xff")
        assert close_code(rest(terminal)) == 1002
    await until(lambda: relay.received == ["counts"])
    await until(lambda: not relay.protocols)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (b"", 1007),
        (masked(Opcode.PING), 1007),
        (GOODBYE, 1000),  # these two were answered as they were parsed
        (b"\xff\xff\xff\xff", 1002),
    ],
    ids=["nothing", "a ping", "a close", "no frame"],  # masks are random, and every process must find the same names
)
@on_both_loops
async def test_a_text_that_is_not_utf8_closes_1007_quietly(relay: Served, after: bytes, code: int) -> None:
    with raw(relay) as terminal:
        accepted(terminal)
        terminal.sendall(masked(Opcode.TEXT, b"caf\xc3", fin=False) + masked(Opcode.CONT, b"\x28") + after)
        assert close_code(rest(terminal)) == code
    await until(lambda: not relay.protocols)
    assert relay.received == []


async def test_a_healthy_peer_is_not_timed_out_while_its_messages_wait_here(relay: Served) -> None:
    async with terminal(relay) as one:
        wire = await socket_wire(relay)
        [protocol] = relay.protocols
        relay.do(relay.may_read.clear)
        await one.send("taken")
        await one.send("waits")
        await until(lambda: relay.received == ["taken"] and protocol.read_paused)
        relay.do(protocol.keepalive_timeout)
        assert not wire.closed
        relay.do(relay.may_read.set)
        await until(lambda: relay.received == ["taken", "waits"])
        relay.do(protocol.keepalive_timeout)
        with pytest.raises(ConnectionClosed) as closed:
            await one.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


async def test_keepalive_keeps_a_peer_that_answers() -> None:
    with serving(loop="uvloop", ws_ping_interval=0.01, ws_ping_timeout=5.0) as served:
        async with terminal(served) as one:
            await socket_wire(served)
            [protocol] = served.protocols
            await until(lambda: protocol.last_ping_rtt > 0)
            await one.send("echo alive")
            assert await one.recv() == "alive"


# Handshakes


async def test_an_illegal_frame_before_the_handshake_is_complete_ends_the_connection_quietly(relay: Served) -> None:
    relay.may_accept.clear()
    with raw(relay) as hasty:
        await until(lambda: relay.loop is not None)
        hasty.sendall(b"\xff\xff\xff\xff")
        assert rest(hasty) == b""
    await until(lambda: not relay.protocols)
    relay.do(relay.may_accept.set)
    await until(lambda: not relay.server.server_state.tasks)
    assert not relay.wires


async def test_a_header_that_is_too_long_is_refused_and_not_kept_waiting(relay: Served) -> None:
    with raw(relay, headers=f"Cookie: {'x' * 9000}\r\n") as terminal:
        assert rest(terminal).startswith(b"HTTP/1.1 431 ")
    await until(lambda: not relay.protocols)


async def test_neither_query_nor_headers_nor_payloads_are_logged(
    relay: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with raw(relay, path="/?token=sesame", headers="Authorization: Bearer sesame\r\n") as terminal:
        accepted(terminal)
        terminal.sendall(masked(Opcode.TEXT, b"echo sesame"))
        assert terminal.recv(8) == encode("sesame")[0]
    await until(lambda: not relay.protocols)
    assert "sesame" not in caplog.text


async def test_an_endpoint_that_fails_closes_1011(relay: Served) -> None:
    relay.may_complain = True
    async with terminal(relay) as one:
        await one.send("fail")
        with pytest.raises(ConnectionClosed) as closed:
            await one.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
