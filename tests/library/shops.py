"""A database and terminals of both libraries at it, and whether they show what it holds."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from tests.library.driven import Driven
from tests.terminals import checksum_in_database, state_in_database
from tests.waiting import until

Row = dict[str, Any]

NAMES = {"tables": "tables", "menu": "menuItems", "settings": "settings", "orders": "orderHistory"}


def shown(state: Row) -> Row:
    """What a terminal reports, in the form of state_in_database."""
    found: Row = {name: state[wire] for name, wire in NAMES.items()}
    return found | {"categories": sorted(state["categories"])}


async def agree(conninfo: str, *terminals: Driven, within: float = 30.0) -> list[Row]:
    """Wait until terminals are live, have nothing pending, and show the newest revision, which is then compared."""

    async def settled() -> bool:
        reports[:] = await asyncio.gather(*(one.report() for one in terminals))
        revision = (await asyncio.to_thread(state_in_database, conninfo))[0]
        return all(r["state"] == "live" and r["revision"] == revision and not r["pending"] for r in reports)

    reports: list[Row] = []
    try:
        await until(settled, within)
    except AssertionError:
        told = [{k: v for k, v in r.items() if k not in ("view", "confirmed")} for r in reports]
        raise AssertionError(f"not within {within} s all terminals are up to date: {told}") from None
    _, state = state_in_database(conninfo)
    check = checksum_in_database(conninfo, 1000)
    for one, report in zip(terminals, reports, strict=True):
        assert shown(report["confirmed"]) == state, f"{one.language} holds something else than the database"
        assert shown(report["view"]) == state, f"{one.language} shows something else than it holds"
        assert report["checksum"] == check, f"{one.language} has another checksum"
        assert [detail for what, detail in report["told"] if what == "fault"] == []
    return reports


def ledger(conninfo: str) -> dict[str, int]:
    """How often each mutation id was done."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("select mutation_id, count(*) from pos.mutations group by mutation_id").fetchall()
    return dict(rows)


def version_of(conninfo: str, table: str) -> int:
    """How often a table was changed."""
    return int(state_in_database(conninfo)[1]["tables"][table]["version"])


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())
