"""The log's history names the terminal, its role and where it was, on a relay that connects as pos_relay."""

from __future__ import annotations

import psycopg
import pytest

from relay import terminals
from tests.relays import clean_relay
from tests.terminals import Terminal

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}


async def test_the_history_names_the_terminal_its_role_and_address(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = await terminals.add(database, "default", "Bar 1", "manager")
    async with clean_relay(database, caplog, auth="token") as relay:
        bar = Terminal(relay.url, "bar")
        await bar.connect(additional_headers={"Authorization": f"Bearer {token}"})
        await bar.table("add", TABLE)
        await bar.dish("add_category", {"name": "Tea"})
        await bar.close()
    async with clean_relay(database, caplog) as relay, Terminal(relay.url, "guest") as guest:
        await guest.table("update", {"id": "t1", "seats": 6})
    with psycopg.connect(database) as connection:
        connection.execute("update pos.tables set seats = 8")
        connection.commit()
        found = connection.execute(
            """select distinct revision, client_id, terminal, role, terminal_address, database_user
               from pos.history_of('tables', 't1') order by revision"""
        ).fetchall()
    assert found == [
        (1, "bar", "Bar 1", "manager", "127.0.0.1", "pos_relay"),
        (3, "guest", None, None, "127.0.0.1", "pos_relay"),
        (4, "database", None, None, None, "postgres"),
    ]
