"""A PostgreSQL for the tests: thrown away afterwards, and made to be killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from relay.embedded import Cluster
from tests.waiting import wait_until

VERSION = os.environ.get("PG", "18")
BIN_DIR = None if VERSION == "18" else Path("/usr/lib/postgresql", VERSION, "bin")
# Below the range from which the system picks ports by itself, so that nobody takes it while a test restarts PostgreSQL.
PORTS = range(20_000, 32_768)
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 * 1024**3  # that must be free there; a full suite takes a tenth of it


class TestCluster(Cluster):
    """A cluster that also listens on TCP, for proxies, and that can be killed."""

    __test__ = False

    def tcp(self, dbname: str) -> str:
        """The connection string over 127.0.0.1; its `port` is `self.port`."""
        return make_conninfo(self.conninfo(dbname), host="127.0.0.1")

    def say(self, statement: LiteralString, *parameters: object) -> Any:
        """Run a statement outside every database of ours, by itself; the first column of its first row."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    def kill(self) -> None:
        """SIGKILL the postmaster, as the kernel does when memory is short, and see its children go."""
        pid = self.postmaster_pid
        assert pid, "PostgreSQL is not running"
        os.kill(pid, signal.SIGSTOP)  # from here on it has no more children
        family = [pid, *children_of(pid)]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, family)), within=20.0, what="the end of PostgreSQL's processes")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes are stopped meanwhile (SIGSTOP): the connections are there, and nothing comes back."""
        pid = self.postmaster_pid
        assert pid, "PostgreSQL is not running"
        os.kill(pid, signal.SIGSTOP)  # from here on it has no more children
        family = [pid, *children_of(pid)]
        for each in family:
            os.kill(each, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in family:
                with suppress(ProcessLookupError):  # who was hung up on ends as soon as it goes on
                    os.kill(each, signal.SIGCONT)

    def restart(self) -> None:
        """Stop PostgreSQL, if it was not killed before, and start it on the same data, port and socket."""
        self.stop()
        self.start()


@contextmanager
def running_cluster(**options: str) -> Iterator[TestCluster]:
    """A new cluster in a folder with a short name, gone afterwards."""
    folder = cluster_folder()
    settings = {"fsync": "off", "max_connections": "200", "max_wal_size": "128MB", **options}
    cluster = TestCluster(folder, bin_dir=BIN_DIR, port=free_port(), options=settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def cluster_folder() -> Path:
    """A new folder with a short name: in memory where there is room, for a database is 300 files to make and remove."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    return Path(tempfile.mkdtemp(prefix="relay-test-", dir=MEMORY if roomy else None))


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def children_of(pid: int) -> list[int]:
    """The child processes of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
