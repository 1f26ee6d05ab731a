"""What a terminal that asks too much is told, and that it costs the others nothing."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from tests.e2e.apps import TABLE, app, sql
from tests.relays import LocalRelay, RelayProcess, clean_relay, local_relay, relay_process
from tests.terminals import Terminal, agree
from tests.test_metrics import growth
from tests.waiting import slow_down, until

ROW = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
FLOOD = 5000  # messages a second: 50 times what a terminal may send
MANY = 10_000  # messages that nobody may send without a pause
CHANGES = 200  # that are measured


# --- messages


async def test_what_comes_too_fast_is_refused_and_done_when_it_is_sent_again(database: str) -> None:
    async with local_relay(database, terminal_messages=10) as relay, Terminal(relay.url) as one:
        grown = await growth(relay)
        asked = [one.ask("UPDATE_TABLE", {"action": "add", "data": {**ROW, "id": str(n), "number": n}}, id=str(n))
                 for n in range(150)]  # fmt: skip
        answers = await asyncio.gather(*asked)
        refused = [answer for answer in answers if answer["type"] == "ERROR"]
        assert 30 <= len(refused) <= 60
        for answer in refused:
            assert (answer["data"]["code"], answer["data"]["retryable"]) == ("RATE_LIMITED", True)
            assert 1 <= answer["data"]["retryAfter"] <= 10
        assert await grown.of('relay_limited_total{limit="rate"}') == len(refused)
        assert await grown.of('relay_refusals_total{code="RATE_LIMITED"}') == len(refused)
        for answer in refused:
            row = {**ROW, "id": answer["ref"], "number": int(answer["ref"])}
            await until(partial(_is_done, one, row), within=30.0)
        await agree(database, one)
        assert len(one.tables) == 150


async def _is_done(one: Terminal, row: dict[str, Any]) -> bool:
    answer = await one.ask("UPDATE_TABLE", {"action": "add", "data": row}, id=row["id"])
    return bool(answer["type"] == "ACK")


async def test_a_flood_is_told_so_first_and_then_cut_off(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async with clean_relay(database, caplog) as relay, Terminal(relay.url) as one:
        grown = await growth(relay)
        heartbeat = json.dumps({"type": "HEARTBEAT", "data": {"ping": True}})
        for _ in range(MANY):
            await one.send_text(heartbeat)
        await until(lambda: one.close_code, within=30.0)
        assert (one.close_code, one.close_reason.rpartition(";")[2]) == (1013, " retry after 10 s")
        limited = [m for m in one.received if m["type"] == "ERROR" and m["data"]["code"] == "RATE_LIMITED"]
        assert len(limited) >= 900
        assert await grown.of('relay_limited_total{limit="flood"}') == 1
        async with Terminal(relay.url) as again:
            assert again.snapshots


async def test_a_binary_flood_is_cut_off_too(relay: LocalRelay) -> None:
    async with Terminal(relay.url) as one:
        for _ in range(MANY):
            await one.send_text(b"x")
        await until(lambda: one.close_code, within=30.0)
        assert one.close_code == 1013


@pytest.mark.parametrize(
    "frame",
    [Frame(Opcode.PING, b""), Frame(Opcode.PONG, b""), Frame(Opcode.CONT, b"", fin=False)],
    ids=["pings", "pongs", "empty pieces"],
)
async def test_frames_that_carry_no_message_are_not_taken_by_the_million(relay: LocalRelay, frame: Frame) -> None:
    begun = Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True) if frame.opcode is Opcode.CONT else b""
    async with Terminal(relay.url) as one, Terminal(relay.url) as other:
        assert one._socket is not None
        transport = one._socket.transport
        transport.write(begun + frame.serialize(mask=True) * 5000)
        await slow_down(0.2)
        assert not one.close_code
        transport.write(frame.serialize(mask=True) * 100_000)
        assert await until(lambda: one.close_code, within=30.0) == 1008
        assert one.close_reason == "too many frames that carry no message"
        await other.sync()


async def test_large_messages_use_up_the_bytes_of_a_terminal(database: str) -> None:
    async with local_relay(database, terminal_bytes=10_000) as relay, Terminal(relay.url) as one:
        answer = await one.ask("MESSAGE", {"note": "x" * 3000})
        assert answer["type"] == "ACK"
        answers = await asyncio.gather(*(one.ask("MESSAGE", {"note": "x" * 3000}) for _ in range(40)))
        assert {answer["data"].get("code") for answer in answers} == {None, "RATE_LIMITED"}


async def test_a_restaurant_has_a_rate_and_its_neighbour_another(database: str) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('cafe', 'C')")
    async with local_relay(database, restaurant_messages=10) as relay:
        some = [await Terminal(relay.url).connect() for _ in range(5)]
        neighbour = await Terminal(f"{relay.url}?restaurant=cafe").connect()
        answers = await asyncio.gather(*(one.ask("NEXT_ORDER_ID") for one in some for _ in range(40)))
        assert "RESTAURANT" in next(a["data"]["message"] for a in answers if a["type"] == "ERROR")
        assert (await neighbour.ask("NEXT_ORDER_ID"))["type"] == "ACK"
        for one in (*some, neighbour):
            await one.close()


async def test_the_app_is_read_more_slowly_and_loses_nothing(shop: str) -> None:
    # It knows no ERROR, and would not send again what it was refused.
    async with local_relay(shop, terminal_messages=20) as relay, app(relay, 1) as one:
        grown = await growth(relay)
        rows = [{**TABLE, "id": f"table_{1700000000100 + n}", "number": 100 + n} for n in range(260)]
        for row in rows:
            await one.say("UPDATE_TABLE", {"action": "add", "data": row})

        def stored() -> int:
            return int(sql(shop, "select count(*) from pos.tables where number >= 100")[0][0])

        await until(lambda: stored() == len(rows), within=60.0)
        assert one.of("ERROR") == []
        assert await grown.of('relay_limited_total{limit="held"}') >= 1
        assert await grown.of('relay_limited_total{limit="rate"}') == 0


async def test_a_till_that_gives_no_ids_is_read_more_slowly_too(database: str) -> None:
    async with local_relay(database, terminal_messages=20) as relay, Terminal(relay.url) as one:
        for number in range(260):
            row = {**ROW, "id": f"t{number}", "number": 100 + number}
            await one.say("UPDATE_TABLE", {"action": "add", "data": row})
        await until(lambda: sql(database, "select count(*) from pos.tables") == [(260,)], within=60.0)
        assert [message for message in one.received if message["type"] == "ERROR"] == []


async def test_an_app_that_comes_while_its_restaurant_is_busy_loses_nothing(shop: str) -> None:
    async with local_relay(shop, restaurant_messages=20) as relay, Terminal(relay.url) as busy:
        # They use up what the restaurant may have before the app says that it is one.
        answers = await asyncio.gather(*(busy.ask("NEXT_ORDER_ID") for _ in range(250)))
        assert any(answer["type"] == "ERROR" for answer in answers)
        async with app(relay, 1) as one:
            for number in range(30):
                row = {**TABLE, "id": f"table_{1700000000100 + number}", "number": 100 + number}
                await one.say("UPDATE_TABLE", {"action": "add", "data": row})
            stored = "select count(*) from pos.tables where number >= 100"
            await until(lambda: sql(shop, stored) == [(30,)], within=60.0)
            assert one.of("ERROR") == []


# --- neighbours


@asynccontextmanager
async def flooding(host: str, port: int, path: str) -> AsyncIterator[dict[str, int]]:
    """Somebody floods; what it was told is there at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.flooder", host, str(port), path, str(FLOOD)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told: dict[str, int] = {}
    try:
        yield told
    finally:
        out, _ = await process.communicate(b"\n")
        told.update(json.loads(out))


async def latencies(one: Terminal, other: Terminal) -> list[float]:
    """How long each of so many changes takes from one terminal to another, in milliseconds."""
    found = []
    for number in range(CHANGES):
        began = time.monotonic()
        revision = (await one.table("update", {"id": "t1", "seats": number}))["revision"]
        await other.reaches(revision, 30.0)
        found.append((time.monotonic() - began) * 1000)
    return found


async def test_a_flood_at_fifty_times_the_limit_leaves_the_neighbours_alone(database: str) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('cafe', 'C')")
    async with relay_process(database) as relay:
        url = f"{relay.url}?restaurant=cafe"
        async with Terminal(url) as one, Terminal(url) as other:
            await one.table("add", ROW)
            calm = await latencies(one, other)
            async with flooding(relay.host, relay.port, "/ws?restaurant=default") as told:
                await until(lambda: _is_limited(relay), within=30.0)
                loaded = await latencies(one, other)
            await agree(database, one, other, slug="cafe")
        p99 = [statistics.quantiles(each, n=100)[98] for each in (calm, loaded)]
        print(f"p99 of a neighbour: {p99[0]:.1f} ms, beside a flood {p99[1]:.1f} ms; the flooder was told {told}")
        assert told["limited"] > 900
        assert told["cut off"] >= 1
        assert p99[1] < 10 * p99[0] + 500  # two at most, on a machine of its own


async def _is_limited(relay: RelayProcess) -> bool:
    return 'relay_limited_total{limit="rate"}' in (await relay.get("/metrics"))[2]
