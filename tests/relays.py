"""Relays for the tests: one inside the test's own process, and one as a process that can be killed and frozen."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from relay.server import Relay
from relay.settings import Settings
from tests.cluster import free_port
from tests.nursery import Forked, Nursery
from tests.waiting import until


class Reachable:
    """A relay's addresses."""

    host = "127.0.0.1"
    port: int

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}/ws"

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], Any]:
        """GET a path: status, headers in lower case, and the body (parsed where it is JSON)."""
        status, found, text = await self.ask("GET", path, headers)
        return status, found, json.loads(text) if "json" in found.get("content-type", "") and text else text

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Send a request: status, headers in lower case, and the body as it stands."""
        return await asyncio.to_thread(self._ask, method, path, headers or {})

    async def health(self) -> dict[str, Any]:
        body: dict[str, Any] = (await self.get("/health"))[2]
        return body

    async def ready(self) -> bool:
        try:
            return (await self.get("/health/ready"))[0] == 200
        except OSError:
            return False

    @property
    def refuses(self) -> bool:
        """Whether nothing listens on its port."""
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) != 0

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        request = urllib.request.Request(f"http://{self.host}:{self.port}{path}", headers=headers, method=method)
        try:
            response = urllib.request.urlopen(request, timeout=10)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            body = response.read().decode()
            return response.status or 0, {k.lower(): v for k, v in response.headers.items()}, body


def connects_as(conninfo: str) -> str:
    """How the relays of this process connect where a test gives a database: as it does, unless it is replaced."""
    return conninfo


class LocalRelay(Reachable):
    """A relay in this process; `relay` are its parts."""

    def __init__(self, relay: Relay, task: asyncio.Task[None]) -> None:
        self.relay = relay
        self.task = task
        self.port = 0


@asynccontextmanager
async def local_relay(conninfo: str, *, wait_ready: bool = True, **settings: Any) -> AsyncIterator[LocalRelay]:
    """A relay on a database, in this process; `settings` are fields of Settings. It is drained at the end."""
    conninfo = connects_as(conninfo)
    base = Settings(conninfo=conninfo, listen_conninfo=conninfo, database_named=True, port=0, drain_seconds=15.0)
    relay = Relay(dataclasses.replace(base, **settings))
    running = LocalRelay(relay, asyncio.create_task(relay.run()))

    def started(port: int) -> None:
        running.port = port

    relay.on_started = started
    try:
        await until(lambda: running.port or running.task.done(), what="the relay's port")
        if wait_ready:
            await until(running.ready, within=15.0, what="the relay to be ready")
        yield running
    finally:
        relay.stop()
        await running.task


class RelayProcess(Reachable):
    """`relay serve` as a process of its own, in a process group of its own; `before` is a command that executes it."""

    before: tuple[str, ...] = ()
    nursery: ClassVar[Nursery | None] = None  # what forks it instead, where nothing is to be executed

    def __init__(self, conninfo: str | None, *arguments: str, **environment: str) -> None:
        self.port = int(environment.pop("PORT", "") or free_port())
        self._arguments = arguments
        self._environment = {
            "PATH": os.environ["PATH"],
            **({"DATABASE_URL": conninfo} if conninfo else {}),
            "PORT": str(self.port),
            **environment,
        }
        self._log = tempfile.NamedTemporaryFile(prefix="relay-log-", suffix=".txt")  # noqa: SIM115 - see close
        self.process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text()

    async def start(self, *, wait_ready: bool = True) -> None:
        self._spawn()
        if wait_ready:
            await until(self.ready, within=20.0, what="the relay process to be ready")

    def _spawn(self) -> None:
        command = [*self.before, sys.executable, "-m", "relay", "serve", *self._arguments]
        with Path(self._log.name).open("ab") as log:
            is_plain = not self.before and not self._arguments and "PYTHONPATH" not in self._environment
            if self.nursery is not None and is_plain:
                self.process = self.nursery.relay(self._environment, log)
            else:
                self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, process_group=0)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def pid(self) -> int:
        """Its process id, and its process group's."""
        assert self.process is not None
        return self.process.pid

    async def ended(self, within: float = 30.0) -> int:
        """Its exit status, when it has ended."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, within=within, what="the end of the relay process")
        assert process.returncode is not None
        return process.returncode

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                await self.ended()
            finally:
                self.process.kill()


@asynccontextmanager
async def relay_process(
    conninfo: str | None, *arguments: str, wait_ready: bool = True, **environment: str
) -> AsyncIterator[RelayProcess]:
    """A relay process on a database; `environment` are settings. It is stopped at the end, whatever became of it."""
    async with running(RelayProcess(conninfo, *arguments, **environment), wait_ready=wait_ready) as process:
        yield process


@asynccontextmanager
async def running(process: RelayProcess, *, wait_ready: bool = True) -> AsyncIterator[RelayProcess]:
    """The same for one that is made already."""
    try:
        await process.start(wait_ready=wait_ready)
        yield process
    finally:
        await process.stop()
        process.close()


@asynccontextmanager
async def clean_relay(conninfo: str, caplog: pytest.LogCaptureFixture, **settings: Any) -> AsyncIterator[LocalRelay]:
    """A local relay of which, once its terminals have left, no session, no task and no error in the log may be left."""
    async with local_relay(conninfo, **settings) as running:
        at_rest = _task_names()
        yield running
        hub = running.relay.hub
        await until(lambda: not running.relay.connections.open, what="the end of every connection")
        assert not list(hub.sessions), "sessions are left in their rooms"
        await until(lambda: _task_names() <= at_rest, what=f"no tasks but {at_rest}; last: {_task_names()}")
    gc.collect()  # what nobody retrieved is logged now
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []


def _task_names() -> Counter[str]:
    return Counter(re.sub(r"\d+", "N", task.get_name()) for task in asyncio.all_tasks())
