"""Three PostgreSQLs under a real Patroni with etcd, in synchronous mode: one leads, and who leads may be killed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.conninfo import make_conninfo

from tests.cluster import children_of, free_port
from tests.waiting import wait_until

PROGRAMS = ("patroni", "etcd")
BIN_DIR = Path("/usr/lib/postgresql/15/bin")
MISSING = "patroni, etcd or PostgreSQL 15 is not installed (apt-get install patroni etcd-server postgresql-15)"
NODES = 3
ADMITTED = ("local all all", "host all all 127.0.0.1/32", "host replication all 127.0.0.1/32")
START_SECONDS = 60.0
# As short as Patroni lets them be: a leader whose Patroni is gone is given up after `ttl` seconds.
TIMES = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3, "primary_start_timeout": 0}


def is_installed() -> bool:
    """Whether there is all that it takes."""
    return all(shutil.which(program) for program in PROGRAMS) and (BIN_DIR / "postgres").exists()


class Node:
    """One PostgreSQL and the Patroni that looks after it."""

    def __init__(self, name: str, folder: Path, etcd_port: int, account: str) -> None:
        self.name = name
        self.port = free_port()
        self._rest_port = free_port()
        self._folder = folder
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = folder / f"{name}.yaml"
        self._configuration.write_text(yaml.safe_dump(self._settings(etcd_port)))

    @property
    def conninfo(self) -> str:
        """Of its postgres database, whether it leads or not."""
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=2)

    @property
    def role(self) -> str:
        """`leader`, `sync_standby` or `replica` as Patroni has it; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._rest_port}/cluster", timeout=2) as answer:
                members: list[dict[str, Any]] = json.load(answer)["members"]
        except OSError:
            return ""
        return next((one["role"] for one in members if one["name"] == self.name and one["state"] == "running"), "")

    def start(self) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["patroni", self._configuration],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", process_group=0,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                user=self._account, group=self._account, extra_groups=[],
            )  # fmt: skip

    def kill(self, *, patroni: bool) -> None:
        """SIGKILL PostgreSQL and all of its processes, and before it the Patroni, as when the machine is gone."""
        if patroni and self._process:
            self._process.kill()
            self._process.wait()
        postmaster = self._postmaster
        assert postmaster, f"{self.name} does not run"
        os.kill(postmaster, signal.SIGSTOP)
        family = [postmaster, *children_of(postmaster)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), what=f"the end of {self.name}")

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()  # it stops its PostgreSQL
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if postmaster := self._postmaster:
            os.kill(postmaster, signal.SIGKILL)

    @property
    def runs(self) -> bool:
        """Whether its Patroni runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()

    @property
    def _postmaster(self) -> int | None:
        try:
            pid = int((self._folder / self.name / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError):
            return None
        return pid if Path(f"/proc/{pid}").exists() else None

    def _settings(self, etcd_port: int) -> dict[str, Any]:
        parameters = {
            "fsync": "on",
            "max_connections": 200,
            "wal_log_hints": "on",
            "unix_socket_directories": str(self._folder),
        }
        return {
            "scope": "minipos",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self._rest_port}",
                "connect_address": f"127.0.0.1:{self._rest_port}",
            },
            "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
            "bootstrap": {
                "dcs": {
                    **TIMES,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "parameters": parameters},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self._folder / self.name),
                "bin_dir": str(BIN_DIR),
                "authentication": {name: {"username": "postgres"} for name in ("superuser", "replication", "rewind")},
                "pg_hba": [f"{who} trust" for who in ADMITTED],
                "parameters": parameters,
            },
        }


class PatroniCluster:
    """The nodes, and where they are found."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def conninfo(self, dbname: str) -> str:
        """The connection string that names all nodes and leads to the one that takes changes."""
        return make_conninfo(
            host=",".join("127.0.0.1" for _ in self.nodes),
            port=",".join(str(node.port) for node in self.nodes),
            user="postgres",
            dbname=dbname,
            target_session_attrs="read-write",
        )

    @property
    def leader(self) -> Node | None:
        """Who takes changes, by its own word."""
        for node in self.nodes:
            try:
                with psycopg.connect(node.conninfo, autocommit=True) as connection:
                    if connection.execute("select pg_is_in_recovery()").fetchone() == (False,):
                        return node
            except psycopg.Error:
                continue
        return None

    @property
    def is_safe(self) -> bool:
        """Whether all nodes run, and another has everything that the leader has acknowledged."""
        roles = sorted(node.role for node in self.nodes)
        return "" not in roles and roles.count("leader") == 1 and "sync_standby" in roles


@contextmanager
def running_patroni() -> Iterator[PatroniCluster]:
    """A cluster of its own, gone afterwards."""
    account = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="relay-patroni-"))
    folder.chmod(0o755)
    shutil.chown(folder, account)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        etcd_port = _start_etcd(stack, folder)
        nodes = [Node(f"node{number}", folder, etcd_port, account) for number in range(1, NODES + 1)]
        cluster = PatroniCluster(nodes)
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        wait_until(lambda: cluster.is_safe, within=START_SECONDS, what="a leader and a synchronous standby")
        yield cluster


def _start_etcd(stack: ExitStack, folder: Path) -> int:
    port, peers = free_port(), f"http://127.0.0.1:{free_port()}"
    clients = f"http://127.0.0.1:{port}"
    with (folder / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "etcd", "--data-dir", folder / "etcd",
                "--listen-client-urls", clients, "--advertise-client-urls", clients,
                "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                "--initial-cluster", f"default={peers}",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
        )  # fmt: skip
    stack.callback(process.wait, 10)
    stack.callback(process.kill)
    return port
