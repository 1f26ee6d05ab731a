"""The read-only HTTP API: what it returns is what the database holds, page by page, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from relay.schema import apply
from tests.cluster import TestCluster
from tests.relays import LocalRelay, local_relay
from tests.terminals import Row, Terminal, state_in_database, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
DISH = {"id": "d1", "name": "Tea", "price": 5, "category": "Drinks", "description": "Hot"}
ORDER = {
    "id": "o1", "tableNumber": 1, "customerName": "Mya", "orderDate": "2026-01-02", "status": "pending", "total": 10,
    "items": [], "createdAt": "2026-01-02T03:04:05Z",
}  # fmt: skip
PATHS = ["/api/sync", "/api/changes", "/api/tables", "/api/menu", "/api/settings", "/api/orders"]


async def fill(terminal: Terminal) -> None:
    await terminal.table("add", TABLE)
    await terminal.dish("add_item", DISH)
    await terminal.dish("add_category", {"name": "Drinks"})
    await terminal.order("add", ORDER)
    await terminal.ask("UPDATE_SETTINGS", {"currency": "MMK"})


async def parsed(relay: LocalRelay, path: str, headers: dict[str, str] | None = None) -> Row:
    status, found, body = await relay.ask("GET", path, headers)
    assert (status, found["content-type"]) == (200, "application/json"), body
    answer: Row = json.loads(body, parse_float=Decimal)
    return answer


async def test_the_state_is_the_databases_at_once_after_every_acknowledged_change(
    relay: LocalRelay, database: str
) -> None:
    async with terminals(relay.url, 1) as (only,):
        await fill(only)
        for seats in range(5, 10):
            ack = await only.table("update", TABLE | {"seats": seats})
            found = await parsed(relay, "/api/sync")
            assert (found["revision"], found["epoch"], found["mode"]) == (ack["revision"], only.epoch, "snapshot")
            _, state = state_in_database(database)
            assert {row["id"]: row for row in found["tables"]} == state["tables"]
            assert {row["id"]: row for row in found["menuItems"]} == state["menu"]
            assert {row["id"]: row for row in found["orderHistory"]} == state["orders"]
            assert (sorted(found["categories"]), found["settings"]) == (state["categories"], state["settings"])
        with psycopg.connect(database) as connection:
            connection.execute("update pos.tables set seats = 12")
        found = await parsed(relay, "/api/tables")
        assert found == {"tables": [TABLE | {"seats": 12, "version": 7}], "epoch": only.epoch, "revision": 11}
        cut = {"epoch": only.epoch, "revision": 11}
        menu = {"menuItems": [DISH | {"version": 1}], "categories": ["Drinks"]}
        assert await parsed(relay, "/api/menu") == menu | cut
        assert await parsed(relay, "/api/settings") == {"settings": {"currency": "MMK"}} | cut
        assert await parsed(relay, "/api/orders") == {"orders": [ORDER | {"version": 1}], "before": None}


@pytest.mark.parametrize("path", ["/api/sync", "/api/tables", "/api/menu", "/api/settings"])
async def test_what_did_not_change_is_not_sent_again(relay: LocalRelay, path: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        await fill(only)
        status, headers, body = await relay.ask("GET", path)
        assert status == 200
        tag = headers["etag"]
        assert tag == f'"{only.epoch}-5"'
        assert headers["cache-control"] == "no-cache"
        for known in (tag, f"W/{tag}", f'"x", {tag}', f'"x",W/{tag},"y"', "*"):
            status, again, nothing = await relay.ask("GET", path, {"If-None-Match": known})
            assert (status, again["etag"], nothing) == (304, tag, ""), known
        for unknown in ('"x"', tag.strip('"'), f'"{only.epoch}-4"', ""):
            status, again, whole = await relay.ask("GET", path, {"If-None-Match": unknown})
            assert (status, again["etag"], whole) == (200, tag, body), unknown
        await only.table("update", {"id": "t1", "seats": 9})
        status, headers, _ = await relay.ask("GET", path, {"If-None-Match": tag})
        assert (status, headers["etag"]) == (200, f'"{only.epoch}-6"')


async def test_changes_are_the_terminals_messages_page_by_page(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        await fill(only)
        for seats in range(20):
            await only.table("update", TABLE | {"seats": seats})
        await only.reaches(25)
        paged: list[Any] = []
        while True:
            page = await parsed(relay, f"/api/changes?since={len(paged)}&limit=10")
            assert (page["epoch"], page["from"], page["revision"]) == (only.epoch, len(paged), 25)
            if not page["changes"]:
                break
            assert len(page["changes"]) == min(10, 25 - len(paged))
            paged += page["changes"]
        assert paged == [message for _, _, message in only.applied]
        assert (await parsed(relay, "/api/changes"))["changes"] == paged
        beyond = await parsed(relay, "/api/changes?since=9000")
        assert (beyond["changes"], beyond["revision"]) == ([], 25)


async def test_changes_that_are_pruned_are_gone(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (only,):
        await fill(only)
        with psycopg.connect(database) as connection:
            connection.execute("update pos.sync_log set created_at = now() - interval '40 days' where revision <= 3")
            connection.execute("select * from pos.prune_log(0, '30 days', 1000000, 1000)")
        for since in (0, 1, 2):
            status, _, body = await relay.get(f"/api/changes?since={since}")
            assert (status, body["error"]["code"], body["error"]["field"]) == (410, "GONE", "since")
        assert [c["revision"] for c in (await parsed(relay, "/api/changes?since=3"))["changes"]] == [4, 5]


@pytest.mark.parametrize("count", [0, 9, 10, 25])
async def test_orders_are_paged_from_the_newest_change(relay: LocalRelay, database: str, count: int) -> None:
    async with terminals(relay.url, 1) as (only,):
        for number in range(count):
            await only.order("add", ORDER | {"id": f"o{number}"})
        if count:
            await only.order("update", ORDER | {"id": "o3", "total": 11})
        newest_first = ([3] if count else []) + [n for n in reversed(range(count)) if n != 3]
        found: list[str] = []
        before: int | None = 2**63 - 1
        while before is not None:
            page = await parsed(relay, f"/api/orders?limit=10&before={before}")
            assert len(page["orders"]) <= 10
            found += [row["id"] for row in page["orders"]]
            before = page["before"]
        assert found == [f"o{number}" for number in newest_first]
        _, state = state_in_database(database)
        assert {row["id"]: row for row in (await parsed(relay, "/api/orders"))["orders"]} == state["orders"]
        await only.order("clear", {})
        assert await parsed(relay, "/api/orders") == {"orders": [], "before": None}


async def test_parameters_out_of_range_are_refused_by_name(relay: LocalRelay) -> None:
    numbers = ["-1", "x", "", "1.5", "1e3", "%2B1", "%201", "0x1", "%D9%A3", str(2**63), "9" * 5000, "null"]
    bad = [("changes", "since", value) for value in numbers]
    bad += [("orders", "before", value) for value in numbers]
    bad += [(path, "limit", value) for path in ("changes", "orders") for value in [*numbers, "0", "1001"]]
    for path, name, value in bad:
        status, _, body = await relay.get(f"/api/{path}?{name}={value}")
        assert (status, body["error"]["code"], body["error"]["field"]) == (400, "VALIDATION", name), (path, name, value)
    for good in ("changes?since=0&limit=1000&x=y", "orders?before=0&limit=1", f"changes?since={2**63 - 1}"):
        assert (await relay.get(f"/api/{good}"))[0] == 200, good


async def test_every_path_knows_the_unknown_restaurant(relay: LocalRelay) -> None:
    for path in PATHS:
        for slug in ("nope", "%00", "a%20b"):
            status, _, body = await relay.get(f"{path}?restaurant={slug}")
            assert (status, body["error"]["code"], body["error"]["field"]) == (404, "VALIDATION", "restaurant"), path
        assert (await relay.get(f"{path}?restaurant=default"))[0] == 200


async def test_a_head_request_is_answered_like_a_get_without_a_body(relay: LocalRelay) -> None:
    for path in [*PATHS, "/", "/health", "/health/live", "/health/ready"]:
        status, headers, body = await relay.ask("HEAD", path)
        got_status, got_headers, _ = await relay.ask("GET", path)
        assert (status, body) == (got_status, ""), path
        assert headers.keys() == got_headers.keys()
        assert headers.get("etag") == got_headers.get("etag")


async def test_what_is_not_there_is_not_found_and_nothing_can_be_written(relay: LocalRelay) -> None:
    for path in (
        "/nope",
        "/api",
        "/api/",
        "/api/nope",
        "/api/sync/x",
        "/health/x",
        "/ws",
        "/ws/x",
        "/api/../etc/passwd",
    ):
        assert (await relay.ask("GET", path))[0] == 404, path
    for path in [*PATHS, "/", "/health", "/health/live", "/health/ready"]:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert (await relay.ask(method, path))[0] == 405, (method, path)


async def test_health_counts_the_terminals(relay: LocalRelay) -> None:
    async with terminals(relay.url, 3):
        health = await relay.health()
        assert (health["status"], health["clients"], health["draining"]) == ("healthy", 3, False)
        assert isinstance(health["timestamp"], int)
        assert health["database"] == {"reached": True}
        assert (health["listener"]["hearing"], health["listener"]["lag"]) == (True, 0)
        assert health["listener"]["silentSeconds"] >= 0
    await until(lambda: not relay.relay.connections.open)
    assert (await relay.health())["clients"] == 0
    assert (await relay.get("/health/live"))[2] == {"status": "live"}
    assert (await relay.get("/health/ready"))[2] == {"status": "ready"}


async def test_without_a_database_the_relay_says_so_and_lives(private_cluster: TestCluster) -> None:
    private_cluster.create_database("pos")
    conninfo = private_cluster.conninfo("pos")
    await apply(conninfo)
    async with local_relay(conninfo, sweep_seconds=0.2) as relay:
        await asyncio.to_thread(private_cluster.stop)

        async def down() -> bool:
            return (await relay.get("/health"))[0] == 503

        await until(down, within=10.0)
        assert (await relay.health())["status"] == "down"
        assert [(await relay.get(f"/health/{name}"))[0] for name in ("live", "ready")] == [200, 503]
        for status, headers, body in await asyncio.gather(*map(relay.get, PATHS)):
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "UNAVAILABLE", "2")
        await asyncio.to_thread(private_cluster.start)
        await until(relay.ready, within=15.0)
        assert (await relay.get("/api/sync"))[0] == 200
