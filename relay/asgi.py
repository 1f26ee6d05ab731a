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

    Made inside the endpoint after `websocket.accept`. The endpoint reads with `receive`, which also ends when the
    wire does, and awaits `stop` when it leaves.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.on_writable: Callable[[], None] | None = None
        self.closed = False
        self.buffered = 0
        self._full = False
        self._receive = receive
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
        """Send nothing more and end `receive`; the socket is the server's, which closes it when the endpoint ends."""
        self.closed = True
        self._task.cancel()

    async def receive(self) -> Message:
        """What the server received; a disconnect as soon as nothing can be sent any more."""
        reading = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait({reading, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL_CLOSURE}
            message = reading.result()
        finally:
            reading.cancel()
        if message["type"] == "websocket.disconnect":
            self.abort()
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
    """The wire of an accepted WebSocket. The endpoint reads from its `receive` and awaits its `stop` at the end."""
    offered = scope.get("extensions", {}).get(EXTENSION)
    if not isinstance(offered, SocketWire):
        return AsgiWire(receive, send)
    offered.receive = receive
    return offered
