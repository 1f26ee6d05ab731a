"""The process's life: start the parts beside uvicorn, drain, and stop all when one of them ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import uvicorn
import uvloop

from . import schema, systemd
from .admission import ANYBODY
from .app import build
from .appdata import AppData
from .board import Board
from .boards import Boards
from .checksums import Checksums
from .connections import Connections
from .database import Database
from .errors import DatabaseUnavailable, RelayError, SettingsError
from .gate import Gate
from .health import Health
from .hub import Hub
from .listener import Listener
from .logs import fields
from .presence import Presence
from .reader import Reader
from .settings import Settings
from .standby import Reads
from .syncer import Syncer
from .upgrade import Sockets
from .upkeep import Upkeep
from .ways import Ways
from .webapp import WebApp
from .writer import Writer

if TYPE_CHECKING:
    from .tracing import Tracing

log = logging.getLogger("relay.server")

SCHEMA_DELAY = 1.0  # seconds between looks for a database that is not there yet
CLOSE_SECONDS = 1.0  # for uvicorn's own end, after the drain
LAST_SECONDS = 1.0  # of a drain, for the transactions that are under way (RELAY_STATEMENT_MS bounds one)


class Server(uvicorn.Server):
    """uvicorn, which says goodbye to every terminal before it closes the sockets."""

    def __init__(self, config: uvicorn.Config, relay: Relay) -> None:
        super().__init__(config)
        self._relay = relay

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then say so. Raises RelayError when it cannot be opened."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise RelayError(
                f"port {self.config.port} of {self.config.host} cannot be opened, the log says why; set PORT or HOST"
            ) from None
        if self.started:
            self._relay.presence.port = self.servers[0].sockets[0].getsockname()[1]
            self._relay.say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave in order: refuse, deliver, say why, close. uvicorn itself would begin with a bare 1012 to all."""
        for server in self.servers:
            server.close()
        await self._relay.drain()
        await super().shutdown(sockets)


class Relay:
    """All parts of one instance.

    `on_started` is called with the port once it is open, and the database is not refused for its schema.
    """

    def __init__(self, settings: Settings, on_started: Callable[[int], None] = lambda _port: None) -> None:
        self.settings = settings
        self.on_started = on_started
        self.database = Database(settings)
        self.hub = Hub(settings.window_changes, settings.window_bytes)
        self.instance_id = secrets.token_hex(8)
        self._may_start = False  # the schema is the right one, or the database is waited for
        self.tracing = _tracing(settings, self.database, self.instance_id)
        self.ways = Ways()
        self.reader = Reader(self.database, self.hub, self.ways, self.tracing)
        self.listener = Listener(self.database, self.hub, settings, self.reader)
        self.writer = Writer(self.database, settings, self.reader, self.ways, self.tracing)
        self.reads = Reads(self.database, settings)
        self.syncer = Syncer(self.database, self.reads, self.hub, settings, self.reader.ring)
        self.checksums = Checksums(self.database, settings, self.reader.ring)
        self.webapp = WebApp(AppData(self.database), self.hub, settings)
        self.gate = Gate(self.database, self.hub, settings) if settings.auth != "off" else None
        self.connections = Connections(
            self.database,
            self.hub,
            self.writer,
            self.syncer,
            self.checksums,
            settings,
            self.gate,
            self.webapp.profile_of,
        )
        self.health = Health(self.connections, self.listener, self.reads)
        self.upkeep = Upkeep(self.database, self.hub, settings)
        board = Board(self.connections, self.listener, self.health, self.ways)
        self.presence = Presence(self.database, self.connections, board, self.instance_id)
        self.boards = Boards(self.database, self.presence, board)
        self.listener.on_return = self.connections.pay
        self.listener.on_roll_call = self.presence.ring
        self.sockets = Sockets(settings.max_message_bytes, settings.heartbeat_seconds)
        self._server = Server(self._config(), self)

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            build(self.connections, self.listener, self.health, self.reads, self.boards),
            host=self.settings.host,
            port=self.settings.port,
            loop="uvloop",
            http=cast(Any, self.sockets),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=None,
            server_header=False,
            timeout_graceful_shutdown=int(CLOSE_SECONDS),
            forwarded_allow_ips="*" if self.settings.proxies == ANYBODY else list(self.settings.proxies),
        )

    async def run(self) -> None:
        """Serve until a signal or `stop`, or until a part fails: its error is raised when everything is closed."""
        parts = asyncio.create_task(self._parts(), name="parts")
        # A part that ends must not leave a server behind that looks alive and is deaf.
        parts.add_done_callback(lambda _: self.stop())
        await self.database.open()
        await self.reads.open()
        try:
            await self._server.serve()
        finally:
            parts.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    await parts
            finally:
                await asyncio.gather(self.database.close(), self.reads.close())
                if self.tracing is not None:
                    await self.tracing.close()

    def stop(self) -> None:
        """Drain and end, as after SIGTERM."""
        self._server.should_exit = True

    def say_started(self) -> None:
        """Say that it serves, where the port is open and nothing refuses that."""
        if self._may_start and self.presence.port:
            self.on_started(self.presence.port)
            self.on_started = lambda _port: None

    async def _parts(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(systemd.report(lambda: self.listener.hearing), name="systemd")
            await self._schema()
            tasks.create_task(self.reader.run(), name="reader")
            tasks.create_task(self.listener.run(), name="listener")
            tasks.create_task(self.writer.run(), name="writer")
            tasks.create_task(self.health.run(), name="health")
            tasks.create_task(self.reads.run(), name="standby")
            tasks.create_task(self.webapp.run(), name="web app")
            if self.gate is not None:
                tasks.create_task(self.gate.run(), name="gate")
            tasks.create_task(self.upkeep.run(), name="upkeep")
            tasks.create_task(self.presence.run(), name="presence")
            if self.tracing is not None:
                tasks.create_task(self.tracing.run(), name="tracing")

    async def _schema(self) -> None:
        said = set[tuple[type[DatabaseUnavailable], bool]]()
        while True:
            try:
                await schema.ensure(self.settings.conninfo, upgrade=self.settings.apply_schema)
            except DatabaseUnavailable as error:
                if (kind := (type(error), error.refused)) not in said:
                    how = "does not let the relay in" if error.refused else "is not there yet"
                    log.warning("the database %s; waiting for it", how, extra=fields(error=error))
                said.add(kind)
                self._let_start()
                await asyncio.sleep(SCHEMA_DELAY)
            else:
                self._let_start()
                return

    def _let_start(self) -> None:
        self._may_start = True
        self.say_started()

    async def drain(self) -> None:
        """Close the terminals and finish what was begun, each within half of `drain_seconds`."""
        self.connections.draining = True
        systemd.tell("STOPPING=1")
        half = self.settings.drain_seconds / 2
        # The terminals first: what they sent before they heard of it is still taken.
        try:
            async with asyncio.timeout(half):
                await self.connections.drain()
        except TimeoutError:
            log.warning(
                "terminals are cut off: the drain took too long", extra=fields(terminals=len(self.connections.open))
            )
        last = min(LAST_SECONDS, half / 2)
        try:
            async with asyncio.timeout(half - last):
                await self.writer.drain()
        except TimeoutError:
            log.warning("mutations are refused: the drain took too long", extra=fields(mutations=self.writer.pending))
            # A transaction that is under way may yet be committed: its mutations get the answer that is true.
            with suppress(TimeoutError):
                async with asyncio.timeout(last):
                    await self.writer.hurry()
            self.writer.give_up()


def _tracing(settings: Settings, database: Database, instance_id: str) -> Tracing | None:
    if not settings.tracing:
        return None
    try:
        from .tracing import Tracing
    except ImportError as error:
        raise SettingsError(
            [f"RELAY_TRACING is on and {error.name} is missing; pip install 'minipos-relay[tracing]', or set it off"]
        ) from None
    return Tracing(database, instance_id)


def serve(settings: Settings, on_started: Callable[[int], None] = lambda _port: None) -> None:
    """Run one relay until SIGTERM or SIGINT, and return when all is closed.

    Raises what ended a part: SchemaError, or a fault of ours.
    """
    relay = Relay(settings, on_started)
    # For a signal before uvicorn has its own handlers; and it raises the signal again when it has ended, which then
    # means nothing, and the exit status is 0.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda _number, _frame: relay.stop())
    # What is there by now stays. A full collection, for which all terminals wait, need not go through it: with 2,000 of
    # them it is two thirds of all objects.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(relay.run())
        except BaseExceptionGroup as group:
            # The first cause says it; the rest are the other parts being stopped.
            raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
