"""A terminal for programs: it keeps a restaurant's state current, and does what it is asked to, come what may.

    async with Terminal("ws://127.0.0.1:8080/ws", store=SqliteStore("terminal.db")) as terminal:
        terminal.on("view", lambda _: print(len(terminal.tables)))
        mutation = await terminal.table("update", {"id": "4", "status": "occupied"})
        await terminal.answered(mutation)

docs/terminals.md has all of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import websockets
from websockets.exceptions import InvalidHandshake, InvalidURI

from .conversation import Conversation, Status, Timing, with_restaurant
from .handshakes import LOST, close_of
from .outbox import Mutation
from .replica import Batch, Row, State
from .stores import MemoryStore, SqliteStore, Store

__all__ = ["MemoryStore", "Mutation", "SqliteStore", "State", "Status", "Store", "Terminal", "Timing"]

log = logging.getLogger("relay.terminal")

OPEN_SECONDS = 10.0  # for a handshake
GOODBYE_SECONDS = 2.0
STORE_SECONDS = 1.0  # between two attempts to write to a store that fails

Listener = Callable[[Any], object]


class Terminal:
    """One terminal. `start` it, or enter it; what it shows and has to send outlives it in its store.

    `url` leads to a relay's /ws; `restaurant` is a slug, `name` is for people, `token` is what the relay wants to see.
    `start` raises sqlite3.Error where the store cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        restaurant: str | None = None,
        name: str = "",
        token: str = "",
        store: Store | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.url = with_restaurant(url, restaurant)
        self._hello = {"name": name, "token": token}
        self._timing = timing
        self._store = store or MemoryStore()
        self._disk = ThreadPoolExecutor(1, "terminal-store")
        self._talk = Conversation({}, timing=timing)
        self._listeners: dict[str, list[Listener]] = {}
        self._waiting: dict[str, asyncio.Future[Mutation]] = {}
        self._wake = asyncio.Event()
        self._saved = asyncio.Event()  # set and replaced whenever a batch is on the disk
        self._saving: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._loaded = False
        self._store_at = 0.0  # after a failure of the store, when what nobody waits for is tried again

    # Life

    async def start(self) -> None:
        """Load what is stored and connect, again and again; after `refused` or `stop`, try anew."""
        async with self._starting:
            if self._running is not None and not self._running.done():
                return
            if not self._loaded:
                saved = await self._on_disk(self._store.load)
                self._talk = Conversation(saved, timing=self._timing, **self._hello)
                self._loaded = True
            self._running = asyncio.create_task(self._run(), name="terminal")
            self._settle()

    async def stop(self) -> None:
        """Say goodbye and save. What is pending stays in the store."""
        async with self._starting:
            if self._running is not None:
                self._running.cancel()
                await asyncio.wait([self._running])
        self._talk.stopped()
        self._settle()
        while self._saving is not None:
            await asyncio.wait([self._saving])

    async def close(self) -> None:
        """Stop, and let go of the store."""
        await self.stop()
        await self._on_disk(self._store.close)
        self._disk.shutdown()
        for waiting in self._waiting.values():
            waiting.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # What it shows

    @property
    def status(self) -> Status:
        """How it stands: connecting, catching-up, live, offline or refused, with why, and what to do."""
        return self._talk.status

    @property
    def client_id(self) -> str:
        """Its name on the wire, made once and kept."""
        return self._talk.client_id

    @property
    def role(self) -> str | None:
        """The role that the relay has told last, also before a restart; None: none, and it may ask for everything."""
        return self._talk.role

    @property
    def epoch(self) -> str | None:
        """The history that it holds; None before the first snapshot."""
        return self._talk.replica.epoch

    @property
    def revision(self) -> int:
        """The revision that it holds; -1 before the first snapshot."""
        return self._talk.replica.revision

    @property
    def head(self) -> int:
        """The newest revision that it has heard of."""
        return self._talk.head

    @property
    def view(self) -> State:
        """What it shows: the state with what is pending done to it. Not to be changed in place."""
        return self._talk.view

    @property
    def confirmed(self) -> State:
        """The state at `revision`, without what is pending. Not to be changed in place."""
        return self._talk.replica.state

    @property
    def tables(self) -> dict[str, Row]:
        """The tables it shows, by id."""
        return self.view.tables

    @property
    def menu(self) -> dict[str, Row]:
        """The dishes it shows, by id."""
        return self.view.menuItems

    @property
    def orders(self) -> dict[str, Row]:
        """The orders it shows, by id, the last changed at the end."""
        return self.view.orderHistory

    @property
    def pending(self) -> list[Mutation]:
        """What was asked for and has no answer yet, in order."""
        return self._talk.outbox.pending

    @property
    def refused(self) -> list[Mutation]:
        """What was refused and not dismissed yet, also from before a restart."""
        return list(self._talk.outbox.refused)

    def on(self, what: str, listener: Listener) -> Callable[[], None]:
        """Have a function called; returns one that ends this.

        `view` (None): what it shows is another. `state` (Status). `role` (the new one). `change` (the message).
        `snapshot` (the reason). `acknowledged` and `refused` (Mutation). `message` (a MESSAGE). `fault` (text): what
        no relay should do.
        """
        found = self._listeners.setdefault(what, [])
        found.append(listener)
        return lambda: found.remove(listener)

    # What it is asked to do

    async def change(
        self, type_: str, data: Row, *, if_version: int | None = None, after: Sequence[Mutation] = ()
    ) -> Mutation:
        """Ask for a change. It returns when the mutation is safe on the disk; it is shown at once, and sent in order.

        Should one of those it comes `after` be refused, it is not sent but refused too, as NOT_SENT.

        Raises TypeError or ValueError for what cannot be JSON, OSError where it could not be stored.
        """
        if not self._loaded:
            raise RuntimeError("start the terminal first")
        now_ms = time.time_ns() // 1_000_000
        outbox = self._talk.outbox
        mutation = outbox.want(self.client_id, type_, data, now_ms=now_ms, if_version=if_version, after=after)
        self._settle()
        while not mutation.stored:
            if mutation not in outbox.mutations and mutation not in outbox.refused:
                raise OSError("the mutation could not be stored")
            await self._saved.wait()
        return mutation

    async def table(self, action: str, row: Row, **options: Any) -> Mutation:
        """Ask for an UPDATE_TABLE; `options` are those of `change`."""
        return await self.change("UPDATE_TABLE", {"action": action, "data": row}, **options)

    async def dish(self, action: str, row: Row, **options: Any) -> Mutation:
        """Ask for an UPDATE_MENU; `options` are those of `change`."""
        return await self.change("UPDATE_MENU", {"action": action, "data": row}, **options)

    async def order(self, action: str, row: Row | None = None, **options: Any) -> Mutation:
        """Ask for an UPDATE_ORDER; `options` are those of `change`."""
        return await self.change("UPDATE_ORDER", {"action": action, "data": row or {}}, **options)

    async def settings(self, settings: Row) -> Mutation:
        """Ask for an UPDATE_SETTINGS."""
        return await self.change("UPDATE_SETTINGS", settings)

    async def next_order_id(self) -> str:
        """An order id that nobody else gets; it waits until the relay can be asked.

        Raises PermissionError where this terminal may not ask for one.
        """
        mutation = await self.answered(await self.change("NEXT_ORDER_ID", {}))
        if mutation.answer is None:
            self.dismiss(mutation)
            raise PermissionError(mutation.error and mutation.error["message"])
        return str(mutation.answer["orderId"])

    async def answered(self, mutation: Mutation) -> Mutation:
        """Wait until a mutation is acknowledged or refused; its `state` says which."""
        if mutation.state == "pending":
            waiting = self._waiting.setdefault(mutation.id, asyncio.get_running_loop().create_future())
            await asyncio.shield(waiting)
        return mutation

    def dismiss(self, mutation: Mutation) -> None:
        """Forget a mutation that was refused."""
        self._talk.outbox.dismiss(mutation)
        self._settle()

    def say(self, data: Row) -> bool:
        """Send a MESSAGE to the other terminals, or with `to` to one; False where it is not connected."""
        return self._talk.say(data) and self._settle()

    # Connecting

    async def _run(self) -> None:
        loop, talk = asyncio.get_running_loop(), self._talk
        while True:
            talk.connecting()
            self._settle()
            try:
                code, reason = await self._connect()
            except (OSError, InvalidHandshake, InvalidURI) as error:
                code, reason = close_of(error)
            except Exception as error:  # a terminal that is gone must not look as it did before
                log.exception("the connection failed")
                code, reason = LOST, repr(error)
            talk.closed(loop.time(), code, reason)
            self._settle()
            if talk.status.retry_at is None:
                return
            await asyncio.sleep(talk.status.retry_at - loop.time())

    async def _connect(self) -> tuple[int, str]:
        """Converse over one connection; the code and reason of its end."""
        socket = await websockets.connect(
            self.url, open_timeout=OPEN_SECONDS, close_timeout=GOODBYE_SECONDS, max_size=None,
            compression=None, ping_interval=None,
        )  # fmt: skip
        reader = asyncio.create_task(self._listen(socket), name="terminal-reader")
        try:
            self._talk.opened(asyncio.get_running_loop().time())
            self._settle()
            await self._speak(socket, reader)
            if self._talk.hang_up:
                return LOST, self._talk.hang_up
            return await reader or (socket.close_code or LOST, socket.close_reason or "")
        except asyncio.CancelledError:
            with suppress(websockets.ConnectionClosed):
                await socket.close()
            raise
        finally:
            # What does not answer gets no goodbye: a close would wait for it.
            socket.transport.abort()
            reader.cancel()
            await asyncio.wait([reader])

    async def _listen(self, socket: websockets.ClientConnection) -> tuple[int, str] | None:
        loop = asyncio.get_running_loop()
        try:
            async for text in socket:
                self._talk.hear(text, loop.time())
                self._settle()
        except websockets.ConnectionClosedError:
            pass
        except Exception as error:  # whatever it was: with this task the terminal would end, and nobody would know
            log.warning("the relay said what this terminal does not understand", exc_info=True)
            return LOST, f"the relay said what this terminal does not understand: {error!r}"
        return None

    async def _speak(self, socket: websockets.ClientConnection, reader: asyncio.Task[Any]) -> None:
        """Send what is to be sent and do what is due, until the connection ends or is to be hung up."""
        loop, talk = asyncio.get_running_loop(), self._talk
        reader.add_done_callback(lambda _: self._wake.set())
        with suppress(websockets.ConnectionClosed):  # the reader ends too
            while not reader.done() and not talk.hang_up:
                self._wake.clear()
                talk.tick(loop.time())
                self._settle(wake=False)
                while talk.out:
                    try:
                        async with asyncio.timeout(talk.timing.send):
                            await socket.send(talk.out.pop(0))
                    except TimeoutError:
                        talk.hang_up = "the relay does not read"
                        return
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(talk.deadline):
                        await self._wake.wait()

    def _settle(self, *, wake: bool = True) -> bool:
        """Pass on what the conversation tells, and have saved what it has to save."""
        if wake:
            self._wake.set()
        talk = self._talk
        while talk.told:
            what, detail = talk.told.pop(0)
            if what in ("acknowledged", "refused") and (waiting := self._waiting.pop(detail.id, None)):
                waiting.set_result(detail)
            for listener in [*self._listeners.get(what, ())]:
                try:
                    listener(detail)
                except Exception:
                    log.exception("a listener failed")
        unsaved, now = talk.replica.unsaved, asyncio.get_running_loop().time()
        if unsaved and self._saving is None and self._loaded and (unsaved.urgent or now >= self._store_at):
            self._store_at = 0.0
            self._saving = asyncio.create_task(self._save(), name="terminal-saver")
        return True

    # The store

    async def _save(self) -> None:
        """Write all that gathers, one batch after the other."""
        try:
            while (batch := self._talk.replica.unsaved) and (batch.urgent or self._store_at <= 0.0):
                self._talk.replica.unsaved = Batch()
                wanted = [*self._talk.outbox.mutations, *self._talk.outbox.refused]
                stored = [one for one in wanted if not one.stored and one.key in batch.values]
                try:
                    await self._on_disk(self._store.write, batch)
                except Exception:
                    log.exception("the store failed")
                    self._store_at = asyncio.get_running_loop().time() + STORE_SECONDS
                    for one in stored:
                        del batch.values[one.key]
                        self._talk.outbox.unwant(one)
                    self._talk.replica.save_later(batch)
                else:
                    self._store_at = 0.0
                    for one in stored:
                        one.stored = True
                saved, self._saved = self._saved, asyncio.Event()
                saved.set()
                self._settle()
        finally:
            self._saving = None

    async def _on_disk(self, work: Callable[..., Any], *arguments: Any) -> Any:
        # One thread, so the batches stay in order.
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)
