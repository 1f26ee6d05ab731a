"""A browser with the app open: its socket, its queue, its retries."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import TracebackType
from typing import Self

import websockets

from tests.waiting import slow_down
from tests.webapp.acts import Person
from tests.webapp.page import HOOKS
from tests.webapp.storage import TABLES, USERS, Clock, Row, Storage

RETRY_SECONDS = (1, 3, 7, 15, 31)  # after the loss; then never again
SETTINGS_SECONDS = 1
ORIGIN = "http://localhost:5173"


class Browser(Person):
    """One browser. `pace` is how long the app's second takes here, in seconds."""

    def __init__(
        self,
        url: str,
        *,
        storage: Storage | None = None,
        clock: Clock | None = None,
        client_id: str | None = None,
        pace: float = 0.1,
    ) -> None:
        super().__init__(storage or Storage(), clock or Clock(), client_id)
        self.url = url
        self.pace = pace
        self.gave_up = False
        self.in_reach = True  # of any relay; while not, every try fails
        self.tries: list[float] = []  # seconds of the app, after the loss
        self.asked = 0  # SYNC_REQUESTs that went out on this socket
        self._syncs_before = 0
        self.queue: list[Row] = []  # what could not be said
        self.said: list[Row] = []  # what went out, in order
        self._outbox: asyncio.Queue[Row | None] = asyncio.Queue()  # None: drop the socket
        self._socket: websockets.ClientConnection | None = None
        self._life: asyncio.Task[None] | None = None
        self._in_settings = False

    # The page

    def open(self) -> Self:
        """Load the page. A fresh browser announces the three users that the app is built with."""
        self._ask_to_sync()
        if self.storage.is_empty:
            self.storage.write(USERS, self.users)
            for user in self.users:
                self.say("UPDATE_USERS", {"action": "add", "data": user})
        self._life = asyncio.create_task(self._live())
        return self

    async def close(self) -> None:
        """Close the page. What it shows stays in localStorage."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
            if not self._life.cancelled():
                self._life.result()

    async def reload(self) -> Browser:
        """Press F5: another page on the same localStorage, under the same name."""
        await self.close()
        options = {"storage": self.storage, "clock": self.clock, "client_id": self.client_id}
        return Browser(self.url, **options, pace=self.pace).open()  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Being away

    def lose_network(self) -> None:
        """The Wi-Fi is gone: the socket ends without a word, and no try succeeds."""
        self.in_reach = False
        if self._socket is not None:
            self._socket.transport.abort()
        self._socket = None

    def find_network(self) -> None:
        """The Wi-Fi is back; the app notices at its next try."""
        self.in_reach = True

    def close_settings(self) -> None:
        """Leave the Settings page: the app drops its socket, and makes another a second later."""
        assert self.connected, "it has no socket to drop"
        self._socket, self._in_settings = None, True
        self._outbox.put_nowait(None)

    # Speaking

    @property
    def connected(self) -> bool:
        return self._socket is not None and self._socket.state is websockets.State.OPEN

    def say(self, type_: str, data: Row) -> None:
        message = {"type": type_, "data": data, "timestamp": self.clock.now(), "clientId": self.client_id}
        if self.connected:
            self._outbox.put_nowait(message)
        else:
            self.queue.append(message)
            if type_ != "SYNC_REQUEST":
                self._ask_to_sync()

    @property
    def unanswered(self) -> int:
        """How many of its SYNC_REQUESTs are still to be answered, at least."""
        return max(0, self.asked - self.syncs(TABLES) + self._syncs_before)

    def beat(self) -> None:
        """What the app sends from time to time."""
        self.say("HEARTBEAT", {"ping": True})

    def _ask_to_sync(self) -> None:
        self.say("SYNC_REQUEST", {})

    # Its life

    async def _live(self) -> None:
        tried = 0
        while True:
            if self.in_reach:
                with suppress(OSError, websockets.InvalidHandshake, websockets.ConnectionClosed, EOFError):
                    origin = websockets.Origin(ORIGIN)
                    async with websockets.connect(self.url, origin=origin, max_size=None, proxy=None) as socket:
                        tried, self.tries = 0, []
                        await self._talk(socket)
            self._socket = None
            if self._in_settings:
                self._in_settings = False
                await slow_down(SETTINGS_SECONDS * self.pace)
                continue
            if tried == len(RETRY_SECONDS):
                self.gave_up = True
                return
            last = RETRY_SECONDS[tried - 1] if tried else 0
            await slow_down((RETRY_SECONDS[tried] - last) * self.pace)
            self.tries.append(RETRY_SECONDS[tried])
            tried += 1
            self._ask_to_sync()

    async def _talk(self, socket: websockets.ClientConnection) -> None:
        self._socket, self._outbox = socket, asyncio.Queue()
        self.asked, self._syncs_before = 0, self.syncs(TABLES)
        self.say("CLIENT_CONNECTED", {"clientId": self.client_id})
        self._ask_to_sync()
        for message in self.queue:
            self._outbox.put_nowait(message)
        self.queue = []
        for _ in range(HOOKS - 1):
            self._ask_to_sync()
        speaking = asyncio.create_task(self._speak(socket, self._outbox))
        try:
            async for text in socket:
                for answer in self.hear(text):
                    self.say(answer["type"], answer["data"])
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])

    async def _speak(self, socket: websockets.ClientConnection, outbox: asyncio.Queue[Row | None]) -> None:
        with suppress(websockets.ConnectionClosed):
            while (message := await outbox.get()) is not None:
                await socket.send(json.dumps(message, ensure_ascii=False))
                self.said.append(message)
                self.asked += message["type"] == "SYNC_REQUEST"
            await socket.close()
