"""Fifty restaurants whose every name and id is somebody else's as well, and not one row that reaches a neighbour."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import quote

import psycopg
import pytest

from tests.chaos.history import History, heads_of
from tests.crowd import Crowd, crowd
from tests.relays import RelayProcess, relay_process
from tests.terminals import Row, Terminal, agree, terminals
from tests.waiting import until

DELIVERIES = int(os.environ.get("ISOLATION_DELIVERIES") or 1_000_000)
LIGHT = 16  # terminals in each restaurant, eight at each relay
# Names that a comparison without case, a pattern, a number or a key word would take for one another.
SLUGS = [
    *("default", "Default", "DEFAULT", "default.", "default-", "default_", "defaul", "default0"),
    *("a_c", "a.c", "a-c", "abc", "aXc", "A_C", "0", "00", "01", "1", "1.0", "1e0", "2", "3", "02", "1-1", "1--"),
    *("null", "NULL", "None", "nil", "true", "false", "NaN", "undefined", "pos", "pos.tables", "restaurants", "public"),
    *("r", "r.", "r_", "r-", "rr"),
]
LONGEST = ["l" * 62 + end for end in "abcdefgh"]  # 63 characters, of which the last one differs
# Ids of rows, the same in every restaurant: somebody's slug, number or token, and what ends a string or a statement.
IDS = (
    "1",
    "2",
    "default",
    "Default",
    "%",
    "_",
    "%s",
    "$1",
    "' or 'a' = 'a",
    "'; delete from pos.tables; --",
    "../a_c",
    "\\",
    '"}],"x":[{"',
    "ကုလားပဲ\u202e",
    "{}",
    "x" * 128,
)
MARK = re.compile(rb"of-[0-9a-f]{16}")
ROUNDS = 16  # of changes, before it is waited for
ROUND = """
    update pos.tables as t set extra = t.extra || jsonb_build_object('round', %(round)s::integer)
    where t.id = any (%(ids)s)
"""


@pytest.mark.timeout(120 + DELIVERIES // 10_000)
async def test_of_a_million_deliveries_in_fifty_restaurants_none_is_anothers(database: str) -> None:
    marks = found_restaurants(database)
    assert len(marks) == 50
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(relay_process(database)) for _ in range(2)]
        tills = [
            (await stack.enter_async_context(terminals(f"{relays[turn % 2].url}?restaurant={slug}", 1)))[0]
            for turn, slug in enumerate(marks)
        ]
        for till in tills:
            till.client_id = "till-1"
        light = await stack.enter_async_context(crowd([one.url for one in relays], [*marks], LIGHT * len(marks)))
        await asyncio.gather(*(sells(till, slug, [*marks], marks) for till, slug in zip(tills, marks, strict=True)))
        deliveries = await floods(database, light)
        assert deliveries >= DELIVERIES
        assert light.faults == [], light.faults[:5]
        compared = await asyncio.to_thread(is_own, database, light, marks)
        for till, slug in zip(tills, marks, strict=True):
            said = {mark for message in till.received for mark in MARK.findall(str(message).encode())}
            assert said == {marks[slug].encode()}, f"{slug} was sent what is of {said}"
            await agree(database, till, slug=slug)
        for relay in relays:
            await serves_its_own(relay, marks)
        print(f"{deliveries} deliveries of {compared} changes in {len(marks)} restaurants, 0 foreign rows")


def found_restaurants(conninfo: str) -> dict[str, str]:
    """Restaurants with these slugs, and what marks the rows of each: nothing else in the test is hexadecimal."""
    slugs = [*SLUGS, *LONGEST][:50]
    marks = {slug: f"of-{number:016x}" for number, slug in enumerate(slugs, 0xFEED_0000_0000_0000)}
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "insert into pos.restaurants (slug, name) select s, s from unnest(%s::text[]) as s on conflict do nothing",
            (slugs,),
        )
    return marks


async def sells(till: Terminal, slug: str, slugs: list[str], marks: dict[str, str]) -> None:
    """What a till does, under the client id, mutation ids and row ids of every other, and as if it were elsewhere."""
    other = slugs[(slugs.index(slug) + 1) % len(slugs)]
    lures: Row = {"restaurant_id": slugs.index(other) + 1, "restaurant": other, "restaurantId": other, "slug": other}
    mine = {"of": marks[slug], **lures}
    numbers = iter(range(1, 1000))

    async def done(type_: str, data: Row) -> None:
        answer = await till.ask(type_, data, id=f"m-{next(numbers)}", **lures)
        assert answer["type"] == "ACK", answer

    table = {"seats": 4, "status": "available", **mine}
    for number, id in enumerate(IDS, 1):
        await done("UPDATE_TABLE", {"action": "add", "data": {"id": id, "number": number, **table}})
        dish = {"id": id, "name": id, "price": 1, "category": "c", "description": marks[slug]}
        await done("UPDATE_MENU", {"action": "add_item", "data": dish | mine})
    order = {"tableNumber": 1, "customerName": marks[slug], "status": "completed", "total": 1, "orderDate": ""}
    await done(
        "UPDATE_ORDER", {"action": "add", "data": {"id": "POS-1", "createdAt": "now", "items": [], **order} | mine}
    )
    await done("UPDATE_MENU", {"action": "add_category", "data": {"name": marks[slug]}})
    await done("UPDATE_SETTINGS", {"restaurantName": marks[slug], **mine})
    await till.say("MESSAGE", {"to": "till-1", **mine})


async def floods(conninfo: str, light: Crowd) -> int:
    """Change the tables of all restaurants in one statement, again and again, until there are deliveries enough."""
    rounds = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while light.deliveries < DELIVERIES:
            for _ in range(ROUNDS):
                rounds += 1
                await asyncio.to_thread(connection.execute, ROUND, {"round": rounds, "ids": list(IDS)})
            heads = heads_of(conninfo)
            full: Callable[[], bool] = partial(light.holds, heads)
            await until(full, within=60.0, what=f"all to hold what round {rounds} has changed")
    return light.deliveries


def is_own(conninfo: str, light: Crowd, marks: dict[str, str]) -> int:
    """Every change that was delivered has its restaurant's mark and no other, and is what the log holds of it."""
    for slug, sent in light.sent.items():
        for (_, revision), payload in sent.changes.items():
            found = set(MARK.findall(payload))
            assert found == {marks[slug].encode()}, f"change {revision} of {slug} is of {found}"
        History().follows(conninfo, slug, [sent])
    return sum(len(sent.changes) for sent in light.sent.values())


async def serves_its_own(relay: RelayProcess, marks: dict[str, str]) -> None:
    """What is read over HTTP is the restaurant's own as well, and a name that is nobody's is nobody."""
    for slug, mark in marks.items():
        for path in ("/api/sync", "/api/changes", "/api/tables", "/api/menu", "/api/orders", "/api/settings"):
            status, _, text = await relay.ask("GET", f"{path}?restaurant={slug}&limit=50")
            assert status == 200
            assert set(MARK.findall(text.encode())) == {mark.encode()}, f"{path} of {slug}"
    for name in no_names():
        status, _, text = await relay.ask("GET", f"/api/sync?restaurant={quote(name)}")
        assert status == 404, f"{name!r} is {text[:100]}"


def no_names() -> Iterator[str]:
    """Names that are nearly a restaurant's."""
    yield from ("dEFAULT", "default ", " default", "defau_t", "%", "_", "a%c", "' or 'a' = 'a", "l" * 62, "01.0", "-1")
