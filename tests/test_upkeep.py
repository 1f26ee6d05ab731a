"""The relay's share of retention: what it says of terminals that lag, and pruning beside changes that go on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import psycopg

from tests.e2e.test_slow_readers import KERNEL_BYTES, SIZE, narrow, session_of
from tests.flow import add_tables, flow, make_changes
from tests.relays import local_relay
from tests.terminals import Terminal, agree, terminals


def noted(database: str) -> list[tuple[int, int]]:
    with psycopg.connect(database) as connection:
        return connection.execute("select restaurant_id, revision from pos.lagging").fetchall()


def prune(database: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "prune", *arguments]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


async def test_a_terminal_that_lags_is_noted_until_it_has_caught_up(database: str) -> None:
    add_tables(database)
    async with local_relay(database, window_bytes=1 << 25) as relay:
        slow = await narrow(relay.url, "slow")
        await relay.relay.upkeep.note()
        assert noted(database) == []
        slow.stop_reading()
        await asyncio.to_thread(make_changes, database, 2 * KERNEL_BYTES // SIZE, size=SIZE)
        async with Terminal(relay.url) as other:
            await agree(database, other)
            await relay.relay.upkeep.note()
            cursor = session_of(relay, "slow").cursor
            assert noted(database) == [(1, cursor)]
            # All but the newest may go, and what it lacks stays.
            done = await asyncio.to_thread(prune, database, "--keep-rows", "1")
            assert done.stdout.startswith(f"gone: {cursor} changes, "), done
        slow.read_again()
        await agree(database, slow)
        await relay.relay.upkeep.note()
        assert noted(database) == []
        assert len(slow.snapshots) == 1
        await slow.close()


async def test_pruning_beside_changes_that_go_on_loses_and_doubles_none(database: str) -> None:
    add_tables(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            """insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
               select 1, h.revision + n, 'UPDATE_TABLE', 'update', '1', n, '{}', 2, 'database'
               from pos.heads as h, generate_series(1, 20000) as n where h.restaurant_id = 1"""
        )
        connection.execute("update pos.heads set revision = revision + 20000 where restaurant_id = 1")
    async with local_relay(database) as relay, terminals(relay.url, 2) as showing:
        with flow(database):
            done = await asyncio.to_thread(prune, database, "--keep-rows", "100")
        assert (done.returncode, done.stderr) == (0, "")
        await agree(database, *showing)
        for one in showing:
            assert one.faults == []
            assert len(one.snapshots) == 1
    with psycopg.connect(database) as connection:
        row = connection.execute(
            """select h.floor = min(l.revision), h.revision = max(l.revision), count(*) = h.revision - h.floor + 1,
                      h.floor > 19000
               from pos.heads as h join pos.sync_log as l using (restaurant_id) group by h.restaurant_id"""
        ).fetchone()
    assert row == (True, True, True, True)


def test_the_command_refuses_to_keep_nothing(database: str) -> None:
    done = prune(database, "--keep-rows", "0")
    assert done.returncode == 2
    assert "0 is not in the range" in done.stderr
