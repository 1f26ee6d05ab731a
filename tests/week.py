"""Measures what a prune costs the terminals: a week of a busy restaurant goes, while 200 changes a second go on.

    make week

Its rows are fabricated, of about 400 bytes each. Lateness is from before the statement that makes a change until a
terminal has it; the numbers are of this machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from statistics import median

import psycopg

from relay import schema
from tests.cluster import running_cluster
from tests.flow import ROWS, add_tables
from tests.relays import relay_process
from tests.terminals import Terminal
from tests.waiting import until

CHANGES = int(os.environ.get("WEEK_CHANGES", "1000000"))
PER_SECOND = 200
KEPT = 1000
DATABASE = "week"


def fill(conninfo: str) -> None:
    """The changes of the week, as the log would hold them."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            """insert into pos.sync_log
                 (restaurant_id, revision, type, action, row_id, version, data, size, client_id, created_at)
               select 1, %s + n, 'UPDATE_TABLE', 'update', (n %% 20 + 1)::text, n / 20 + 2, d.data,
                      octet_length(d.data::text), 'bar-' || n %% 10, now() - make_interval(secs => (%s - n) * 0.6)
               from generate_series(1, %s) as n
               cross join lateral (select jsonb_build_object('id', n %% 20 + 1, 'number', n %% 20 + 1, 'seats', 4,
                 'status', 'occupied', 'orderItems', jsonb_build_array(repeat('Mohinga ', 30)),
                 'version', n) as data) as d""",
            (ROWS, CHANGES, CHANGES),
        )
        connection.execute("update pos.heads set revision = revision + %s where restaurant_id = 1", (CHANGES,))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("vacuum analyze pos.sync_log")


class Changes:
    """Changes at a steady pace in a thread of their own, each with the time at which it was begun."""

    def __init__(self, conninfo: str) -> None:
        self.begun: dict[int, float] = {}
        self._conninfo = conninfo
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due, number = time.monotonic(), 0
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                # Counted from when it was due, so that one that waits does not hide those behind it.
                row = connection.execute(
                    "select revision from pos.update_table(1, 'update',"
                    " jsonb_build_object('id', %s::text, 'seats', %s::int))",
                    (str(number % ROWS + 1), number % 8 + 1 + number // ROWS % 2),
                ).fetchone()
                assert row
                self.begun[row[0]] = due
                due, number = due + 1 / PER_SECOND, number + 1


async def main() -> int:
    with running_cluster(fsync="on", shared_buffers="256MB", max_wal_size="2GB") as cluster:
        cluster.create_database(DATABASE)
        conninfo = cluster.conninfo(DATABASE)
        await schema.apply(conninfo)
        add_tables(conninfo)
        print(f"{CHANGES:,} changes …", flush=True)
        fill(conninfo)
        async with relay_process(conninfo, LOG_LEVEL="WARNING") as relay:
            heard: dict[int, float] = {}
            terminal = Terminal(relay.url)
            hear = terminal._change

            def change(message: dict[str, object]) -> None:
                heard[int(str(message["revision"]))] = time.monotonic()
                hear(message)

            terminal._change = change  # type: ignore[method-assign]
            await terminal.connect()
            changes = Changes(conninfo)
            changes.start()
            await until(lambda: len(heard) > 10 * PER_SECOND, within=60.0)
            before = time.monotonic()
            pruning = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay", "prune", "--keep-days", "0", "--keep-rows", str(KEPT),
                env={"PATH": os.environ["PATH"], "DATABASE_URL": conninfo},
            )  # fmt: skip
            status = await pruning.wait()
            after = time.monotonic()
            await until(lambda: heard and time.monotonic() - after > 3.0, within=10.0)
            await asyncio.to_thread(changes.stop)
            await terminal.reaches(max(changes.begun))
            await terminal.close()
        late: dict[str, list[float]] = {"before": [], "during": [], "after": []}
        for revision, begun in changes.begun.items():
            when = "before" if begun < before else "during" if begun < after else "after"
            late[when].append((heard[revision] - begun) * 1000)
        print(f"pruned within {after - before:.1f} s (exit status {status})")
        for when, found in late.items():
            if not found:
                continue
            found.sort()
            print(
                f"{when:7} {len(found):6} changes: median {median(found):.1f} ms, "
                f"p99 {found[len(found) * 99 // 100]:.1f} ms, latest {found[-1]:.1f} ms"
            )
        return status or max(late["during"]) > 1000


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
