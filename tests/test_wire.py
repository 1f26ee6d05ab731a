"""Ready frames, and what terminals send, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from threading import Thread

import pytest
from starlette.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.sync.client import connect as connect_blocking

from relay import wire as wire_module
from relay.frames import PING, control, encode
from relay.wire import EXTENSION
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
async def test_ready_frames_arrive_joined_or_alone(relay: Served) -> None:
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
        for number, piece in enumerate(pieces):
            wire.write(piece)
            wire.transport.write(control(PING, b"%d" % number))

    async with terminal(relay) as one:
        wire = await socket_wire(relay)
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
    await until(lambda: not relay.sockets)
    relay.do(lambda: wire.write(encode("too late")[0]))
    relay.do(lambda: wire.abort())


async def test_a_terminal_that_leaves_ends_the_endpoint(relay: Served) -> None:
    async with terminal(relay):
        wire = await socket_wire(relay)
        wire.on_writable = lambda: None
    await until(lambda: not relay.sockets)
    assert wire.closed
    assert wire.on_writable is None


# What terminals send


async def test_a_flood_of_small_messages_is_read_no_faster_than_it_is_pulled(relay: Served) -> None:
    texts = [str(number) for number in range(30_000)]
    with raw(relay) as flood:
        accepted(flood)
        wire = await socket_wire(relay)
        relay.do(relay.stop_reading)
        flood.sendall(masked(Opcode.TEXT, b"start"))
        sender = Thread(target=flood.sendall, args=[b"".join(masked(Opcode.TEXT, text.encode()) for text in texts)])
        sender.start()
        await until(lambda: not wire.transport.is_reading())
        assert relay.received == []
        relay.do(relay.read_again)
        await until(lambda: len(relay.received) == 1 + len(texts))
        assert relay.received == ["start", *texts]
        sender.join(5)
        flood.sendall(GOODBYE)
        assert close_code(rest(flood)) == 1000


async def test_a_ping_behind_a_message_that_is_worked_on_is_answered(relay: Served) -> None:
    with raw(relay) as hasty:
        accepted(hasty)
        wire = await socket_wire(relay)
        relay.do(relay.stop_reading)
        hasty.sendall(masked(Opcode.TEXT, b"slow") + masked(Opcode.PING))
        await until(lambda: wire._message == "slow")
        assert relay.do(wire.pull) == "slow"
        assert hasty.recv(2) == b"\x8a\x00"


async def test_what_a_peer_sent_before_it_heard_of_a_close_is_still_received(
    relay: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CLOSE_SECONDS", 60.0)
    with raw(relay) as flood:
        accepted(flood)
        wire = await socket_wire(relay)
        relay.do(relay.stop_reading)
        flood.sendall(masked(Opcode.TEXT, b"start") + masked(Opcode.TEXT, b"x") * 10_000 + GOODBYE)
        await until(lambda: wire._message == "start")
        relay.do(lambda: wire.close(1000))
        relay.do(relay.read_again)
        assert close_code(rest(flood)) == 1000
        await until(lambda: relay.received == ["start"] + ["x"] * 10_000)


@on_both_loops
async def test_what_a_peer_said_before_the_end_of_its_stream_is_answered(relay: Served) -> None:
    with raw(relay) as hasty:
        accepted(hasty)
        wire = await socket_wire(relay)
        relay.do(relay.stop_reading)
        hasty.sendall(masked(Opcode.TEXT, b"echo one") + masked(Opcode.TEXT, b"two") + masked(Opcode.PING) + GOODBYE)
        hasty.shutdown(socket.SHUT_WR)
        await until(lambda: wire._has_said_all)
        relay.do(relay.read_again)
        answered = rest(hasty)
        assert close_code(answered) == 1000
        assert answered.startswith(encode("one")[0] + b"\x8a\x00")
        assert relay.received == ["echo one", "two"]


@on_both_loops
async def test_what_was_read_before_the_socket_was_lost_is_still_received(relay: Served) -> None:
    with raw(relay) as gone:
        accepted(gone)
        wire = await socket_wire(relay)
        relay.do(relay.stop_reading)
        gone.sendall(masked(Opcode.TEXT, b"x") * 100)
        await until(lambda: wire._message == "x" and wire._inbound.waiting == 99 * 7)
        relay.do(wire.abort)
        await until(lambda: wire.gone)
        relay.do(relay.read_again)
        assert relay.received == ["x"] * 100
        assert wire.ended


async def test_a_message_of_countless_empty_fragments_takes_bounded_memory(relay: Served) -> None:
    with raw(relay) as sly:
        accepted(sly)
        wire = await socket_wire(relay)
        sly.sendall(masked(Opcode.TEXT, b"a", fin=False))
        sly.sendall(masked(Opcode.CONT, b"", fin=False) * 5000 + masked(Opcode.CONT, b"b", fin=False))
        sly.sendall(masked(Opcode.PING))
        assert sly.recv(2) == b"\x8a\x00"
        assert len(wire._inbound._parts or ()) < 2000
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
    await until(lambda: not relay.sockets)


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
    await until(lambda: not relay.sockets)


@pytest.mark.parametrize(
    "after",
    [b"", masked(Opcode.PING), GOODBYE, b"\xff\xff\xff\xff"],
    ids=["nothing", "a ping", "a close", "no frame"],  # masks are random, and every process must find the same names
)
@on_both_loops
async def test_a_text_that_is_not_utf8_closes_1007_quietly(relay: Served, after: bytes) -> None:
    with raw(relay) as terminal:
        accepted(terminal)
        terminal.sendall(masked(Opcode.TEXT, b"caf\xc3", fin=False) + masked(Opcode.CONT, b"\x28") + after)
        assert close_code(rest(terminal)) == 1007
    await until(lambda: not relay.sockets)
    assert relay.received == []


async def test_a_peer_that_does_not_answer_a_ping_is_closed_but_not_while_its_messages_wait_here(
    relay: Served,
) -> None:
    with raw(relay) as silent:
        accepted(silent)
        wire = await socket_wire(relay)
        relay.do(relay.stop_reading)
        silent.sendall(masked(Opcode.TEXT, b"taken"))
        await until(lambda: wire._message == "taken")
        silent.sendall(masked(Opcode.TEXT, b"waits"))
        await until(lambda: not wire._reading)
        assert relay.do(lambda: wire.ping(b"1"))
        assert relay.do(lambda: wire.ping(b"2")), "its pong may lie behind what waits"
        assert not wire.closed
        relay.do(relay.read_again)
        await until(lambda: relay.received == ["taken", "waits"])
        silent.sendall(masked(Opcode.PONG, b"not that") + masked(Opcode.TEXT, b"more"))
        await until(lambda: relay.received == ["taken", "waits", "more"])
        assert not relay.do(lambda: wire.ping(b"3"))
        assert close_code(rest(silent)) == 1011


async def test_keepalive_keeps_a_peer_that_answers_and_ends_one_that_does_not() -> None:
    with serving(loop="uvloop", heartbeat_seconds=0.5) as served, raw(served) as silent:
        accepted(silent)
        async with terminal(served) as one:
            wire = await socket_wire(served, 2)
            assert close_code(await asyncio.to_thread(rest, silent)) == 1011
            await until(lambda: served.sockets == [wire])
            await one.send("echo alive")
            assert await one.recv() == "alive"
        await until(lambda: not served.sockets)
        keepalive = wire._keepalive
        assert not any(keepalive._turns), "who has left is pinged no more"


# Handshakes


async def test_what_comes_before_the_handshake_is_complete_is_heard_after_it(relay: Served) -> None:
    relay.may_accept.clear()
    with raw(relay) as hasty:
        await until(lambda: relay.loop is not None)
        hasty.sendall(masked(Opcode.TEXT, b"early") + b"\xff\xff\xff\xff")
        await until(lambda: relay.sockets[0]._inbound.waiting)
        relay.do(relay.may_accept.set)
        accepted(hasty)
        assert close_code(rest(hasty)) == 1002
    await until(lambda: not relay.sockets)
    assert relay.received == ["early"]


async def test_who_sends_much_before_the_handshake_is_complete_is_cut_off(relay: Served) -> None:
    relay.may_accept.clear()
    with raw(relay) as hasty:
        await until(lambda: relay.loop is not None)
        with suppress(ConnectionError):
            hasty.sendall(masked(Opcode.TEXT, bytes(10 * wire_module.HASTY_BYTES)))
            assert rest(hasty) == b""
    await until(lambda: not relay.sockets)
    relay.do(relay.may_accept.set)
    await until(lambda: not relay.server.server_state.tasks)
    assert relay.wires[0].ended


async def test_a_peer_that_leaves_before_the_handshake_is_complete_leaves_nothing_behind(relay: Served) -> None:
    relay.may_accept.clear()
    with raw(relay):
        await until(lambda: relay.loop is not None)
    await until(lambda: not relay.sockets)
    relay.do(relay.may_accept.set)
    await until(lambda: not relay.server.server_state.tasks)
    assert relay.wires[0].ended


@on_both_loops
async def test_a_header_that_is_too_long_is_refused_and_not_kept_waiting(relay: Served) -> None:
    with raw(relay, headers=f"Cookie: {'x' * 9000}\r\n") as terminal:
        assert rest(terminal).startswith(b"HTTP/1.1 431 ")
    await until(lambda: not relay.sockets)


async def test_an_application_may_refuse_with_a_response_of_its_own(relay: Served) -> None:
    async def refuse(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"WWW-Authenticate", b"Bearer"), (b"content-length", b"5")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"token", "more_body": False})

    relay.instead = refuse
    with raw(relay) as terminal:
        assert rest(terminal) == (
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n"
            b"Content-Length: 5\r\nConnection: close\r\n\r\ntoken"
        )


async def test_an_application_accepts_with_headers_and_a_subprotocol(relay: Served) -> None:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        chosen = scope["subprotocols"][1]
        await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"X-Relay", b"1")]})
        scope["extensions"][EXTENSION].close(1000)

    relay.instead = accept
    with raw(relay, headers="Sec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Protocol: three\r\n") as terminal:
        head, _, frames = rest(terminal).partition(b"\r\n\r\n")
        assert b"\r\nSec-WebSocket-Protocol: two\r\n" in head
        assert b"\r\nX-Relay: 1" in head
        assert frames == b"\x88\x02\x03\xe8"


async def test_neither_query_nor_headers_nor_payloads_are_logged(
    relay: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with raw(relay, path="/?token=sesame", headers="Authorization: Bearer sesame\r\n") as terminal:
        accepted(terminal)
        terminal.sendall(masked(Opcode.TEXT, b"echo sesame"))
        assert terminal.recv(8) == encode("sesame")[0]
    await until(lambda: not relay.sockets)
    assert "sesame" not in caplog.text


@pytest.mark.parametrize("accepts", [True, False])
async def test_an_application_that_fails_says_so(relay: Served, accepts: bool) -> None:
    async def fail(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    relay.instead, relay.may_complain = fail, True
    with raw(relay) as terminal:
        heard = rest(terminal)
        if accepts:
            assert heard.endswith(b"\x88\x02\x03\xf3")
        else:
            assert heard.startswith(b"HTTP/1.1 500 ")
