"""Whoever may connect to the database may ring its doorbells: ten thousand cost a few reads, and show nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from tests.faults.deeds import seat
from tests.relays import local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

FORGED = 10_000
PAYLOADS = [
    "1",
    "2",
    "99999",
    str(2**63),
    "9" * 30,
    "-1",
    "1.0",
    " 1",
    "",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "1; drop table pos.tables",
    "x" * 7000,
]


def ring(database: str, count: int) -> None:
    """Ring so often: in one transaction each payload once, for equal ones fold into one."""
    with psycopg.connect(database, autocommit=True) as connection:
        for _ in range(count // len(PAYLOADS)):
            connection.execute("select pg_notify('pos_doorbell', p) from unnest(%s::text[]) as p", (PAYLOADS,))


async def test_forged_doorbells_deliver_nothing_and_cost_a_capped_rate_of_reads(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("insert into pos.restaurants (slug, name) values ('other', 'Another')")
    async with (
        local_relay(database) as relay,
        terminals(relay.url, 2) as ours,
        Terminal(relay.url + "?restaurant=other") as other,
    ):
        await agree(database, *ours)
        before = [len(one.received) for one in (*ours, other)]
        reads: list[list[int]] = []
        read_changes = relay.relay.database.read_changes

        async def counted(cursors: Mapping[int, int], **options: Any) -> Any:
            reads.append(list(cursors))
            return await read_changes(cursors, **options)

        monkeypatch.setattr(relay.relay.database, "read_changes", counted)
        started = time.monotonic()
        await asyncio.to_thread(ring, database, FORGED)
        seconds = time.monotonic() - started
        # Twenty of each of the two restaurants at once, then ten a second of each.
        assert 20 <= len(reads) <= 2 * (20 + 10 * (seconds + 1))
        assert {id for ids in reads for id in ids} <= {1, 2}
        assert [len(one.received) for one in (*ours, other)] == before
        # A change in the middle of it comes all the same, and the next ones as fast as ever.
        forging = asyncio.create_task(asyncio.to_thread(ring, database, FORGED // 4))
        await asyncio.to_thread(seat, database, 1)
        await until(lambda: all("psql-1" in one.tables for one in ours))
        await forging
        await agree(database, *ours)
        assert other.tables == {}
        assert await relay.ready()
