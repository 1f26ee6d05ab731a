"""Who changed something is noted with the change, in one transaction; and no sale fails or waits long for the note."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest

from tests.faults.deeds import execute, slow_down
from tests.proxy import proxied
from tests.relays import local_relay
from tests.terminals import terminals
from tests.waiting import until

TABLE = {"number": 1, "seats": 4, "status": "available"}


def noted(conninfo: str) -> list[Any]:
    """Each change's client id, whether that client was noted before it, and whether in its own transaction."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            """select l.client_id, a.first_at <= l.created_at, a.first_at >= begun.at
               from pos.sync_log as l
               cross join lateral (
                 select max(b.created_at) from pos.batches as b where b.created_at <= l.created_at
               ) as begun (at)
               left join pos.actors as a using (restaurant_id, client_id)
               order by l.revision"""
        ).fetchall()


async def test_the_first_change_of_a_terminal_notes_it_and_the_next_does_not(database: str) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 2) as (first, second):
        await first.table("add", {"id": "t1", **TABLE})
        await first.table("update", {"id": "t1", "seats": 5})
        await second.table("update", {"id": "t1", "seats": 6})
    assert noted(database) == [
        (first.client_id, True, True),
        (first.client_id, True, False),
        (second.client_id, True, True),
    ]
    again = """select count(*) from pos.actors as a where a.seen_at > (
                 select min(l.created_at) from pos.sync_log as l where l.client_id = a.client_id)"""
    assert execute(database, again) == 0


async def test_a_note_that_is_held_up_holds_up_no_sale_and_is_made_later(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_relay(database, lock_ms=50) as relay, terminals(relay.url, 1) as (terminal,):
        with psycopg.connect(database) as person:
            person.execute("lock table pos.actors")
            await terminal.table("add", {"id": "t1", **TABLE})
            await terminal.table("update", {"id": "t1", "seats": 5})
        await terminal.table("update", {"id": "t1", "seats": 6})
    assert [before for _, before, _ in noted(database)] == [False, False, True]
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]  # that is how it is meant


async def test_a_note_that_may_not_be_made_fails_no_sale_and_is_said_once(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, "alter table pos.actors add constraint actors_never check (role = 'nobody')")
    async with local_relay(database) as relay, terminals(relay.url, 1) as (terminal,):
        answer = await terminal.table("add", {"id": "t1", **TABLE})
        assert answer["revision"] == 1
        await terminal.table("update", {"id": "t1", "seats": 5})
    assert noted(database) == [(terminal.client_id, None, None)] * 2
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1


async def test_a_change_that_is_held_up_keeps_its_note(database: str) -> None:
    slow_down(database, "tables", 30.0)
    async with local_relay(database, statement_ms=300) as relay, terminals(relay.url, 1) as (terminal,):
        await terminal.say("UPDATE_TABLE", {"action": "add", "data": {"id": "t1", **TABLE}})
        asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'relay write'"
        await until(lambda: execute(database, asleep), what="the change at work")
        execute(database, "drop trigger z on pos.tables")
        await until(lambda: terminal.revision == 1, what="the change")
    assert noted(database) == [(terminal.client_id, True, True)]


async def test_a_note_whose_answer_is_lost_is_made_once_and_so_is_the_change(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 1) as (terminal,),
    ):
        proxy.lose_answer_to(b"needle")
        await terminal.table("add", {"id": "needle", **TABLE})
        assert proxy.losses == 1
        await terminal.table("update", {"id": "needle", "seats": 5})
    assert [before for _, before, _ in noted(database)] == [True, True]
    assert execute(database, "select count(*) from pos.actors") == 1
