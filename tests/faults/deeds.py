"""What these tests do again and again: in psql, and at a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg

from tests.cluster import TestCluster
from tests.terminals import Terminal
from tests.waiting import until

# By which a fault in one restaurant, or one relay, may hold up the others: 0.5 is promised, the rest is a busy machine.
OTHERS_SECONDS = 2.0
TABLE = {"seats": 4, "status": "available"}


def execute(conninfo: str, statement: str, *parameters: object) -> Any:
    """Run a statement in a transaction of its own; the first column of its first row."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def add_restaurant(conninfo: str, slug: str) -> None:
    execute(conninfo, "insert into pos.restaurants (slug, name) values (%s, 'another')", slug)


def seat(conninfo: str, number: int) -> None:
    """Change something as a person does in psql."""
    execute(
        conninfo,
        "insert into pos.tables (restaurant_id, id, number, seats, status)"
        " select restaurant_id, %s, %s, 4, 'available' from pos.find_restaurant(null)",
        f"psql-{number}",
        number,
    )


def slow_down(conninfo: str, table: str, seconds: float) -> None:
    """Let every INSERT into a table take so long."""
    execute(
        conninfo,
        f"create function slowly() returns trigger language plpgsql as"
        f" $$ begin perform pg_sleep({seconds}); return new; end $$;"
        f" create trigger z before insert on pos.{table} for each row execute function slowly()",
    )


@asynccontextmanager
async def waiting_commits(cluster: TestCluster, conninfo: str) -> AsyncIterator[None]:
    """Every commit waits meanwhile for a synchronous standby that there is not."""
    cluster.say("alter system set synchronous_standby_names = 'nobody'")
    cluster.say("select pg_reload_conf()")
    waits: LiteralString = "select exists (select from pg_stat_activity where wait_event = 'SyncRep')"
    commits: list[asyncio.Task[Any]] = []

    async def one_waits() -> bool:
        if not commits or commits[-1].done():  # the setting is not taken up yet
            commit = asyncio.to_thread(execute, conninfo, "select pg_logical_emit_message(true, 'tests', '')")
            commits.append(asyncio.create_task(commit))
        return bool(await asyncio.to_thread(cluster.say, waits))

    try:
        await until(one_waits, what="a commit that waits")
        yield
    finally:
        cluster.say("alter system reset synchronous_standby_names")
        cluster.say("select pg_reload_conf()")
        await asyncio.gather(*commits)


def lock_table(connection: psycopg.Connection[Any], id_: str) -> None:
    """Hold a dining table's row, as an UPDATE does in a transaction that was left open."""
    connection.execute("select from pos.tables where id = %s for update", (id_,))


async def make_tables(terminal: Terminal, *ids: str) -> None:
    for number, id_ in enumerate(ids, 1):
        await terminal.table("add", {"id": id_, "number": number, **TABLE})


def counts(terminal: Terminal) -> list[int]:
    """The counts of tables that a terminal saw go by, in order."""
    rows = [message["data"]["data"] for _, _, message in terminal.applied if message["type"] == "UPDATE_TABLE"]
    return [int(row["count"]) for row in rows if "count" in row]


def order(id_: str) -> dict[str, object]:
    return {
        "id": id_,
        "tableNumber": 1,
        "customerName": "",
        "orderDate": "2026-01-01",
        "status": "pending",
        "total": 1,
        "items": [],
        "createdAt": id_,
    }
