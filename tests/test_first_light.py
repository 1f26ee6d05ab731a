"""The shortest way round: a terminal changes a table, another one shows it."""

from __future__ import annotations

import psycopg

from tests.relays import local_relay
from tests.terminals import agree, terminals


async def test_what_one_terminal_changes_every_terminal_shows(database: str) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 3) as (first, *others):
        await first.table("add", {"id": "t1", "number": 1, "seats": 4, "status": "available"})
        await first.table("update", {"id": "t1", "status": "occupied", "mood": "merry"})
        await agree(database, first, *others)
        assert others[0].tables["t1"]["mood"] == "merry"


async def test_a_row_changed_by_hand_reaches_every_terminal(database: str) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 2) as (first, second):
        await first.table("add", {"id": "4", "number": 4, "seats": 4, "status": "available"})
        with psycopg.connect(database) as connection:
            connection.execute("update pos.tables set status = 'occupied' where number = 4")
        await agree(database, first, second)
        assert second.tables["4"]["status"] == "occupied"
        assert second.received[-1]["clientId"] == "database"
