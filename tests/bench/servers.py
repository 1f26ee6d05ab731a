"""The relay and what it is measured against, each a process (with its children) on a port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import processes
from tests.bench.crowd import SYNC
from tests.bench.programs import build
from tests.cluster import free_port
from tests.waiting import wait_until

RELAY, EACH, JOINED, PLAIN, SEND_TEXT = (
    "relay",
    "C, a send each",
    "C, joined sends",
    "asyncio loop",
    "Starlette send_text",
)
START_SECONDS = 30.0
STOP_SECONDS = 30.0
# The load of a bench comes from few terminals, and ten thousand of them from one restaurant.
LIFTED = {
    f"RELAY_{limit}": "0"
    for limit in (
        "HANDSHAKES",
        "CONNECTIONS",
        "RESTAURANT_CONNECTIONS",
        "TERMINAL_CONNECTIONS",
        "TERMINAL_MESSAGES",
        "TERMINAL_BYTES",
        "RESTAURANT_MESSAGES",
        "RESTAURANT_BYTES",
    )
}


class Beside(NamedTuple):
    """Servers on one database."""

    conninfo: str
    servers: list[Server]

    def without(self, *names: str) -> list[Server]:
        """Those that are not named so."""
        return [server for server in self.servers if server.name not in names]


class Server:
    """A server that runs."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        port: int,
        ready: Callable[[], bool],
        *,
        is_relay: bool = False,
    ) -> None:
        self.name = name
        self.pid = process.pid
        self.port = port
        self.is_relay = is_relay
        self.channel = channel(name)
        self._ready = ready
        self.socket_io = name.startswith("Socket.IO")

    @property
    def first(self) -> tuple[tuple[str, int], ...]:
        """What a terminal says first to it, and how many texts it waits for."""
        return ((SYNC, 1),) if self.is_relay else ()

    @property
    def path(self) -> str:
        """Where its WebSocket is."""
        return "/socket.io/?EIO=4&transport=websocket" if self.socket_io else "/ws"

    @property
    def options(self) -> tuple[str, ...]:
        """What wsload must know of it."""
        return ("-s",) if self.socket_io else ()

    def wait(self) -> None:
        """Wait until it serves; RuntimeError with its log where it ends instead."""
        wait_until(self._ready, within=START_SECONDS, what=f"{self.name} to start")

    def cpu_seconds(self) -> float:
        """What it has used so far, with its children."""
        return processes.cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """The memory it holds."""
        return processes.resident_bytes(self.pid)


@contextmanager
def process_of(
    name: str,
    command: Sequence[str | Path],
    port: int,
    environment: Mapping[str, str] | None = None,
    *,
    is_relay: bool = False,
) -> Iterator[Server]:
    """A server that is started, and stopped at the end; whoever wants to use it waits first."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(environment or {})}
    with tempfile.NamedTemporaryFile(prefix="bench-log-") as log:
        process = subprocess.Popen(command, env=surroundings, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:

            def ready() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with status {process.returncode}")
                return _is_ready(port) if is_relay else _is_open(port)

            yield Server(name, process, port, ready, is_relay=is_relay)
        except Exception as error:
            if said := Path(log.name).read_text()[-2000:]:
                error.add_note(f"{name}{'' if process.poll() is None else ' has ended, and'} said: {said}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def channel(name: str) -> str:
    """What a reference listens to, so that it hears its own changes only."""
    return f"bench {name}"


def together(stack: ExitStack, *starting: AbstractContextManager[Server]) -> list[Server]:
    """Servers that start at the same time, all ready; they are stopped when `stack` ends."""
    found = [stack.enter_context(one) for one in starting]
    for one in found:
        one.wait()
    return found


@contextmanager
def relay(conninfo: str, name: str = RELAY, **settings: str) -> Iterator[Server]:
    """`relay serve` on a database, with LIFTED limits."""
    port = free_port()
    environment = {"DATABASE_URL": conninfo, "PORT": str(port), "LOG_LEVEL": "warning", **LIFTED, **settings}
    with process_of(name, [sys.executable, "-m", "relay", "serve"], port, environment, is_relay=True) as server:
        yield server


@contextmanager
def c(conninfo: str, *, joined: bool = False) -> Iterator[Server]:
    """The C reference. Raises NotBuilt."""
    port = free_port()
    name = JOINED if joined else EACH
    with process_of(
        name, [build("fanout"), str(port), conninfo, channel(name), *(["joined"] * joined)], port
    ) as server:
        yield server


@contextmanager
def plain(conninfo: str, name: str = PLAIN, restaurant_id: int = 0) -> Iterator[Server]:
    """The asyncio loop; of a restaurant it writes log and ledger too."""
    with _reference("plain", name, conninfo, *([str(restaurant_id)] * bool(restaurant_id))) as server:
        yield server


@contextmanager
def send_text(conninfo: str) -> Iterator[Server]:
    """The Starlette endpoint."""
    with _reference("send_text", SEND_TEXT, conninfo) as server:
        yield server


@contextmanager
def _reference(module: str, name: str, conninfo: str, *more: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", f"tests.bench.references.{module}", str(port), conninfo, channel(name), *more]
    with process_of(name, command, port) as server:
        yield server
