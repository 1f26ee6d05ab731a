"""Frames, and the two wires: RelayProtocol under a real uvicorn on both loops, AsgiWire on other servers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any, TypeVar, cast

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side
from websockets.sync.client import connect as connect_blocking

from relay import wire as wire_module
from relay.asgi import ASGI_BUFFER_BYTES, AsgiWire, wire_of
from relay.frames import PIECE_BYTES, decode, encode
from relay.wire import (
    BUFFER_HIGH,
    BUFFER_LOW,
    EXTENSION,
    RelayProtocol,
    SocketWire,
)
from tests.waiting import until

T = TypeVar("T")

MAX_MESSAGE = 1024 * 1024
SIZES = st.integers(0, 300 * 1024)
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


# Frames


def received(data: bytes) -> list[str]:
    """The texts that the websockets library reads from a server's bytes."""
    peer = Protocol(Side.CLIENT, max_size=None)
    peer.receive_data(data)
    assert peer.parser_exc is None
    texts: list[str] = []
    parts: list[bytes] = []
    for frame in peer.events_received():
        assert isinstance(frame, Frame)
        assert frame.opcode is (Opcode.CONT if parts else Opcode.TEXT)
        parts.append(bytes(frame.data))
        if frame.fin:
            texts.append(b"".join(parts).decode())
            parts.clear()
    assert not parts
    return texts


@example(0)
@example(125)
@example(126)
@example(65535)
@example(65536)
@example(65537)
@example(131072)
@example(131073)
@given(SIZES)
def test_a_text_of_any_size_is_read_back_whole(size: int) -> None:
    text = "x" * (size % 3) + "ဟင်း" * (size // 12)  # 3 bytes a letter: a piece ends within one
    assert received(b"".join(encode(text))) == [text]
    exact = "y" * size
    assert received(b"".join(encode(exact))) == [exact]


@given(SIZES)
def test_every_piece_is_one_frame_of_at_most_the_limit(size: int) -> None:
    pieces = encode(b"x" * size)
    frames = [list(decode(piece)) for piece in pieces]
    assert all(len(found) == 1 and len(found[0][1]) <= PIECE_BYTES for found in frames)
    assert [found[0][0] for found in frames] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) == max(1, -(-size // PIECE_BYTES))


@given(st.lists(SIZES, max_size=5))
def test_joined_messages_are_read_back_one_by_one(sizes: list[int]) -> None:
    texts = [str(number) + "x" * size for number, size in enumerate(sizes)]
    joined = b"".join(b"".join(encode(text)) for text in texts)
    assert received(joined) == texts
    assert b"".join(payload for _, payload in decode(joined)).decode() == "".join(texts)


# A relay that keeps what it receives


class Served:
    """A uvicorn on a thread and a loop of its own; its application keeps what it receives."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wires: list[SocketWire | AsgiWire] = []
        self.received: list[str] = []
        self.may_accept = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_accept.set()
        self.may_read.set()
        self.before_accept: Callable[[Scope], None] = lambda _: None
        self.may_complain = False
        self.port = 0
        self.server: uvicorn.Server
        self.thread: Thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.loop = asyncio.get_running_loop()
        self.before_accept(scope)
        await receive()
        await self.may_accept.wait()
        await send({"type": "websocket.accept"})
        wire = wire_of(scope, receive, send)
        self.wires.append(wire)
        while True:
            await self.may_read.wait()
            message = await wire.receive()
            if message["type"] == "websocket.disconnect":
                break
            self.received.append(message["text"])
            match message["text"].partition(" "):
                case ("echo", _, text):
                    await send({"type": "websocket.send", "text": text})
                case ("leave", *_):
                    return
                case ("fail", *_):
                    raise ZeroDivisionError
        await wire.stop()

    def do(self, action: Callable[[], T]) -> T:
        """The result of `action` on the server's loop."""

        async def run() -> T:
            return action()

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(5)

    @property
    def protocols(self) -> list[RelayProtocol]:
        return [one for one in list(self.server.server_state.connections) if isinstance(one, RelayProtocol)]


@contextmanager
def serving(**options: Any) -> Iterator[Served]:
    served = Served()
    listening = socket.create_server(("127.0.0.1", 0))
    served.port = listening.getsockname()[1]
    options = {"ws": RelayProtocol, "ws_ping_interval": 1000.0, "ws_max_size": MAX_MESSAGE, **options}
    options |= {"http": "httptools", "lifespan": "off", "log_config": None, "timeout_graceful_shutdown": 5}
    application = cast(ASGI3Application, served)
    served.server = uvicorn.Server(uvicorn.Config(application, **options))
    served.server.config.ws_per_message_deflate = False
    served.thread = Thread(target=served.server.run, kwargs={"sockets": [listening]}, daemon=True)
    served.thread.start()
    try:
        yield served
    finally:
        served.server.should_exit = True
        served.thread.join(10)
        assert not served.thread.is_alive()


on_both_loops = pytest.mark.parametrize("relay", ["uvloop", "asyncio"], indirect=True)


@pytest.fixture
def relay(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Served]:
    monkeypatch.setattr(wire_module, "CLOSE_SECONDS", 0.3)
    with serving(loop=getattr(request, "param", "uvloop")) as served:
        yield served
    complaints = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert served.may_complain or not complaints


@contextmanager
def raw(served: Served, *, path: str = "/", headers: str = "", read: bool = True) -> Iterator[socket.socket]:
    """A terminal that does only what the test says; without `read` its kernel takes as little as it can."""
    with socket.socket() as terminal:
        if not read:
            terminal.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        terminal.settimeout(5)
        terminal.connect(("127.0.0.1", served.port))
        terminal.sendall(HANDSHAKE.format(path=path, headers=headers).encode("latin-1"))
        yield terminal


def accepted(terminal: socket.socket) -> None:
    """Read the handshake's answer and nothing behind it."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += (byte := terminal.recv(1))
        assert byte
    assert answer.startswith(b"HTTP/1.1 101 ")


def rest(terminal: socket.socket) -> bytes:
    """What the terminal can still read until its connection ends."""
    found = b""
    while data := terminal.recv(65536):
        found += data
    return found


def close_code(data: bytes) -> int:
    """The code in the close frame at the end of a server's bytes."""
    peer = Protocol(Side.CLIENT, max_size=None)
    peer.receive_data(data)
    assert peer.close_rcvd is not None
    return peer.close_rcvd.code


def masked(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


GOODBYE = masked(Opcode.CLOSE, b"\x03\xe8")


async def socket_wire(served: Served, number: int = 1) -> SocketWire:
    """The wire of the `number`th terminal that was accepted."""
    await until(lambda: len(served.wires) >= number)
    found = served.wires[number - 1]
    assert isinstance(found, SocketWire)
    return found


def fill(wire: SocketWire) -> int:
    """Write until the wire is full; bytes written."""
    frame = encode("x" * 60_000)[0]
    written = 0
    while wire.writable:
        wire.write(frame)
        written += len(frame)
    return written


def url(served: Served) -> str:
    return f"ws://127.0.0.1:{served.port}/"


def terminal(served: Served, **options: Any) -> connect:
    return connect(url(served), compression=None, max_size=None, **options)


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


# Terminals that do not read


@on_both_loops
async def test_a_reader_that_stops_costs_a_bounded_buffer_and_nobody_elses_time(relay: Served) -> None:
    drained: list[bool] = []
    with raw(relay, read=False) as stopped:
        accepted(stopped)
        wire = await socket_wire(relay)
        wire.on_writable = lambda: drained.append(wire.writable)
        [protocol] = relay.protocols
        assert protocol.transport.get_write_buffer_limits() == (BUFFER_LOW, BUFFER_HIGH)
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


def close_and_be_closed(protocol: RelayProtocol, stopped: socket.socket) -> None:
    protocol.wire.close(1012)
    stopped.sendall(GOODBYE)


ENDINGS: dict[str, Callable[[RelayProtocol, socket.socket], object]] = {
    "our close": lambda protocol, _: protocol.wire.close(1012),
    "no answer to a ping": lambda protocol, _: protocol.keepalive_timeout(),
    "an illegal frame": lambda _, stopped: stopped.sendall(b"\xff\xff\xff\xff"),
    "its close": lambda _, stopped: stopped.sendall(GOODBYE),
    "its close after ours": close_and_be_closed,
    "its half close": lambda _, stopped: stopped.shutdown(socket.SHUT_WR),
    "the endpoint's end": lambda _, stopped: stopped.sendall(masked(Opcode.TEXT, b"leave")),
    "the server's end": lambda protocol, _: protocol.shutdown(),
}


@on_both_loops
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
async def test_a_reader_that_stopped_is_aborted_however_its_connection_ends(
    relay: Served, end: Callable[[RelayProtocol, socket.socket], object]
) -> None:
    with raw(relay, read=False) as stopped:
        accepted(stopped)
        wire = await socket_wire(relay)
        [protocol] = relay.protocols
        relay.do(lambda: fill(wire))
        relay.do(lambda: end(protocol, stopped))
        await until(lambda: wire.closed)
        await until(lambda: not relay.protocols and not relay.server.server_state.tasks)


async def test_a_peer_that_reads_but_does_not_answer_a_close_is_aborted(relay: Served) -> None:
    with raw(relay) as silent:
        accepted(silent)
        wire = await socket_wire(relay)
        relay.do(lambda: wire.close(1000))
        await until(lambda: not relay.protocols)
        assert close_code(rest(silent)) == 1000


async def test_a_close_of_the_endpoints_own_is_bounded_too(relay: Served) -> None:
    with raw(relay) as silent:
        accepted(silent)
        await socket_wire(relay)
        [protocol] = relay.protocols
        assert relay.loop is not None
        asyncio.run_coroutine_threadsafe(protocol.send({"type": "websocket.close"}), relay.loop).result(5)
        await until(lambda: not relay.protocols)
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


# On another server


class Peer:
    """The far end of an ASGI server made by hand."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.failure: Exception | None = None

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        if self.failure:
            raise self.failure
        self.sent.append(message)

    def wire(self) -> AsgiWire:
        wire = wire_of({"type": "websocket"}, self.messages.get, self.send)
        assert isinstance(wire, AsgiWire)
        return wire


async def test_another_server_sends_the_texts_of_joined_frames_and_of_pieces() -> None:
    peer = Peer()
    wire = peer.wire()
    big = "ဟင်း" * 30_000
    wire.write(encode("one")[0] + encode("two")[0])
    for piece in encode(big):
        wire.write(piece)
    wire.close(1012, "5")
    wire.write(encode("too late")[0])
    await wire.stop()
    assert [message.get("text") for message in peer.sent] == ["one", "two", big, None]
    assert peer.sent[-1] == {"type": "websocket.close", "code": 1012, "reason": "5"}
    assert wire.buffered == 0


async def test_another_servers_slow_peer_makes_the_wire_full_until_it_has_drained() -> None:
    peer = Peer()
    peer.reads.clear()
    wire = peer.wire()
    drained: list[int] = []
    wire.on_writable = lambda: drained.append(wire.buffered)
    while wire.writable:
        wire.write(encode("x" * 1000)[0])
    assert ASGI_BUFFER_BYTES < wire.buffered <= ASGI_BUFFER_BYTES + 1000
    peer.reads.set()
    await until(lambda: wire.buffered == 0)
    assert len(drained) == 1
    assert 0 < drained[0] <= ASGI_BUFFER_BYTES // 4
    assert wire.writable
    await wire.stop()


async def test_another_servers_stopped_peer_is_given_up_after_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "CLOSE_SECONDS", 0.1)
    peer = Peer()
    peer.reads.clear()
    wire = peer.wire()
    wire.write(encode("stuck")[0])
    wire.close(1000)
    assert await wire.receive() == {"type": "websocket.disconnect", "code": 1006}
    await wire.stop()
    assert peer.sent == []


async def test_another_servers_messages_are_received_until_the_peer_leaves() -> None:
    peer = Peer()
    wire = peer.wire()
    peer.messages.put_nowait({"type": "websocket.receive", "text": "hello"})
    assert await wire.receive() == {"type": "websocket.receive", "text": "hello"}
    peer.messages.put_nowait({"type": "websocket.disconnect", "code": 1001})
    assert await wire.receive() == {"type": "websocket.disconnect", "code": 1001}
    assert wire.closed
    await wire.stop()
    assert peer.sent == []


async def test_another_servers_lost_peer_ends_the_endpoint_quietly() -> None:
    peer = Peer()
    peer.failure = OSError()
    wire = peer.wire()
    wire.write(encode("lost")[0])
    assert (await wire.receive())["type"] == "websocket.disconnect"
    assert wire.closed
    assert not wire.writable
    await wire.stop()


async def test_another_servers_failure_is_not_swallowed() -> None:
    peer = Peer()
    peer.failure = ZeroDivisionError()
    wire = peer.wire()
    wire.write(encode("lost")[0])
    with pytest.raises(ZeroDivisionError):
        await wire.stop()


async def test_uvicorns_own_protocol_serves_as_another_server() -> None:
    big = "x" * 3_000_000
    with serving(ws="websockets-sansio") as served:
        async with terminal(served) as one:
            await until(lambda: served.wires)
            [wire] = served.wires
            assert isinstance(wire, AsgiWire)
            served.do(lambda: wire.write(b"".join(encode("small") + encode(big))))
            assert [await one.recv(), await one.recv()] == ["small", big]
            await one.send("hello")
            await until(lambda: served.received == ["hello"])
            served.do(lambda: wire.close(1012, "5"))
            with pytest.raises(ConnectionClosed) as closed:
                await one.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await until(lambda: not served.server.server_state.tasks)
