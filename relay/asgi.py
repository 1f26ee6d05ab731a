"""The wire of a terminal on any ASGI server: uvicorn's own where it is ours, else one that sends texts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send
from websockets.frames import CloseCode

from . import wire
from .frames import decode
from .wire import EXTENSION, SocketWire

ASGI_BUFFER_BYTES = 256 * 1024  # more than this not sent yet, and a wire is not writable until a quarter is left


class AsgiWire:
    """The wire on an ASGI server that is not ours: a task of its own sends whole messages.

    Made inside the endpoint after `websocket.accept`. The endpoint awaits `hear`, which also ends when the wire does,
    and `stop` when it leaves.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.on_writable: Callable[[], None] | None = None
        self.closed = False
        self.buffered = 0
        self._full = False
        self._receive = receive
        self._on_heard: Callable[[], None] | None = None
        self._message: str | bytes | None = None
        self._pulled = asyncio.Event()
        self._over = False  # nothing more comes
        self._parts: list[bytes] = []
        self._outbox: asyncio.Queue[tuple[int, Message]] = asyncio.Queue()
        self._task = asyncio.create_task(self._deliver(send), name="asgi-wire")

    @property
    def writable(self) -> bool:
        """False once closed, and from ASGI_BUFFER_BYTES waiting until a quarter of it is left."""
        return not (self.closed or self._full)

    def write(self, data: bytes) -> None:
        """Queue the messages that these frames complete; see Wire."""
        if self.closed:
            return
        for last, payload in decode(data):
            self._parts.append(payload)
            if last:
                message = b"".join(self._parts)
                self._parts.clear()
                self._outbox.put_nowait((len(message), {"type": "websocket.send", "text": message.decode()}))
                self.buffered += len(message)
        self._full = self._full or self.buffered > ASGI_BUFFER_BYTES

    def close(self, code: int, reason: str = "") -> None:
        """Send a close after what was written; see Wire."""
        if self.closed:
            return
        self.closed = True
        self._outbox.put_nowait((0, {"type": "websocket.close", "code": code, "reason": reason}))
        asyncio.get_running_loop().call_later(wire.CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Send nothing more and end `hear`; the socket is the server's, which closes it when the endpoint ends."""
        self.closed = True
        self._task.cancel()

    @property
    def ended(self) -> bool:
        """Whether no message is left, and none will come; see Source."""
        return self._over and self._message is None

    @property
    def has_message(self) -> bool:
        """Whether there is a message; see Source."""
        return self._message is not None

    def listen(self, on_heard: Callable[[], None]) -> None:
        """Say when there is a message or the end; see Source."""
        self._on_heard = on_heard
        if self.has_message or self._over:
            on_heard()

    def pull(self) -> str | bytes | None:
        """The next message; see Source."""
        message, self._message = self._message, None
        self._pulled.set()
        return message

    def dismiss(self) -> None:
        """Close (1000) unless closed, and hear no more; see Source."""
        self.close(CloseCode.NORMAL_CLOSURE)
        self.on_writable = self._on_heard = None
        self._pulled.set()

    async def hear(self) -> None:
        """Receive until the peer leaves, or nothing can be sent any more; a message only when the last was pulled."""
        while (message := await self._receive_or_end()) is not None:
            text = message.get("text")
            self._message = message.get("bytes", b"") if text is None else text
            self._pulled.clear()
            self._say()
            await self._pulled.wait()
        self._over = True
        self._say()

    def _say(self) -> None:
        if self._on_heard is not None:
            self._on_heard()

    async def _receive_or_end(self) -> Message | None:
        reading = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait({reading, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            message = reading.result()
        finally:
            reading.cancel()
        if message["type"] == "websocket.disconnect":
            self.abort()
            return None
        return message

    async def stop(self) -> None:
        """Say goodbye (1000) unless closed, and wait until it is sent or CLOSE_SECONDS are over.

        Raises what the server's `send` raised, unless it was the peer's leaving (OSError in ASGI 2.4).
        """
        self.close(CloseCode.NORMAL_CLOSURE)
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def _deliver(self, send: Send) -> None:
        try:
            while not (self.closed and self._outbox.empty()):
                size, message = await self._outbox.get()
                await send(message)
                self.buffered -= size
                if self._full and self.buffered <= ASGI_BUFFER_BYTES // 4:
                    self._full = False
                    if self.on_writable is not None and self.writable:
                        self.on_writable()
        except OSError:
            pass  # the peer is gone; `receive` says so
        finally:
            self.closed = True


def wire_of(scope: Scope, receive: Receive, send: Send) -> SocketWire | AsgiWire:
    """The wire of an accepted WebSocket. An AsgiWire's endpoint awaits its `hear`, and at the end its `stop`."""
    offered = scope.get("extensions", {}).get(EXTENSION)
    return offered if isinstance(offered, SocketWire) else AsgiWire(receive, send)
