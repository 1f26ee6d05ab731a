"""Changes made in SQL at a steady pace, and a count of what the relay reads meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.relays import LocalRelay

ROWS = 20


def add_tables(conninfo: str, slug: str = "default") -> None:
    """The tables that a flow changes: revisions 1 to ROWS of a new restaurant."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "insert into pos.tables (restaurant_id, id, number, seats)"
            " select r.restaurant_id, n::text, n, 4 from pos.restaurants as r, generate_series(1, %s) as n"
            " where r.slug = %s",
            (ROWS, slug),
        )


def make_changes(conninfo: str, count: int, slug: str = "default", size: int = 0) -> None:
    """So many changes in a transaction of their own each, of about `size` bytes."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for number in range(count):
            connection.execute(
                "update pos.tables as t set seats = t.seats %% 9 + 1, extra = jsonb_build_object('note', %s::text)"
                " from pos.restaurants as r where r.restaurant_id = t.restaurant_id and r.slug = %s and t.id = %s",
                ("x" * size, slug, str(number % ROWS + 1)),
            )


async def truncate_log(conninfo: str) -> None:
    """Begin another history of changes: every terminal must be told.

    In a thread, because TRUNCATE waits for every read of the log that is under way: for one of many rows until the
    relay, perhaps in this very event loop, has taken them.
    """

    def truncate() -> None:
        with psycopg.connect(conninfo) as connection:
            connection.execute("truncate pos.sync_log")

    await asyncio.to_thread(truncate)


@contextmanager
def flow(conninfo: str, per_second: float = 200.0, slug: str = "default") -> Iterator[None]:
    """Change one table after the other meanwhile."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(10 / per_second):
            make_changes(conninfo, 10, slug)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def count_reads(relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the relay reads for terminals from now on, by the method's name; the listener's reads are its own."""
    reads: Counter[str] = Counter()
    database = relay.relay.database

    def counted(name: str) -> Any:
        method = getattr(database, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            reads[name] += not options.get("live")
            return await method(*arguments, **options)

        return call

    for name in ("find_restaurant", "read_heads", "read_changes", "snapshot"):
        monkeypatch.setattr(database, name, counted(name))
    return reads
