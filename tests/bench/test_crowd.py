"""The load client sees what is missing, what comes twice and how old it is; and it says what it was told to say."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.bench.crowd import crowd
from tests.bench.programs import NotBuilt, build
from tests.waiting import wait_until

TERMINALS = 4
CHANGE = '{"type":"UPDATE_TABLE","of":{i},"at":"r{r}","n":{n},"t":{t}}'


@pytest.fixture(scope="module", autouse=True)
def _program() -> None:
    try:
        build("wsload")
    except NotBuilt as why:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the bench, for {why}")


@asynccontextmanager
async def server(handler: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[int]:
    async with serve(handler, "127.0.0.1", 0, compression=None, **options) as running:
        yield running.sockets[0].getsockname()[1]


async def counted(port: int, *options: str | int | float, **more: Any) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        with crowd(port, TERMINALS, *options, **more) as terminals:
            terminals.begin()
            return terminals.result()

    return await asyncio.to_thread(run)


def mark(number: int, *, age_ms: float = 0.0) -> str:
    return json.dumps({"type": "UPDATE_TABLE", "n": number, "t": time.time_ns() - round(age_ms * 1e6)})


async def test_gaps_and_repeats_are_counted_and_ages_are_measured() -> None:
    async def send(connection: ServerConnection) -> None:
        for number in (1, 2, 4, 4):
            await connection.send(mark(number, age_ms=50))
        await connection.send(json.dumps({"type": "SYNC_RESPONSE", "data": {"n": 9}}))
        await connection.wait_closed()

    async with server(send) as port:
        found = await counted(port, "-m", 4)
    assert (found["received"], found["lost"], found["gaps"], found["repeats"]) == (16, 0, 8, 4)
    assert 50 <= found["age_ms"]["min"] <= found["age_ms"]["p50"] <= found["age_ms"]["max"] < 5000


async def test_what_does_not_come_is_lost_and_who_is_closed_is_not_waited_for() -> None:
    async def send(connection: ServerConnection) -> None:
        await connection.send(mark(1))

    async with server(send) as port:
        found = await counted(port, "-m", 3)
    assert (found["received"], found["lost"], found["closed_early"]) == (4, 8, 4)


async def test_terminals_take_turns_in_what_they_say_first_and_wait_for_their_answers() -> None:
    said = defaultdict(list)

    async def answer(connection: ServerConnection) -> None:
        text = str(await connection.recv())
        assert connection.request is not None
        said[connection.request.path].append(text)
        for _ in range(1 if text == "a" else 3):
            await connection.send(mark(7))  # before it is synced it does not count
        await connection.send(mark(1))
        await connection.wait_closed()

    async with server(answer) as port:
        more = {"path": "/ws?restaurant=r{r}", "restaurants": 2, "first": [("a", 1), ("b", 3)]}
        found = await counted(port, "-m", 1, **more)
    assert {path: sorted(texts) for path, texts in said.items()} == {
        "/ws?restaurant=r0": ["a", "b"],
        "/ws?restaurant=r1": ["a", "b"],
    }
    assert (found["received"], found["gaps"]) == (TERMINALS, 0)


async def test_a_terminal_sends_its_next_change_when_the_last_is_acknowledged() -> None:
    heard: dict[int, list[int]] = defaultdict(list)

    async def acknowledge(connection: ServerConnection) -> None:
        async for text in connection:
            change = json.loads(text)
            assert change["at"] == f"r{change['of'] % 2}"
            heard[change["of"]].append(change["n"])
            await connection.send('{"type":"ACK","data":{"revision":1},"ref":"x"}')

    async with server(acknowledge) as port:
        found = await counted(port, "-B", CHANGE, "-a", 0.2, "-z", 0, restaurants=2)
    assert sorted(heard) == list(range(TERMINALS))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in heard.values())
    assert found["sent"] == found["acknowledged"] == sum(map(len, heard.values()))
    assert 0 < found["counted"] <= found["acknowledged"]
    assert found["refused"] == 0


async def test_a_terminals_first_change_is_measured_apart_from_its_others() -> None:
    connections: list[ServerConnection] = []

    async def pass_on(connection: ServerConnection) -> None:
        connections.append(connection)
        async for text in connection:
            late = json.loads(text)
            late["t"] -= 10**11 if late["n"] <= TERMINALS else 10**10
            for other in connections:
                await other.send(json.dumps(late))

    async with server(pass_on) as port:
        found = await counted(port, "-B", CHANGE, "-P", 1000, "-m", 3 * TERMINALS)
    assert found["received"] == TERMINALS * 3 * TERMINALS
    assert 10_000 <= found["age_ms"]["min"] <= found["age_ms"]["max"] < 100_000 <= found["first_ms"]["min"]


async def test_what_is_acknowledged_before_the_clock_runs_does_not_count() -> None:
    heard: list[str | bytes] = []

    async def acknowledge(connection: ServerConnection) -> None:
        async for text in connection:
            heard.append(text)
            await connection.send('{"type":"ACK","data":{}}')

    def run(port: int) -> dict[str, Any]:
        with crowd(port, TERMINALS, "-B", CHANGE, "-a", 60, "-z", 60) as terminals:
            terminals.begin()
            wait_until(lambda: len(heard) > 2 * TERMINALS)
            return terminals.result(end=True)

    async with server(acknowledge) as port:
        found = await asyncio.to_thread(run, port)
    assert found["acknowledged"] > found["counted"] == 0


async def test_a_refused_change_is_told() -> None:
    async def refuse(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send('{"type":"ERROR","data":{"code":"BUSY"}}')

    async with server(refuse) as port:
        found = await counted(port, "-B", CHANGE, "-a", 0.05, "-z", 0)
    assert found["refused"] == found["sent"] > 0
    assert found["acknowledged"] == 0


async def test_a_paced_load_takes_turns_and_each_change_goes_to_all() -> None:
    everybody: list[ServerConnection] = []
    senders: list[int] = []

    async def pass_on(connection: ServerConnection) -> None:
        everybody.append(connection)
        async for text in connection:
            senders.append(json.loads(text)["of"])
            for one in everybody:
                await one.send(text)

    async with server(pass_on) as port:
        found = await counted(port, "-B", CHANGE, "-P", 200, "-m", 8)
    assert sorted(senders) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (found["sent"], found["received"], found["lost"], found["gaps"]) == (8, 8 * TERMINALS, 0, 0)


async def test_who_is_not_let_in_is_told_apart_from_who_is_slow() -> None:
    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "")

    async def nothing(_: ServerConnection) -> None: ...

    async with server(nothing, process_request=refuse) as port:
        with pytest.raises(RuntimeError, match=r"not all of 4 terminals came in: refused: HTTP/1\.1 403"):
            await counted(port)
