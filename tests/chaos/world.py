"""What is broken in a run: PostgreSQL, three relays, and a real nginx in front of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from relay import schema
from tests.cluster import TestCluster, children_of, free_port, running_cluster
from tests.relays import RelayProcess, relay_process
from tests.waiting import until, wait_until

RELAYS = 3
NO_NGINX = "nginx is not installed (apt-get install nginx)"
# Where it may be missing, that is said; CI has it.
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None and os.environ.get("CI") != "true", reason=NO_NGINX)
DATABASE = "chaos"
CONFIGURATION = """
daemon off;
worker_processes 2;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream relays {{
        least_conn;
        {servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://relays;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $host;
            proxy_connect_timeout 2s;
            proxy_read_timeout 75s;
        }}
    }}
}}
"""


class Nginx:
    """nginx in front of relays; `url` is where terminals connect."""

    def __init__(self, ports: list[int]) -> None:
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self._folder = Path(tempfile.mkdtemp(prefix="relay-nginx-"))
        # max_fails=0: after one failure nginx would try a relay with one request in `fail_timeout`, and count it live
        # again when that request has ended. A WebSocket does not end: a hundred terminals waited half a minute.
        servers = "\n        ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        configuration = self._folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=self._folder, servers=servers, port=self.port))
        self._process = subprocess.Popen(["nginx", "-p", self._folder, "-c", configuration], process_group=0)
        wait_until(lambda: len(self.workers) == 2, what="nginx's workers")

    @property
    def workers(self) -> list[int]:
        return children_of(self._process.pid)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=10)
        shutil.rmtree(self._folder)


@dataclass
class World:
    """All of it, running."""

    cluster: TestCluster
    relays: list[RelayProcess]
    nginx: Nginx

    @property
    def conninfo(self) -> str:
        return self.cluster.conninfo(DATABASE)

    def slugs(self) -> list[str]:
        with psycopg.connect(self.conninfo) as connection:
            rows = connection.execute("select slug from pos.restaurants order by restaurant_id").fetchall()
        return [slug for (slug,) in rows]

    def backends(self) -> list[int]:
        """The processes that serve connections of the relays."""
        with psycopg.connect(self.conninfo) as connection:
            rows = connection.execute(
                "select pid from pg_stat_activity where application_name like 'relay %' order by pid"
            ).fetchall()
        return [pid for (pid,) in rows]


@asynccontextmanager
async def world(restaurants: int) -> AsyncIterator[World]:
    """Everything started, with so many restaurants; PostgreSQL flushes as it does in earnest."""
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(running_cluster(fsync="on"))
        cluster.create_database(DATABASE)
        conninfo = cluster.conninfo(DATABASE)
        await schema.apply(conninfo)
        with psycopg.connect(conninfo) as connection:
            connection.execute(
                "insert into pos.restaurants (slug, name) select 'r' || n, 'R' from generate_series(2, %s) as n",
                (restaurants,),
            )
        relays = [await stack.enter_async_context(relay_process(conninfo)) for _ in range(RELAYS)]
        nginx = Nginx([relay.port for relay in relays])
        stack.callback(nginx.stop)
        yield World(cluster, relays, nginx)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pids: list[int]) -> None:
    """Wait until these processes are no more."""
    await until(lambda: not any(map(is_alive, pids)), within=20.0, what="the end of what was killed")


async def accepts(cluster: TestCluster) -> None:
    """Wait until PostgreSQL accepts connections."""
    await until(lambda: asyncio.to_thread(cluster.is_running), within=30.0, what="PostgreSQL")
