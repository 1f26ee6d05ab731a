"""Writes ready frames to one terminal's socket: the uvicorn protocol class that can.

A session writes to a `Wire`. Under uvicorn that is a `SocketWire`, which puts frames on the transport as they are, and
which `RelayProtocol` offers to the application as `scope["extensions"]["relay.wire"]`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, cast

from starlette.types import Receive
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import State

EXTENSION = "relay.wire"
BUFFER_HIGH = 64 * 1024  # more than this not taken by the kernel, and a wire is not writable …
BUFFER_LOW = 16 * 1024  # … until it is no more than this
UNSENT_BYTES = 128 * 1024  # in the kernel: without a limit it takes 4 MB for a peer that does not read
CLOSE_SECONDS = 5.0  # from a close to the abort of a peer that does not answer or does not read
PARSE_BYTES = 4096  # read from the socket at once: 256 KB, which may hold 43,000 empty messages
FRAGMENTS = 1024  # of one incoming message, kept apart before they are joined

# What uvicorn and websockets say below this level names the query string, every header and every payload.
LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.WARNING)


class Wire(Protocol):
    """What a session writes to; nothing here waits."""

    on_writable: Callable[[], None] | None
    """Called when the wire, having been full, is writable again."""

    @property
    def writable(self) -> bool:
        """False once closed, and while more than a limit is waiting for a peer that reads slowly."""

    @property
    def closed(self) -> bool:
        """Whether either side has begun to close; what is written then goes nowhere.

        Messages that came before the peer's close may still wait in `receive`: read until `websocket.disconnect`.
        """

    @property
    def buffered(self) -> int:
        """Bytes that wait here because the kernel did not take them."""

    def write(self, data: bytes) -> None:
        """Send frames of `frames.encode`, one or several joined; does nothing once closed.

        The caller looks at `writable` first; one write beyond it does no harm.
        """

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake after what was written; does nothing once closed.

        `code` is one that may be sent (RFC 6455, section 7.4), `reason` at most 123 bytes. A peer that has not read
        all of it and answered within CLOSE_SECONDS is aborted.
        """

    def abort(self) -> None:
        """End the connection at once, whatever was written."""


class SocketWire:
    """The wire of a RelayProtocol: frames go to the transport as they are. Usable after `websocket.accept`."""

    __slots__ = ("_connection", "_protocol", "_transport", "on_writable", "receive")

    def __init__(self, protocol: RelayProtocol, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self._connection = protocol.conn
        self._transport = transport
        self.on_writable: Callable[[], None] | None = None
        self.receive: Receive

    @property
    def writable(self) -> bool:
        """False before the handshake is complete, while the transport's buffer is over its limit, and once closed."""
        return self._protocol.writable.is_set() and self.open

    @property
    def open(self) -> bool:
        """Whether frames may be written: not before the handshake is complete nor after a close was sent."""
        # Every way in which uvicorn ends a connection shows in one of these two, and only some in its own flags.
        return self._connection.state is State.OPEN and not self._transport.is_closing()

    @property
    def closed(self) -> bool:
        """Whether either side has begun to close."""
        return self._connection.state > State.OPEN or self._transport.is_closing()

    @property
    def buffered(self) -> int:
        """Bytes in the transport's buffer."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send frames; see Wire."""
        if self.open:
            self._transport.write(data)

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake; see Wire."""
        if self.open:
            self._protocol.begin_close(code, reason)

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    async def stop(self) -> None:
        """Say goodbye (1000) unless closed. For the endpoint's `finally`."""
        self.close(CloseCode.NORMAL_CLOSURE)


class _Transport:
    """The transport as uvicorn sees it, with two of its promises kept."""

    __slots__ = ("_protocol", "_transport")

    def __init__(self, protocol: RelayProtocol, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        # It waits until the buffer is empty: for ever, if the peer does not read. uvicorn calls it in a dozen places.
        if not self._transport.is_closing():
            self._protocol.abort_later()
            self._transport.close()

    def resume_reading(self) -> None:
        # What was read before the pause comes first.
        self._transport.resume_reading()
        self._protocol.parse()


class RelayProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with the raw write, and with a bound wherever a peer could make it wait or grow.

    For `uvicorn.Config(ws=RelayProtocol, ws_per_message_deflate=False)`: ready frames are not compressed.
    """

    wire: SocketWire

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = LOGGER
        self.close_timeout = CLOSE_SECONDS
        self._unparsed = b""

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the socket over from the HTTP protocol."""
        super().connection_made(transport)
        self.wire = SocketWire(self, self.transport)
        self.transport.set_write_buffer_limits(high=BUFFER_HIGH, low=BUFFER_LOW)
        with suppress(OSError):  # not for a Unix socket
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.transport = cast(asyncio.Transport, _Transport(self, self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what the connection held."""
        # What was read before the end was sent in good faith: the application hears it, and then of the end.
        unparsed, self._unparsed = self._unparsed, b""
        if unparsed:
            self._parse(unparsed)
        super().connection_lost(exc)
        self.wire.on_writable = None  # it leads back to the wire: the cycle would wait for the collector

    def resume_writing(self) -> None:
        """Tell uvicorn and the session that the buffer has drained."""
        super().resume_writing()
        if self.wire.on_writable is not None and self.wire.open:
            self.wire.on_writable()

    def run_asgi(self) -> Coroutine[Any, Any, None]:
        """Offer the wire to the application."""
        cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = self.wire
        return super().run_asgi()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Parse what was read, as far as the application keeps up."""
        self._unparsed += data
        self.parse()
        if not self.handshake_initiated:
            # websockets refused the request (a header above 8 KiB: 431); uvicorn would not tell, and wait for ever.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def parse(self) -> None:
        """Parse what is left of the last read until a message makes uvicorn pause.

        In pieces, because uvicorn would queue all of it before its pause has an effect.
        """
        unparsed, self._unparsed = memoryview(self._unparsed), b""
        while unparsed and not self.read_paused:
            self._parse(bytes(unparsed[:PARSE_BYTES]))
            unparsed = unparsed[PARSE_BYTES:]
        self._unparsed = bytes(unparsed)

    def _parse(self, data: bytes) -> None:
        if self.conn.parser_exc is not None:  # said already; the rest goes by unread
            return
        self.conn.receive_data(data)
        self.handle_events()  # also before an illegal frame: uvicorn would drop the messages that came with it
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()

    def handle_cont(self, event: Frame) -> None:
        """Keep a fragment."""
        if len(self.frames) >= FRAGMENTS:  # empty ones count towards no size, so their number has no other limit
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Pass a whole message on, or close 1007 (RFC 6455, section 8.1) without a traceback in the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError as error:
                # As websockets does with what it finds itself; `_parse` tells the peer.
                self.conn.fail(CloseCode.INVALID_DATA, "a text that is not UTF-8")
                self.conn.parser_exc = error
                self.close_sent = True  # nothing behind it counts
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer, unless the peer does not read: the answer to its next ping will do (RFC 6455, section 5.5.3)."""
        output = b"".join(self.conn.data_to_send())
        if output and (self.wire.writable or self.conn.state > State.OPEN):
            self.transport.write(output)

    def keepalive_timeout(self) -> None:
        """Close, but not for a pong that lies unread here while the application works off the peer's messages."""
        if self.read_paused and self.ping_timeout is not None:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    # Closing

    def begin_close(self, code: int, reason: str) -> None:
        """Do what `websocket.close` does, at once: uvicorn's waits for the buffer to drain before it begins."""
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        # What the peer sent before it heard of this is still received: no `close_sent`, which makes uvicorn drop it.
        self.abort_later()

    def handle_parser_exception(self) -> None:
        """Say why, and read on until the peer has heard it.

        Closing while the peer still sends makes the kernel answer with a reset, which can overtake the close frame;
        half-closing does not (RFC 6455, section 7.1.1).
        """
        close = self.conn.close_sent
        if close is None:  # an illegal frame before the handshake is complete, where uvicorn asserts
            self.transport.abort()
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS
            self.transport.close()
        self._await_close(close.code, close.reason)

    def _await_close(self, code: int, reason: str) -> None:
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_sent = True
        self.abort_later()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def abort_later(self) -> None:
        """Give the peer CLOSE_SECONDS from now; `connection_lost` cancels it."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def eof_received(self) -> None:
        """Close as everywhere else: the loop's own close, which follows, has no bound."""
        self.transport.close()

    def shutdown(self) -> None:
        """Close because the server ends; a close frame after the peer's would raise and end the server's round."""
        if self.conn.state > State.OPEN:
            self.transport.close()
        elif not self.transport.is_closing():
            super().shutdown()

    def send_500_response(self) -> None:
        """Tell the peer that the application failed: 1011 instead of uvicorn's bare end once it is connected."""
        self.wire.close(CloseCode.INTERNAL_ERROR)
        super().send_500_response()
