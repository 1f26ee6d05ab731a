"""Who is shut out with RELAY_AUTH=token: by a revocation, another token or role, and what of it is not missed."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
import websockets

from relay import auth, terminals
from tests.e2e.apps import sql
from tests.e2e.strangers import bearer, closed, hello, turned_away
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
REVOKED_SECONDS = 2.0  # PROTOCOL.md, section 5


async def test_a_revoked_terminal_is_shut_out_on_every_instance(database: str, token: str) -> None:
    other_token = await terminals.add(database, "default", "Bar 2", "terminal")
    async with local_relay(database, auth="token") as first, local_relay(database, auth="token") as second:
        here, there = (
            await Terminal(first.url, token=token).connect(),
            await Terminal(second.url, token=token).connect(),
        )
        silent = await websockets.connect(second.url, **bearer(token))  # has said nothing, and never will
        async with Terminal(first.url, token=other_token) as neighbour:
            started = time.monotonic()
            await terminals.revoke(database, None, "Bar 1")
            assert await closed(silent) == (1008, auth.NOT_KNOWN)
            await until(lambda: here.close_code and there.close_code, within=REVOKED_SECONDS)
            assert time.monotonic() - started < REVOKED_SECONDS
            assert {(one.close_code, one.close_reason) for one in (here, there)} == {(1008, auth.NOT_KNOWN)}
            assert await turned_away(second.url, hello(token)) == (1008, auth.NOT_KNOWN)
            assert (await first.get("/api/sync", {"Authorization": f"Bearer {token}"}))[0] == 401
            await neighbour.table("add", TABLE)
            assert neighbour.close_code is None
        await here.close()
        await there.close()


async def test_a_terminal_that_has_said_nothing_is_shut_out_as_well(
    guarded: LocalRelay, database: str, token: str
) -> None:
    async with websockets.connect(guarded.url, **bearer(token)) as silent:
        await until(lambda: guarded.relay.hub.rooms)
        await terminals.revoke(database, None, "Bar 1")
        assert await closed(silent, REVOKED_SECONDS) == (1008, auth.NOT_KNOWN)


async def test_a_revocation_between_the_look_and_the_entering_is_not_missed(
    database: str, guarded: LocalRelay, token: str
) -> None:
    gate, hub = guarded.relay.gate, guarded.relay.hub
    assert gate is not None
    other = await terminals.add(database, "default", "Bar 2", "terminal")
    find = gate._enrolments.find

    async def slowly(token_hash: bytes) -> auth.Identity:
        identity = await find(token_hash)
        await terminals.revoke(database, None, "Bar 2")
        [(count,)] = sql(database, "select staff from pos.heads where restaurant_id = 1")
        await until(lambda: hub.rooms[1].staff == count, what="the relay to have heard of it")
        return identity

    async with Terminal(guarded.url, token=token) as one:
        await until(lambda: hub.rooms[1].staff >= 0)
        gate._enrolments.find = slowly  # type: ignore[method-assign]
        async with websockets.connect(guarded.url, **bearer(other)) as late:
            assert await closed(late, REVOKED_SECONDS) == (1008, auth.NOT_KNOWN)
        assert one.close_code is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("delete from pos.terminals where name = 'Bar 1'", auth.NOT_KNOWN),
        ("update pos.terminals set role = 'display' where name = 'Bar 1'", "the role of this terminal has changed"),
    ],
)
async def test_a_change_in_sql_shuts_out_as_well(
    database: str, guarded: LocalRelay, token: str, change: Any, reason: str
) -> None:
    one = await Terminal(guarded.url, token=token).connect()
    sql(database, change)
    await until(lambda: one.close_code, within=REVOKED_SECONDS)
    assert one.close_code == 1008
    assert one.close_reason.startswith(reason)
    await one.close()


async def test_with_another_token_the_old_one_is_shut_out_and_the_new_one_comes_in(
    database: str, guarded: LocalRelay, token: str
) -> None:
    one = await Terminal(guarded.url, token=token).connect()
    _, new = await terminals.rotate(database, None, "Bar 1")
    await until(lambda: one.close_code == 1008, within=REVOKED_SECONDS)
    await one.close()
    async with Terminal(guarded.url, token=new):
        assert await turned_away(guarded.url, hello(token)) == (1008, auth.NOT_KNOWN)


async def test_a_revocation_without_a_doorbell_is_found_by_the_sweep(database: str, token: str) -> None:
    async with local_relay(database, auth="token", sweep_seconds=0.5) as relay:
        one = await Terminal(relay.url, token=token).connect()
        with psycopg.connect(database, autocommit=True) as connection:
            # The head moves, and nobody hears of it.
            connection.execute("set session_replication_role = replica")
            connection.execute("update pos.terminals set revoked_at = now()")
            connection.execute("update pos.heads set staff = staff + 1")
        await until(lambda: one.close_code == 1008, within=REVOKED_SECONDS)
        await one.close()


async def test_everybody_is_looked_at_again_though_nothing_was_heard(
    database: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.gate.RECHECK_SECONDS", 0.5)
    async with local_relay(database, auth="token") as relay:
        one = await Terminal(relay.url, token=token).connect()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("update pos.terminals set revoked_at = now()")
        await until(lambda: one.close_code == 1008)
        await one.close()


async def test_nothing_that_a_terminal_sends_after_its_revocation_counts(database: str, token: str) -> None:
    async with local_relay(database, auth="token") as relay:
        one = await Terminal(relay.url, token=token).connect()
        await one.table("add", TABLE)
        [session] = relay.relay.hub.sessions
        gate = relay.relay.gate
        assert gate is not None
        gate._shut_out(session, auth.NOT_KNOWN)  # its close is on the way, and so is what the terminal says
        await one.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "seats": 9}})
        await until(lambda: one.close_code == 1008)
        await one.close()
        async with local_relay(database) as open_relay, Terminal(open_relay.url) as other:
            await other.table("update", {"id": "t1", "status": "occupied"})
            assert other.tables["t1"]["seats"] == 4
