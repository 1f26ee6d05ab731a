"""What a relay tells of itself under /api/board, and who may look."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from relay import terminals
from tests.e2e.apps import sql
from tests.e2e.strangers import bearer
from tests.e2e.test_slow_readers import narrow
from tests.flow import add_tables, make_changes
from tests.relays import LocalRelay, local_relay
from tests.terminals import Row, Terminal, agree
from tests.terminals import terminals as connected
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
STEPS = ["received", "begun", "committed"]


async def board(relay: LocalRelay, path: str = "/api/board", **headers: str) -> Row:
    """What one relay tells of itself."""
    status, found, body = await relay.ask("GET", path, headers)
    assert (status, found["content-type"], found["cache-control"]) == (200, "application/json", "no-store"), body
    [here] = [one for one in json.loads(body)["instances"] if one["here"]]
    assert isinstance(here, dict)
    return here


async def seen(relay: LocalRelay, revision: int, **headers: str) -> Row:
    """The same, once a revision was passed on."""
    found: list[Row] = []

    async def passed() -> bool:
        found[:] = [await board(relay, **headers)]
        return any(way["revision"] == revision for way in found[0]["ways"])

    await until(passed, what=f"the way of revision {revision}")
    return found[0]


async def test_a_changes_way_is_told_step_by_step_in_order(database: str, relay: LocalRelay) -> None:
    before = time.time() * 1000
    async with Terminal(relay.url, "till") as till, Terminal(relay.url, "bar") as bar:
        await till.table("add", TABLE)
        await agree(database, till, bar)
        here = await seen(relay, 1)
    after = time.time() * 1000
    [way], [sent] = here["ways"], here["sent"]
    assert (way["restaurant"], way["type"], way["action"], way["rowId"]) == ("default", "UPDATE_TABLE", "add", "t1")
    assert (way["clientId"], sent["clientId"], sent["revision"]) == ("till", "till", 1)
    assert (way["terminals"], way["missing"]) == (2, 0)
    # The database's clock is this machine's here; its milliseconds are cut off.
    assert before - 1 <= sent["received"] <= sent["begun"] <= way["given"] + 1 <= sent["committed"] + 1 <= after + 1
    assert way["given"] - 1 <= way["read"] <= way["written"] <= after
    assert way["heard"] <= way["read"]
    [[second, changes, mean, most]] = here["seconds"]
    assert (second, changes) == (int(way["written"] / 1000), 1)
    assert mean == most == pytest.approx(max(0.0, way["written"] - way["given"]), abs=0.2)


async def test_a_change_made_in_sql_has_a_way_without_a_beginning(database: str, relay: LocalRelay) -> None:
    add_tables(database)
    async with Terminal(relay.url) as one:
        await asyncio.to_thread(make_changes, database, 3)
        await agree(database, one)
        here = await seen(relay, one.revision)
    assert here["sent"] == []
    assert [way["clientId"] for way in here["ways"]] == ["database"] * len(here["ways"])


async def test_who_does_not_read_is_named_first_with_what_waits(database: str) -> None:
    add_tables(database)
    async with local_relay(database, window_bytes=1 << 25) as relay, connected(relay.url, 5) as others:
        slow, quick = await narrow(relay.url, "slow"), others[0]
        slow.stop_reading()
        for _ in range(16):
            await asyncio.to_thread(make_changes, database, 10, size=100_000)
            await agree(database, *others)
        here = await seen(relay, quick.revision)
        first, second, *_ = here["terminals"]
        assert (first["clientId"], first["lagging"], first["state"]) == ("slow", True, "live")
        assert first["waitingBytes"] > 0
        assert first["revision"] < quick.revision == second["revision"]
        assert (second["lagging"], second["waitingBytes"]) == (False, 0)
        assert (here["lagging"], here["terminalCount"]) == (1, 6)
        newest = max(here["ways"], key=lambda way: int(way["revision"]))
        assert (newest["terminals"], newest["missing"]) == (6, 1)
        slow.read_again()
        await agree(database, slow)
        await until(lambda: _missing(relay, quick.revision), what="nobody to lack it")
        await slow.close()


async def _missing(relay: LocalRelay, revision: int) -> bool:
    return all(way["missing"] == 0 for way in (await board(relay))["ways"] if way["revision"] == revision)


async def test_one_restaurant_is_shown_alone_where_it_is_named(database: str, relay: LocalRelay) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('bistro', 'Bistro')")
    async with Terminal(relay.url, "till") as till, Terminal(f"{relay.url}?restaurant=bistro", "bar") as bar:
        await till.table("add", TABLE)
        await bar.table("add", TABLE)
        await seen(relay, 1)
        both, bistro = await board(relay), await board(relay, "/api/board?restaurant=bistro")
    assert {one["restaurant"] for one in both["terminals"]} == {"default", "bistro"}
    for part in ("terminals", "ways", "sent"):
        assert {one["restaurant"] for one in bistro[part]} == {"bistro"}, part
    assert [one["slug"] for one in bistro["restaurants"]] == ["bistro"]
    assert (await relay.ask("GET", "/api/board?restaurant=nowhere"))[0] == 404


async def test_the_board_is_a_managers_and_shows_its_restaurant_alone(database: str) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('bistro', 'Bistro')")
    tokens = {role: await terminals.add(database, "default", role, role) for role in ("terminal", "display", "manager")}
    other = await terminals.add(database, "bistro", "till", "terminal")
    async with local_relay(database, auth="token") as relay:
        async with Terminal(relay.url, token=tokens["terminal"]) as till, Terminal(relay.url, token=other) as bar:
            await till.table("add", TABLE)
            await bar.table("add", TABLE)
            here = await seen(relay, 1, **header(tokens["manager"]))
        assert [(one["name"], one["role"], one["restaurant"]) for one in here["terminals"]] == [
            ("terminal", "terminal", "default")
        ]
        assert {one["restaurant"] for part in ("ways", "sent") for one in here[part]} == {"default"}
        assert (here["terminalCount"], [one["slug"] for one in here["restaurants"]]) == (1, ["default"])
        for path in ("/api/board", "/board"):
            for role, expected in (("terminal", 403), ("display", 403), ("manager", 200)):
                assert (await relay.ask("GET", path, header(tokens[role])))[0] == expected, (path, role)
            assert (await relay.ask("GET", path, header(tokens["manager"][:-1] + "-")))[0] == 401, path
        assert (await relay.ask("GET", "/api/board"))[0] == 401
        status, _, body = await relay.ask("GET", "/board")
        assert (status, "till" in body) == (200, False), "the page itself, which asks for a token, tells nothing"


def header(token: str) -> dict[str, str]:
    found: dict[str, Any] = bearer(token)["additional_headers"]
    return found


async def test_a_foreign_page_gets_the_files_of_the_page_and_no_figure(database: str) -> None:
    token = await terminals.add(database, "default", "office", "manager")
    async with local_relay(database, auth="token") as relay:
        for origin in ("http://elsewhere.example", f"http://127.0.0.1:{relay.port}"):
            shown = {"Origin": origin, **header(token)}
            assert (await relay.ask("GET", "/board/main.js", shown))[0] == 200
            assert (await relay.ask("GET", "/api/board", shown))[0] == 403


# --- several relays


async def all_boards(relay: LocalRelay, path: str = "/api/board") -> list[Row]:
    """What all relays tell, as one of them passes it on."""
    status, _, body = await relay.ask("GET", path)
    assert status == 200, body
    found: list[Row] = json.loads(body)["instances"]
    return found


async def test_every_relay_tells_of_all(database: str, relay: LocalRelay) -> None:
    async with (
        local_relay(database) as other,
        Terminal(relay.url, "till") as till,
        Terminal(other.url, "bar") as bar,
    ):
        revision = (await till.table("add", TABLE))["revision"]
        await agree(database, till, bar)

        async def told() -> bool:
            found[:] = [await all_boards(one) for one in (relay, other)]
            return all(len(boards) == 2 and all(one["answered"] for one in boards) for boards in found)

        found: list[list[Row]] = []
        await until(told, what="both relays to tell of each other")
        for boards, name in zip(found, ("till", "bar"), strict=True):
            assert [one["here"] for one in boards] == [True, False]
            assert boards[0]["terminals"][0]["clientId"] == name
            assert {one["terminals"][0]["clientId"] for one in boards} == {"till", "bar"}
            assert [[way["revision"] for way in one["ways"]] for one in boards] == [[revision], [revision]]
            assert sum(len(one["sent"]) for one in boards) == 1, "only one of them took it in"
        assert [one["name"] for one in found[0]] == [one["name"] for one in reversed(found[1])]


async def test_a_manager_hears_of_other_relays_no_more_than_of_its_own(database: str) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('bistro', 'Bistro')")
    async with (
        local_relay(database) as relay,
        local_relay(database) as other,
        Terminal(f"{other.url}?restaurant=bistro", "theirs"),
        Terminal(other.url, "ours"),
    ):

        async def told() -> bool:
            found[:] = (await all_boards(relay, "/api/board?restaurant=default"))[1:]
            return bool(found) and found[0]["answered"]

        found: list[Row] = []
        await until(told, what="the other relay's board")
        assert [one["clientId"] for one in found[0]["terminals"]] == ["ours"]
        assert [one["slug"] for one in found[0]["restaurants"]] == ["default"]
