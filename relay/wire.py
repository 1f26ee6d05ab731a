"""Carries frames between a session and one terminal's socket: the asyncio protocol of an upgraded connection.

A session writes to a `Wire` and pulls what the terminal says out of it. Under our server that is a `SocketWire`, which
puts ready frames on the transport as they are. There is no task and no queue per connection: an idle terminal is the
transport, this object, and what the session holds.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from websockets.frames import CloseCode

from .frames import CLOSE, PING, PONG, control
from .inbound import IDLE_FRAMES, TEXT, Illegal, Inbound
from .keepalive import Keepalive

EXTENSION = "relay.wire"  # under which our server offers a wire in an ASGI scope
BUFFER_HIGH = 64 * 1024  # more than this not taken by the kernel, and a wire is not writable …
BUFFER_LOW = 16 * 1024  # … until it is no more than this
UNSENT_BYTES = 128 * 1024  # in the kernel: without a limit it takes 4 MB for a peer that does not read
CLOSE_SECONDS = 5.0  # from a close to the abort of a peer that does not answer or does not read
IDLE_SECONDS = 10.0  # in which a peer may send so many frames that carry no message
HASTY_BYTES = 64 * 1024  # the most that is kept of what comes before the handshake is complete


class Wire(Protocol):
    """What a session writes to, and what messages are pulled out of; nothing here waits."""

    on_writable: Callable[[], None] | None
    """Called when the wire, having been full, is writable again."""

    @property
    def writable(self) -> bool:
        """False once closed, and while more than a limit is waiting for a peer that reads slowly."""

    @property
    def closed(self) -> bool:
        """Whether either side has begun to close; what is written then goes nowhere.

        Messages that came before the peer's close may still wait: pull until `ended`.
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


class Source(Wire, Protocol):
    """A wire as the one sees it who hears its terminal."""

    @property
    def ended(self) -> bool:
        """Whether no message is left, and none will come any more."""

    @property
    def has_message(self) -> bool:
        """Whether `pull` has a message."""

    def listen(self, on_heard: Callable[[], None]) -> None:
        """Call this when `pull` has a message, and when `ended` becomes true; at once where that is so already."""

    def pull(self) -> str | bytes | None:
        """The next message: a text, or a binary one's bytes; None while there is none.

        What was not pulled is not read from the socket for long: whoever does not pull slows the peer down.
        """

    def dismiss(self) -> None:
        """Nobody pulls any more: close (1000) unless closed, and drop what still comes."""


class SocketWire(asyncio.Protocol):
    """The wire of a socket, from its upgrade to its end. `opened` when the handshake is complete."""

    __slots__ = (
        "_closing_timer", "_dismissed", "_forgiven_at", "_has_said_all", "_inbound", "_keepalive", "_message",
        "_on_heard", "_ping", "_reading", "_sockets", "_turn", "closed", "deaf", "gone", "on_lost", "on_writable",
        "opened", "transport", "writable",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, most: int, keepalive: Keepalive, sockets: set[SocketWire]) -> None:
        self.transport = transport
        self.opened = False
        self.writable = False  # see Wire
        self.closed = False  # see Wire
        self.deaf = False  # nothing more is parsed: the peer closed, or sent what is illegal
        self.gone = False  # there is no socket any more
        self.on_writable: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None  # for who awaits something before the handshake is complete
        self._on_heard: Callable[[], None] | None = None
        self._dismissed = False  # nobody pulls any more
        self._message: str | bytes | None = None  # whole, and not pulled yet
        self._inbound = Inbound(most)
        self._forgiven_at = 0.0
        self._reading = True
        self._has_said_all = False  # the peer, by the end of its stream
        self._closing_timer: asyncio.TimerHandle | None = None
        self._keepalive = keepalive
        self._turn = -1  # in the keepalive
        self._ping: bytes | None = None  # sent, and not answered yet
        self._sockets = sockets  # those that the server closes at its end
        sockets.add(self)
        transport.set_write_buffer_limits(high=BUFFER_HIGH, low=BUFFER_LOW)
        with suppress(OSError):  # not for a Unix socket
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def open(self, response: bytes) -> None:
        """Complete the handshake with the response that accepts it."""
        if self.gone or self.transport.is_closing():
            return
        self.transport.write(response)
        self.opened = self.writable = True
        self._turn = self._keepalive.add(self)
        self._hear()

    # Writing

    @property
    def buffered(self) -> int:
        """Bytes in the transport's buffer."""
        return 0 if self.gone else self.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send frames; see Wire."""
        if self.opened and not self.closed:
            self.transport.write(data)

    def pause_writing(self) -> None:
        """The buffer is over its limit."""
        self.writable = False

    def resume_writing(self) -> None:
        """The buffer has drained."""
        if self.opened and not self.closed:
            self.writable = True
            if self.on_writable is not None:
                self.on_writable()

    # Hearing

    @property
    def ended(self) -> bool:
        """Whether no message is left, and none will come; see Source."""
        return self._message is None and (self.deaf or self.gone)

    @property
    def has_message(self) -> bool:
        """Whether there is a message; see Source."""
        return self._message is not None

    def listen(self, on_heard: Callable[[], None]) -> None:
        """Say when there is a message or the end; see Source."""
        self._on_heard = on_heard
        if self.has_message or self.ended:
            on_heard()

    def pull(self) -> str | bytes | None:
        """The next message; see Source."""
        message, self._message = self._message, None
        if message is not None:
            self._advance()
        elif self._has_said_all:
            self.end()
        if not self._reading and self._message is None:
            self._read_on()
        if self.gone and self.ended:
            self._on_heard = None
        return message

    def dismiss(self) -> None:
        """Close (1000) unless closed, and drop what still comes; see Source."""
        self.close(CloseCode.NORMAL_CLOSURE)
        self.on_writable = self._on_heard = None
        self._dismissed = True
        while self.pull() is not None:
            pass

    def data_received(self, data: bytes) -> None:
        """Parse what was read, as far as it is pulled."""
        if self.deaf:
            return  # the rest goes by unread
        if self._inbound.idle > IDLE_FRAMES // 2:
            self._forgive()
        self._inbound.feed(data)
        if not self.opened:
            if self._inbound.waiting > HASTY_BYTES:
                self.transport.abort()
        elif self._message is None:
            self._hear()
        elif self._reading:
            self._reading = False
            self.transport.pause_reading()

    def _forgive(self) -> None:
        """Let a peer begin anew that sends pings and pieces, unless it sends a great many."""
        now = time.monotonic()
        if now - self._forgiven_at > IDLE_SECONDS:
            self._inbound.idle, self._forgiven_at = 0, now

    def _read_on(self) -> None:
        self._reading = True
        if not self.gone:
            self.transport.resume_reading()

    def _hear(self) -> None:
        self._advance()
        if self._message is not None or self.deaf:
            self._say()

    def _advance(self) -> None:
        """Parse to the next message: what comes behind it waits until it was pulled."""
        if self.deaf:
            return
        try:
            while (frame := self._inbound.take()) is not None:
                opcode, payload = frame
                if opcode == PING:
                    # Unless the peer does not read: the answer to its next ping will do (RFC 6455, section 5.5.3).
                    if self.writable:
                        self.transport.write(control(PONG, payload))
                elif opcode == PONG:
                    if payload == self._ping:
                        self._ping = None
                elif opcode == CLOSE:
                    self._be_closed(payload)
                    return
                elif not self._dismissed:
                    self._message = _decoded(payload) if opcode == TEXT else payload
                    return
        except Illegal as illegal:
            self._fail(illegal)

    def _say(self) -> None:
        if self._on_heard is not None:
            self._on_heard()

    # The peer that is gone

    def ping(self, payload: bytes) -> bool:
        """Send a ping, unless the last one was not answered; see Pinged."""
        if self.closed:
            return False
        if self._ping is None:
            self._ping = payload
            self.transport.write(control(PING, payload))
        elif self._reading:  # else its answer lies unread while its messages are worked off
            self._end(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            return False
        return True

    # Closing

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake; see Wire."""
        # What the peer sent before it heard of this is still heard: not `deaf`.
        if self.opened and not self.closed:
            self.transport.write(control(CLOSE, code.to_bytes(2) + reason.encode()))
            self._shut()
            self._abort_later()

    def abort(self) -> None:
        """End the connection at once."""
        if not self.gone:
            self.transport.abort()

    def shutdown(self) -> None:
        """Close because the server ends (uvicorn calls it)."""
        if not self.closed and self.opened:
            self._end(CloseCode.SERVICE_RESTART)
        else:
            self.end()

    def _end(self, code: int, reason: str = "") -> None:
        """Close without waiting for the peer's answer."""
        self.close(code, reason)
        self.deaf = True
        self.end()
        self._say()

    def _be_closed(self, payload: bytes) -> None:
        """The peer's close has come: answer it, unless it is the answer to ours."""
        self.deaf = True
        if not self.closed:
            self.transport.write(control(CLOSE, payload))
            self._shut()
        self.end()

    def _fail(self, illegal: Illegal) -> None:
        """Say what is wrong, and read on until the peer has heard it.

        Closing while the peer still sends makes the kernel answer with a reset, which can overtake the close frame;
        half-closing does not (RFC 6455, section 7.1.1).
        """
        self.deaf = True
        if not (self.gone or self.transport.is_closing()):
            if not self.closed:
                self.transport.write(control(CLOSE, illegal.code.to_bytes(2) + illegal.reason.encode()))
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:  # TLS
                self.transport.close()
            self._shut()
            self._abort_later()
            if not self._reading:
                self._read_on()

    def _shut(self) -> None:
        """Nothing more is written by the session."""
        self.closed, self.writable = True, False
        if self._turn >= 0:
            self._keepalive.discard(self, self._turn)

    def end(self) -> None:
        """Close the socket when the buffer is empty, and after CLOSE_SECONDS in any case."""
        # The transport alone would wait for ever, if the peer does not read.
        if not self.gone and not self.transport.is_closing():
            self._abort_later()
            self.transport.close()

    def _abort_later(self) -> None:
        if self._closing_timer is None:
            self._closing_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.transport.abort)

    def eof_received(self) -> bool:
        """The peer says no more: answer what it said, and close as everywhere else; the loop's own close has no bound.

        It may have said more than was pulled: a transport that is closed takes no answer to that, nor to its close.
        """
        if self._message is None or self.closed or not self.transport.can_write_eof():
            self.end()
            return False
        self._has_said_all = True
        self._abort_later()
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go of what the connection held; what was read before is still heard."""
        self.gone = True
        self._shut()
        self._sockets.discard(self)
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None
        if self.on_lost is not None:
            self.on_lost()
        self.on_writable = None  # it leads back to the wire: the cycle would wait for the collector
        self._say()
        if self.ended:
            self._on_heard = None


def _decoded(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Illegal(CloseCode.INVALID_DATA, "a text that is not UTF-8") from None
