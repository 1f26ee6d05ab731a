"""`relay serve --embedded`: the relay and the PostgreSQL that it brings along, from the first start to the last."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from relay.embedded import Cluster
from tests.relays import RelayProcess, relay_process
from tests.terminals import terminals
from tests.waiting import until

TABLE = {"id": "t1", "seats": 4, "status": "available"}


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: its name is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="relay-test-"))
    yield folder
    left = Cluster(folder)
    if left.data.exists():
        left.start()
        left.stop()
    shutil.rmtree(folder)


async def pending(relay: RelayProcess) -> bool:
    return bool((await relay.health())["pending"])


async def test_the_embedded_postgresql_comes_and_goes_with_the_relay(folder: Path) -> None:
    cluster = Cluster(folder)
    async with relay_process(None, "--embedded", RELAY_DATA=str(folder)) as relay:
        for words in (f"ws://127.0.0.1:{relay.port}/ws", f"http://127.0.0.1:{relay.port}/health", "psql"):
            assert words in relay.log
        async with terminals(relay.url, 2) as (first, other):
            # The seed's built-in tables are there.
            assert len(first.tables) > 3
            await first.table("add", {**TABLE, "number": 1001})
            with psycopg.connect(cluster.conninfo("minipos_db")) as person:
                person.execute("select from pos.tables for update")
                asked = asyncio.create_task(first.table("update", {"id": "t1", "seats": 8}))
                await until(partial(pending, relay), what="the mutation to wait")
                os.killpg(relay.pid, signal.SIGINT)
                await until(lambda: relay.refuses, what="the drain")
                # PostgreSQL is still there for what was begun.
                person.execute("select 1")
            await asked
            assert await relay.ended(within=5.0) == 0
            assert (first.close_code, other.close_code) == (1012, 1012)
        assert not cluster.is_running()
        assert not cluster.data.joinpath("postmaster.pid").exists()

        # The second start finds the data; killed, the relay leaves a PostgreSQL that the third one adopts.
        await relay.start()
        postmaster = cluster.postmaster_pid
        assert postmaster
        async with terminals(relay.url, 1) as (first,):
            assert first.tables["t1"]["seats"] == 8
            await first.table("update", {"id": "t1", "seats": 9})
            await relay.kill()
        assert cluster.postmaster_pid == postmaster
        await relay.start()
        assert cluster.postmaster_pid == postmaster
        async with terminals(relay.url, 1) as (first,):
            assert first.tables["t1"]["seats"] == 9
        relay.send(signal.SIGTERM)
        assert await relay.ended(within=5.0) == 0
        assert not cluster.is_running()


async def test_a_named_database_wins_over_the_embedded_one(database: str, folder: Path) -> None:
    async with relay_process(database, "--embedded", RELAY_DATA=str(folder / "data")) as relay:
        assert not (folder / "data").exists()
        async with terminals(relay.url, 1) as (terminal,):
            assert not terminal.tables
        assert re.search(r"Database\s+psql .*dbname=test_", relay.log)


async def test_a_signal_while_it_starts_leaves_no_postgresql_behind(folder: Path) -> None:
    async with relay_process(None, "--embedded", wait_ready=False, RELAY_DATA=str(folder)) as relay:
        await until(lambda: (folder / "pgdata").exists(), within=20.0, what="the data")
        relay.send(signal.SIGTERM)
        assert await relay.ended(within=10.0) == 0
        assert not Cluster(folder).is_running()
