"""What every row stands on: how much is done, a PostgreSQL with databases, and somebody to tell how far it is."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from relay.schema import apply
from tests.bench.servers import Beside
from tests.cluster import BIN_DIR, TestCluster, free_port

TEMPLATE = "bench_template"

# The payload way: a trigger puts the row into NOTIFY. (A row of more than 8,000 bytes would fail.)
PAYLOAD_WAY = """
create schema bench;
create table bench.tables (channel text primary key, data text not null);
create function bench.notify() returns trigger language plpgsql as $$
begin
  perform pg_notify(new.channel, new.data);
  return null;
end
$$;
create trigger a_notify after update on bench.tables for each row execute function bench.notify();
"""


@dataclass(frozen=True)
class Sizes:
    """How much each row does; `full` takes about five minutes."""

    rounds: int = 3
    terminals: int = 1000
    paced_rate: int = 50  # changes a second
    paced_changes: int = 150
    slow_paced_changes: int = 100  # of a reference that does not keep up
    burst_changes: int = 2000
    slow_burst_changes: int = 200  # of a reference that writes each by itself
    idle_terminals: int = 10_000
    idle_seconds: float = 22.0  # longer than the heartbeat's 20
    handshakes: int = 5000
    writers: int = 200
    write_restaurants: int = 50
    write_seconds: float = 3.0
    flush_microseconds: int = 2000
    rest_terminals: int = 100
    rest_rate: int = 20
    rest_changes: int = 120
    storm_terminals: int = 5000
    storm_restaurants: int = 50
    growth: int = 10  # times the smaller
    growth_changes: int = 80
    log_rows: int = 20_000  # the smaller log
    orders: int = 1_000_000
    pgbench_seconds: float = 4.0
    bulk_rows: int = 10_000


FULL = Sizes()
QUICK = Sizes(
    rounds=1,
    paced_changes=100,
    slow_paced_changes=50,
    idle_terminals=2000,
    idle_seconds=1.0,
    handshakes=2000,
    write_seconds=2.0,
    rest_changes=60,
    storm_terminals=1000,
    orders=100_000,
    pgbench_seconds=2.0,
)
TINY = Sizes(
    rounds=1,
    terminals=10,
    paced_rate=200,
    paced_changes=10,
    slow_paced_changes=10,
    burst_changes=50,
    slow_burst_changes=20,
    idle_terminals=20,
    idle_seconds=0.1,
    handshakes=20,
    writers=8,
    write_restaurants=4,
    write_seconds=0.2,
    flush_microseconds=100,
    rest_rate=10,
    rest_terminals=5,
    rest_changes=10,
    storm_terminals=16,
    storm_restaurants=2,
    growth=2,
    growth_changes=5,
    log_rows=200,
    orders=200,
    pgbench_seconds=0.0,
    bulk_rows=50,
)


@dataclass
class Ground:
    """A cluster of the bench's own, and what a row may ask for."""

    cluster: TestCluster
    sizes: Sizes
    peers: Path | None = None  # a folder with what npm has installed
    tell: Callable[[str], None] = lambda _: None
    stack: ExitStack = field(default_factory=ExitStack)  # what is shared by the rows ends with it
    beside: Beside | None = None
    remarks: list[str] = field(default_factory=list)  # what one must know to read the figures
    skipped: dict[str, str] = field(default_factory=dict)  # what is left out, and why
    _has_template: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def database(self, *, restaurants: int = 0) -> Iterator[str]:
        """A database with the schema, so many restaurants (default, r0, r1, ...), and the payload way's table."""
        if not self._has_template:
            self.cluster.create_database(TEMPLATE)
            asyncio.run(apply(self.cluster.conninfo(TEMPLATE)))
            with psycopg.connect(self.cluster.conninfo(TEMPLATE), autocommit=True) as connection:
                connection.execute(PAYLOAD_WAY.encode())
            self._has_template = True
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self.cluster.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f'create database "{name}" template "{TEMPLATE}"'.encode())
        conninfo = self.cluster.conninfo(name)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                "insert into pos.restaurants (slug, name) select 'r' || n, 'R' from generate_series(0, %s - 1) as n",
                (restaurants,),
            )
        try:
            yield conninfo
        finally:
            with psycopg.connect(self.cluster.conninfo("postgres"), autocommit=True) as connection:
                connection.execute(f'drop database "{name}" with (force)'.encode())

    def skip(self, what: str, why: object) -> None:
        """Say plainly that something is not measured."""
        if what not in self.skipped:
            self.skipped[what] = str(why)
            self.tell(f"SKIPPED: {what}: {why}")


@contextmanager
def ground(sizes: Sizes, tell: Callable[[str], None], *, peers: Path | None = None) -> Iterator[Ground]:
    """A new PostgreSQL on disk that flushes as it would in use."""
    with cluster() as running, ExitStack() as stack:
        yield Ground(running, sizes, peers, tell, stack)


@contextmanager
def cluster(surroundings: Mapping[str, str] | None = None, **more: str) -> Iterator[TestCluster]:
    """A new PostgreSQL on disk, its processes with these environment variables, and more settings."""
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-"))
    options = {"max_connections": "200", "max_wal_size": "4GB", "track_functions": "all", **more}
    running = BenchCluster(folder, bin_dir=BIN_DIR, port=free_port(), options=options, surroundings=surroundings or {})
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


class BenchCluster(TestCluster):
    """A cluster whose server can be given environment variables."""

    def __init__(self, folder: Path, *, surroundings: Mapping[str, str], **more: Any) -> None:
        super().__init__(folder, **more)
        self._more = surroundings

    def _surroundings(self) -> dict[str, Any]:
        found = super()._surroundings()
        # Only the server: initdb flushes a thousand files.
        return {**found, "env": {**found["env"], **self._more}} if self.data.exists() else found


def progress(text: str) -> None:
    """One line that the next one overwrites, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
