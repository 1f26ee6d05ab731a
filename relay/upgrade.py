"""Turns an HTTP connection into a WebSocket: the ASGI conversation of one handshake (RFC 6455, section 4.2).

The application refuses, or accepts and takes the `SocketWire` out of the scope; when it returns, the task of the
handshake is over and the socket goes on without one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

from starlette.types import Message, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from .keepalive import Keepalive
from .wire import EXTENSION, SocketWire

log = logging.getLogger("relay.upgrade")

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
LINE_BYTES, HEADERS = 8192, 128  # the most of a request line or header, and of headers
STALLED_SECONDS = 15.0  # in which a peer must take something of its answer
REQUEST_SECONDS, REQUEST_BYTES = 6.0, 256 * 1024  # within which a request must be complete

RawHeaders = list[tuple[bytes, bytes]]

# What websockets says at DEBUG names every header.
QUIET = logging.getLogger("relay.upgrade.websockets")
QUIET.setLevel(logging.CRITICAL)


class Sockets:
    """All sockets of one server, and what they share; uvicorn's `http=`, of which it asks a protocol per connection."""

    def __init__(self, max_message_bytes: int, heartbeat_seconds: float) -> None:
        self.max_message_bytes = max_message_bytes
        self.keepalive = Keepalive(heartbeat_seconds)

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HttpProtocol:
        """The protocol of a new connection."""
        return HttpProtocol(self, config, server_state, app_state, _loop)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which hands a connection over to a SocketWire."""

    def __init__(
        self,
        sockets: Sockets,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._sockets = sockets
        self._late: asyncio.TimerHandle | None = None  # while a request is expected, or not complete
        self._bytes = 0  # of it
        self._stalled: asyncio.TimerHandle | None = None  # while the peer does not take what it asked for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer has connected, and must ask for something: uvicorn would wait for ever."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._be_content()
        self._flows()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse it; a request that does not end is cut off, as one that takes too long."""
        self._bytes += len(data)
        if self._late is None or self._bytes <= REQUEST_BYTES:
            super().data_received(data)
        elif self._bytes - len(data) <= REQUEST_BYTES:
            # What still comes goes by unread: closing now would be a reset, which can overtake the answer.
            self.transport.write(_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            self.transport.write_eof()

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._late is None:
            self._expect()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is complete; of an upgrade this comes before `handle_websocket_upgrade`."""
        self._be_content()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """More waits for the peer than the kernel takes; uvicorn would keep it for as long as the peer keeps silent."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size() + 1)

    def resume_writing(self) -> None:
        """It has taken that."""
        self._flows()
        super().resume_writing()

    def _watch(self, before: int) -> None:
        """Abort a peer that has taken nothing in STALLED_SECONDS of so many bytes."""
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._stalled = self.loop.call_later(STALLED_SECONDS, self._watch, left)
        else:
            self.transport.abort()

    def _flows(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _expect(self) -> None:
        self._bytes = 0
        self._late = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _be_content(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def handle_websocket_upgrade(self) -> None:
        """Begin the handshake; uvicorn would write the request out again for another parser."""
        self.connections.discard(self)
        self._flows()
        connections = cast(set[SocketWire], self.connections)
        wire = SocketWire(self.transport, self._sockets.max_message_bytes, self._sockets.keepalive, connections)
        self.transport.set_protocol(wire)
        handshake = Handshake(wire, self.scope["method"], self.scope["http_version"], self.url, self.headers)
        if handshake.refusal is not None:
            handshake.refuse(handshake.refusal)
        else:
            task = self.loop.create_task(handshake.run(self.app, self._scope(wire)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        # The parser holds this object, which nothing else does any more: the cycle would wait for the collector.
        self.parser = None  # type: ignore[assignment]

    def _scope(self, wire: SocketWire) -> Scope:
        raw_path, _, query = self.url.partition(b"?")
        protocols = b",".join(value for name, value in self.headers if name == b"sec-websocket-protocol")
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self.scheme == "https" else "ws",
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(raw_path.decode("ascii")),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "subprotocols": [part for one in protocols.decode("latin-1").split(",") if (part := one.strip())],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: wire},
        }


class Handshake:
    """One upgrade request, and the application's answer to it."""

    def __init__(self, wire: SocketWire, method: str, version: str, url: bytes, headers: RawHeaders) -> None:
        self.refusal: bytes | None = None
        self._wire = wire
        self._accept = b""
        self._begun: Message | None = None  # of a response of the application's own
        self._answered = self._connected = False
        self._lost = asyncio.Event()
        values = dict(headers)
        key = values.get(b"sec-websocket-key", b"")
        if _too_long(url, headers):
            self.refusal = _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not url.isascii() or values.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in values:
            self.refusal = _response(HTTPStatus.BAD_REQUEST)
        elif len(values) == len(headers) and _is_plain(method, version, values) and _is_key(key):
            self._accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - as the RFC has it
        else:
            self._ask_websockets(method, version, url, headers)

    def _ask_websockets(self, method: str, version: str, url: bytes, headers: RawHeaders) -> None:
        """Have unusual requests judged by who knows every rule, and the wrong ones answered."""
        named = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        request = Request(url.decode(), named, method, f"HTTP/{version}")
        judge = ServerProtocol(logger=QUIET)
        response = judge.accept(request)
        if (error := judge.handshake_exc) is not None:
            # It keeps its frames, and they keep it and all of ours below them: the cycle would wait for the collector.
            error.__traceback__ = error.__context__ = error.__cause__ = None
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._accept = response.headers["Sec-WebSocket-Accept"].encode()
        elif isinstance(error, InvalidHeader) and error.name == "Sec-WebSocket-Version":
            # It answers 400 to a version that it does not speak; RFC 6455, section 4.4, has this.
            self.refusal = _response(HTTPStatus.UPGRADE_REQUIRED, [(b"Sec-WebSocket-Version", b"13")])
        else:
            self.refusal = response.serialize()

    async def run(self, app: Any, scope: Scope) -> None:
        """Let the application answer."""
        self._wire.on_lost = self._lost.set
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            log.exception("a handshake failed")
            self._fail()
        else:
            if not self._answered:
                self._fail()
        finally:
            self._wire.on_lost = None

    def _fail(self) -> None:
        if self._answered:
            self._wire.close(CloseCode.INTERNAL_ERROR)
        else:
            self.refuse(_response(HTTPStatus.INTERNAL_SERVER_ERROR))

    async def receive(self) -> Message:
        """`websocket.connect`, and later a disconnect: messages are pulled out of the wire."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        await self._lost.wait()
        return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL_CLOSURE}

    async def send(self, message: Message) -> None:
        """Answer the handshake: accept, close (403), or a response of the application's own."""
        kind = message["type"]
        if kind == "websocket.http.response.body" and self._begun is not None:
            if not message.get("more_body"):
                headers = [(name, value) for name, value in self._begun["headers"] if name.lower() != b"content-length"]
                self.refuse(_response(HTTPStatus(self._begun["status"]), headers, message.get("body", b"")))
            return
        if self._answered:
            raise RuntimeError(f"after the handshake the wire is written to; {kind} is not for it")
        if kind == "websocket.accept":
            self._answered = True
            self._wire.open(self._granted(message.get("headers", ()), message.get("subprotocol")))
        elif kind == "websocket.close":
            self.refuse(_response(HTTPStatus.FORBIDDEN))
        elif kind == "websocket.http.response.start":
            self._begun = message
        else:
            raise RuntimeError(f"a handshake is not answered with {kind}")

    def _granted(self, headers: Iterable[tuple[bytes, bytes]], subprotocol: str | None) -> bytes:
        lines = [b"Sec-WebSocket-Accept: " + self._accept]
        if subprotocol:
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode("latin-1"))
        lines += [b"%b: %b" % header for header in headers]
        return _GRANTED + b"\r\n".join(lines) + b"\r\n\r\n"

    def refuse(self, response: bytes) -> None:
        """Send a response that does not accept, and close."""
        self._answered = True
        if not (self._wire.gone or self._wire.transport.is_closing()):
            self._wire.transport.write(response)
            self._wire.end()
        self._wire.deaf = True


_GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def _is_plain(method: str, version: str, values: dict[bytes, bytes]) -> bool:
    """Whether this is what browsers send, letter by letter; anything else may still be right."""
    return (
        method == "GET"
        and version == "1.1"
        and values.get(b"connection", b"").lower() == b"upgrade"
        and values.get(b"upgrade", b"").lower() == b"websocket"
        and values.get(b"sec-websocket-version") == b"13"
    )


def _is_key(key: bytes) -> bool:
    if len(key) != 24:
        return False
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _too_long(url: bytes, headers: RawHeaders) -> bool:
    if len(url) > LINE_BYTES or len(headers) > HEADERS:
        return True
    return any(len(name) + len(value) > LINE_BYTES for name, value in headers)


def _response(status: HTTPStatus, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"") -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}".encode(),
        *(b"%b: %b" % header for header in headers),
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
