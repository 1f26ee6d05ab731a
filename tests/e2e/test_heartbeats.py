"""HEARTBEAT: answered once, never when it is an answer itself, and it tells a gap."""

from __future__ import annotations

import json

import psycopg
import pytest
import websockets

from tests.relays import LocalRelay, clean_relay
from tests.terminals import Terminal, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}


@pytest.mark.parametrize("data", ["", ', "data": null', ', "data": {}', ', "data": {"ping": true}'])
async def test_a_heartbeat_is_answered_once_with_what_was_sent_and_the_head(relay: LocalRelay, data: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", TABLE)
        await only.reaches(1)
        await only.send_text(f'{{"type": "HEARTBEAT"{data}}}')
        answer = await only.hears("HEARTBEAT")
        assert (answer["data"], answer["clientId"]) == ({"response": True, "revision": 1, "head": 1}, "server")
        await only.ask("NEXT_ORDER_ID")
        assert sum(m["type"] == "HEARTBEAT" for m in only.received) == 1


async def test_an_answer_to_a_heartbeat_is_never_answered(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        for data in ({"response": True}, {"response": True, "ping": True}, {"response": True, "revision": 0}):
            await only.say("HEARTBEAT", data)
        await only.ask("NEXT_ORDER_ID")
        assert [m for m in only.received if m["type"] in ("HEARTBEAT", "ERROR")] == []


@pytest.mark.parametrize("field", ["ping", "response"])
async def test_a_heartbeat_of_a_wrong_type_is_refused_and_not_answered(relay: LocalRelay, field: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        refused = await only.refused("HEARTBEAT", {field: "true"})
        assert (refused["code"], refused["field"]) == ("VALIDATION", f"data.{field}")
        assert [m for m in only.received if m["type"] == "HEARTBEAT"] == []


async def test_a_terminal_that_lost_its_cursor_learns_of_the_gap(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (other,):
        await other.table("add", TABLE)
        await other.reaches(1)
        quiet = await Terminal(relay.url).connect(sync=False)
        await quiet.say("HEARTBEAT")
        assert (await quiet.hears("HEARTBEAT"))["data"] == {"response": True, "revision": 1, "head": 1}
        await quiet.close()


async def test_a_lagging_terminals_heartbeat_has_the_last_revision_written_before_it(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        clean_relay(database, caplog, window_bytes=1 << 30) as relay,
        websockets.connect(relay.url, max_queue=1, compression=None, max_size=None) as slow,
    ):
        await slow.send('{"type": "SYNC_REQUEST"}')
        await slow.recv()
        with psycopg.connect(database) as connection:
            connection.execute(
                """insert into pos.menu_items (restaurant_id, id, name, price, image)
                   select 1, n::text, 'x', 1, repeat('x', 30000) from generate_series(1, 200) as n"""
            )
        room = relay.relay.hub.room_of("default")
        assert room is not None
        (session,) = room.sessions
        await until(lambda: room.head == 200 and session.lagging)
        assert (await relay.health())["lagging"] == 1
        await slow.send('{"type": "HEARTBEAT"}')
        written, answer = 0, None
        while written < 200:
            message = json.loads(await slow.recv())
            if message["type"] == "HEARTBEAT":
                answer = message["data"]
                assert answer == {"response": True, "revision": written, "head": 200}
                assert written < 200
            else:
                assert message["revision"] == written + 1
                written += 1
        assert answer is not None
