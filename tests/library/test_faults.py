"""Terminals of both libraries at a real relay, through what happens to relays, networks, databases and terminals."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay import schema
from tests.cluster import TestCluster
from tests.library.driven import Driven, driven
from tests.library.shops import agree, execute, ledger, version_of
from tests.proxy import Proxy, proxied
from tests.relays import RelayProcess, relay_process
from tests.terminals import state_in_database

Row = dict[str, Any]

pytestmark = pytest.mark.timeout(180)
OTHER = {"python": "node", "node": "python"}


def through(proxy: Proxy) -> str:
    return f"ws://127.0.0.1:{proxy.port}/ws"


@pytest.fixture
def shop(database: str) -> str:
    asyncio.run(schema.seed(database))
    return database


def has_at_most(pending: int, report: Row) -> bool:
    return len(report["pending"]) <= pending


async def seat(terminal: Driven, seats: int) -> str:
    return await terminal.change("UPDATE_TABLE", "update", {"id": "4", "seats": seats})


async def test_a_relay_killed_under_a_full_outbox_loses_and_doubles_nothing(
    language: str, shop: str, tmp_path: Path
) -> None:
    async with relay_process(shop) as relay, driven(language, relay.url, tmp_path / "t") as terminal:
        await terminal.is_live()
        await relay.kill()
        ids = [await seat(terminal, seats) for seats in range(300)]
        for _ in range(3):
            await relay.start()
            least = len((await terminal.report())["pending"]) - 50
            await terminal.reports(partial(has_at_most, least))
            await relay.kill()
        await relay.start()
        await agree(shop, terminal)
    assert ledger(shop) == dict.fromkeys(ids, 1)
    assert version_of(shop, "4") == 1 + 300
    assert state_in_database(shop)[1]["tables"]["4"]["seats"] == 299


async def test_a_terminal_killed_while_it_sends_loses_and_doubles_nothing(
    language: str, shop: str, tmp_path: Path
) -> None:
    async with relay_process(shop) as relay, driven(language, relay.url, tmp_path / "t") as terminal:
        await terminal.is_live()
        ids = []
        for turn in range(5):
            ids += [await seat(terminal, turn * 20 + n) for n in range(20)]
            # In the middle: some are acknowledged, one is on its way, the others wait.
            await terminal.kill()
            await terminal.start()
        await agree(shop, terminal)
    assert ledger(shop) == dict.fromkeys(ids, 1)
    assert version_of(shop, "4") == 1 + 100
    assert state_in_database(shop)[1]["tables"]["4"]["seats"] == 99


async def test_a_terminal_killed_between_committing_and_ack_does_nothing_twice(
    language: str, shop: str, tmp_path: Path
) -> None:
    async with (
        relay_process(shop) as relay,
        proxied(f"port={relay.port}") as proxy,
        driven(language, through(proxy), tmp_path / "t") as terminal,
    ):
        await terminal.is_live()
        proxy.deaf_to_client = True
        id_ = await seat(terminal, 9)
        await terminal.reports(lambda _: ledger(shop) == {id_: 1}, "committed")
        assert (await terminal.report())["pending"] == [id_]
        await terminal.kill()
        proxy.deaf_to_client = False
        await terminal.start()
        assert (await terminal.report())["pending"] == [id_]
        await agree(shop, terminal)
    assert (ledger(shop), version_of(shop, "4")) == ({id_: 1}, 2)


async def test_a_partition_is_noticed_and_what_was_done_on_both_sides_is_kept(
    language: str, shop: str, tmp_path: Path
) -> None:
    async with (
        relay_process(shop) as relay,
        proxied(f"port={relay.port}") as proxy,
        driven(language, through(proxy), tmp_path / "t", timing={"heartbeat": 0.5}) as terminal,
    ):
        await terminal.is_live()
        proxy.deaf = True
        ids = [await terminal.change("UPDATE_TABLE", "update", {"id": "3", "status": "occupied"})]
        execute(shop, "update pos.tables set seats = 7 where number = 4")
        # No end of a connection is seen; only the silence tells.
        report = await terminal.reports(lambda r: r["state"] in ("offline", "connecting"))
        ids.append(await seat(terminal, 5))
        assert report["view"]["tables"]["3"]["status"] == "occupied"
        proxy.deaf = False
        proxy.reset()
        await agree(shop, terminal)
    assert ledger(shop) == dict.fromkeys(ids, 1)
    tables = state_in_database(shop)[1]["tables"]
    assert (tables["4"]["seats"], tables["3"]["status"]) == (5, "occupied")


async def test_after_a_restore_it_holds_what_the_database_holds(
    language: str, private_cluster: TestCluster, tmp_path: Path
) -> None:
    private_cluster.create_database("shop")
    shop = private_cluster.conninfo("shop")
    await schema.apply(shop)
    await schema.seed(shop)
    private_cluster.say("create database backup template shop")
    async with relay_process(shop) as relay, driven(language, relay.url, tmp_path / "t") as terminal:
        await terminal.change("UPDATE_TABLE", "add", {"id": "t9", "number": 9, "seats": 2, "status": "available"})
        await terminal.change("UPDATE_TABLE", "delete", {"id": "1"})
        (before,) = await agree(shop, terminal)
        await relay.stop()
        kept = await seat(terminal, 12)
        private_cluster.say("drop database shop")
        private_cluster.say("create database shop template backup")
        await relay.start()
        await terminal.reports(lambda r: not r["pending"])
        (after,) = await agree(shop, terminal)
    assert after["epoch"] != before["epoch"]
    assert "t9" not in after["view"]["tables"]
    assert "1" in after["view"]["tables"]
    assert ledger(shop)[kept] == 1
    assert after["view"]["tables"]["4"]["seats"] == 12


async def test_two_terminals_edit_one_table_while_the_relay_is_away(language: str, shop: str, tmp_path: Path) -> None:
    async with (
        relay_process(shop) as relay,
        driven(language, relay.url, tmp_path / "one") as one,
        driven(OTHER[language], relay.url, tmp_path / "two") as two,
    ):
        for terminal in (one, two):
            await terminal.is_live()
        await relay.kill()
        lines = [{"id": f"l{n}", "name": "Tea", "price": 800.5, "quantity": n} for n in (1, 2, 3)]
        for terminal, items in ((one, lines[:2]), (two, lines[2:])):
            await terminal.change("UPDATE_TABLE", "add_items", {"id": "4", "orderId": "POS-1", "items": items})
            table = (await terminal.report())["view"]["tables"]["4"]
            assert (table["status"], table["orderItems"]) == ("occupied", items)
            await terminal.change("UPDATE_TABLE", "update", {"id": "5", "seats": 3 + len(items)}, ifVersion=1)
        await relay.start()
        reports = await agree(shop, one, two)
    table = reports[0]["view"]["tables"]["4"]
    assert sorted(line["id"] for line in table["orderItems"]) == ["l1", "l2", "l3"]
    assert table["orderTotal"] == 800.5 * 6
    # Both saw version 1 of table 5: one has it, the other is told.
    (told,) = [refused for report in reports for refused in report["refused"]]
    assert (told["code"], told["current"]["version"]) == ("CONFLICT", 2)


SALE: Row = {"tableNumber": 1, "customerName": None, "orderDate": "x", "total": 3, "items": []}
LINES = [{"id": "a", "price": 2.5}, {"id": "b", "price": 4}]
ASKED: list[tuple[str, str, Row]] = [
    ("UPDATE_TABLE", "update", {"id": "1", "status": "reserved", "customer": "Su", "guests": 2}),
    ("UPDATE_TABLE", "update", {"id": "1", "seats": 3}),
    ("UPDATE_TABLE", "add", {"id": "t9", "number": 9, "seats": 2, "status": "available"}),
    ("UPDATE_TABLE", "update", {"id": "t10", "number": 10, "seats": 2, "status": "available"}),
    ("UPDATE_TABLE", "delete", {"id": "2"}),
    ("UPDATE_TABLE", "add_items", {"id": "3", "orderId": "P-1", "items": LINES}),
    ("UPDATE_TABLE", "add_items", {"id": "3", "items": [{"id": "b", "quantity": 3}]}),
    ("UPDATE_TABLE", "update_item", {"id": "3", "items": [{"id": "a", "quantity": 2}]}),
    ("UPDATE_TABLE", "void_item", {"id": "3", "items": [{"id": "b"}]}),
    ("UPDATE_MENU", "update_item", {"id": "1", "price": 2700}),
    ("UPDATE_MENU", "add_item", {"id": "d", "name": "D", "price": 1, "category": "", "description": ""}),
    ("UPDATE_MENU", "delete_item", {"id": "2"}),
    ("UPDATE_MENU", "add_category", {"name": "Tonight"}),
    ("UPDATE_MENU", "delete_category", {"name": "Pizza"}),
    ("UPDATE_ORDER", "add", {"id": "old", "status": "completed", "createdAt": 1, **SALE}),
    ("UPDATE_ORDER", "clear", {}),
    ("UPDATE_ORDER", "add", {"id": "o", "status": "pending", "createdAt": 2, "note": "n", **SALE}),
    ("UPDATE_ORDER", "update", {"id": "o", "status": "completed"}),
    ("UPDATE_ORDER", "void", {"id": "o"}),
]
MUTATIONS: list[tuple[str, Row]] = [
    *((type_, {"action": action, "data": body}) for type_, action, body in ASKED),
    ("UPDATE_SETTINGS", {"theme": "dark", "new": {"a": [1, 2]}}),
]


def without_versions(view: Row) -> Row:
    def plain(row: Row) -> Row:
        return {key: value for key, value in row.items() if key != "version"}

    return {
        name: {id_: plain(row) for id_, row in found.items()}
        if name in ("tables", "menuItems", "orderHistory")
        else found
        for name, found in view.items()
    }


async def test_what_is_shown_before_the_relay_answers_is_what_comes_of_it(
    language: str, shop: str, tmp_path: Path
) -> None:
    async with relay_process(shop) as relay, driven(language, relay.url, tmp_path / "t") as terminal:
        await terminal.is_live()
        await relay.kill()
        for type_, data in MUTATIONS:
            await terminal.do("change", type=type_, data=data)
        foreseen = (await terminal.report())["view"]
        await relay.start()
        (report,) = await agree(shop, terminal)
    assert report["refused"] == []
    assert without_versions(foreseen) == without_versions(report["view"])


BY_HAND = (
    "update pos.tables set seats = seats % 9 + 1 where number % 2 = 0",
    "update pos.menu_items set price = price + 0.25",
    "delete from pos.categories where name = 'Pizza'",
    "insert into pos.categories (restaurant_id, name) values (1, 'Pizza') on conflict do nothing",
    "update pos.restaurants set settings = settings || jsonb_build_object('n', random())",
)


class History:
    """Anything a restaurant may do, at any time, by dice."""

    def __init__(self, shop: str, relay: RelayProcess, terminals: list[Driven], seed: int) -> None:
        self.shop, self.relay, self.terminals, self.dice = shop, relay, terminals, random.Random(seed)
        self.ids: list[str] = []

    async def step(self) -> None:
        deeds = [self.edit] * 20 + [self.by_hand] * 4 + [self.kill_relay, self.kill_terminal]
        await self.dice.choice(deeds)()

    async def edit(self) -> None:
        dice = self.dice
        type_, data = dice.choice(MUTATIONS)
        if "data" in data and data["data"].get("id") in ("1", "2", "3") and dice.random() < 0.5:
            data = {**data, "data": {**data["data"], "id": dice.choice("123")}}
        options = {"ifVersion": dice.randint(1, 4)} if type_ == "UPDATE_TABLE" and dice.random() < 0.2 else {}
        self.ids.append(await dice.choice(self.terminals).do("change", type=type_, data=data, **options))

    async def by_hand(self) -> None:
        await asyncio.to_thread(execute, self.shop, self.dice.choice(BY_HAND))

    async def kill_relay(self) -> None:
        await self.relay.kill()
        for _ in range(5):
            await self.edit()
        await self.relay.start()

    async def kill_terminal(self) -> None:
        terminal = self.dice.choice(self.terminals)
        await terminal.kill()
        await terminal.start()


@pytest.mark.parametrize("seed", [1, 2])
async def test_after_any_history_both_libraries_hold_what_the_database_holds(
    language: str, shop: str, tmp_path: Path, seed: int
) -> None:
    async with (
        relay_process(shop) as relay,
        driven(language, relay.url, tmp_path / "one") as one,
        driven(OTHER[language], relay.url, tmp_path / "two") as two,
    ):
        history = History(shop, relay, [one, two], seed)
        for terminal in history.terminals:
            await terminal.is_live()
        for _ in range(80):
            await history.step()
        reports = await agree(shop, one, two)
    done = ledger(shop)
    refused = {each["id"] for report in reports for each in report["refused"]}
    assert set(done.values()) == {1}
    # Every mutation was done, or its terminal says that it was refused.
    assert set(done) | refused == set(history.ids)
    assert not set(done) & refused
