"""A uvicorn with the relay's protocol class, whose application keeps what it receives; and raw sockets to it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar, cast

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from relay import wire as wire_module
from relay.asgi import AsgiWire, wire_of
from relay.frames import encode
from relay.upgrade import Sockets
from relay.wire import SocketWire
from tests.waiting import until

T = TypeVar("T")

MAX_MESSAGE = 1024 * 1024
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


class Served:
    """A uvicorn on a thread and a loop of its own; its application keeps what it receives."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wires: list[SocketWire | AsgiWire] = []
        self.received: list[str] = []
        self.may_accept = asyncio.Event()
        self.may_accept.set()
        self.reads = True  # see `stop_reading`
        self.instead: ASGIApp | None = None  # the whole application
        self.before_accept: Callable[[Scope], None] = lambda _: None
        self.may_complain = False
        self.port = 0
        self.server: uvicorn.Server
        self.thread: Thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.loop = asyncio.get_running_loop()
        if self.instead is not None:
            await self.instead(scope, receive, send)
            return
        self.before_accept(scope)
        await receive()
        await self.may_accept.wait()
        await send({"type": "websocket.accept"})
        wire = wire_of(scope, receive, send)
        self.wires.append(wire)
        wire.listen(lambda: self._hear(wire))
        if isinstance(wire, AsgiWire):
            await wire.hear()
            await wire.stop()

    def _hear(self, wire: SocketWire | AsgiWire) -> None:
        while self.reads and (text := wire.pull()) is not None:
            assert isinstance(text, str)
            self.received.append(text)
            match text.partition(" "):
                case ("echo", _, said):
                    wire.write(encode(said)[0])
                case ("leave", *_):
                    wire.dismiss()
        if wire.ended:
            wire.dismiss()

    def stop_reading(self) -> None:
        """Pull no more, on the server's loop."""
        self.reads = False

    def read_again(self) -> None:
        self.reads = True
        for wire in self.wires:
            self._hear(wire)

    def do(self, action: Callable[[], T]) -> T:
        """The result of `action` on the server's loop."""

        async def run() -> T:
            return action()

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(5)

    @property
    def sockets(self) -> list[SocketWire]:
        """Those that are open."""
        found: list[Any] = list(self.server.server_state.connections)  # uvicorn knows of its own protocols only
        return [one for one in found if isinstance(one, SocketWire)]


@contextmanager
def serving(*, heartbeat_seconds: float = 1000.0, **options: Any) -> Iterator[Served]:
    served = Served()
    listening = socket.create_server(("127.0.0.1", 0))
    served.port = listening.getsockname()[1]
    options = {"http": Sockets(MAX_MESSAGE, heartbeat_seconds), "ws": "none", **options}
    options |= {"lifespan": "off", "log_config": None, "timeout_graceful_shutdown": 5}
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
