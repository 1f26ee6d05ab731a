"""Big things: photographs, changes made in SQL, and what is too big to come in."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.relays import LocalRelay, clean_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
DISH = {"id": "d1", "name": "Tea", "price": 5, "category": "Drinks", "description": "Hot"}
KIB = 1024
DEFAULT_LIMIT = 1024 * KIB


def photograph(size: int) -> str:
    # No two places alike, so that a piece which is lost, doubled or out of place shows.
    return "data:image/jpeg;base64," + "".join(f"{n:08x}" for n in range(size // 8))


def text_of(size: int, **row: object) -> str:
    """An UPDATE_MENU of exactly so many bytes."""
    text = json.dumps({"type": "UPDATE_MENU", "id": "m", "data": {"action": "add_item", "data": {**row, "image": ""}}})
    return text.replace('"image": ""', '"image": "%s"' % ("x" * (size - len(text))))


async def test_a_photograph_of_300_kilobytes_arrives_whole_live_and_synced(relay: LocalRelay, database: str) -> None:
    image = photograph(300 * KIB)
    async with terminals(relay.url, 3) as (sender, *others):
        await sender.dish("add_item", DISH | {"image": image})
        for one in others:
            assert (await one.change(1))["data"]["data"]["image"] == image
        async with Terminal(relay.url) as late:
            assert late.menu["d1"]["image"] == image
            await agree(database, sender, *others, late)
        behind = Terminal(relay.url)
        behind.epoch, behind.revision = sender.epoch, 0
        await behind.connect()
        await agree(database, behind)
        assert behind.snapshots == []
        await behind.close()
    assert (await relay.get("/api/menu"))[2]["menuItems"][0]["image"] == image


@pytest.mark.parametrize("mebibytes", [2, 9])  # 9: more than the whole window may hold, so they are resynced
async def test_a_big_change_made_in_sql_arrives_in_its_place(relay: LocalRelay, database: str, mebibytes: int) -> None:
    image = photograph(mebibytes * KIB * KIB)
    async with terminals(relay.url, 2) as found:
        await found[0].table("add", TABLE)
        with psycopg.connect(database) as connection:
            connection.execute("update pos.tables set seats = 5")
            connection.execute(
                "insert into pos.menu_items (restaurant_id, id, name, price, image) values (1, 'd1', 'x', 1, %s)",
                (image,),
            )
            connection.execute("update pos.tables set seats = 6")
        await found[0].table("update", {"id": "t1", "seats": 7})
        await agree(database, *found, within=20.0)
        for one in found:
            if mebibytes == 2:
                assert [revision for _, revision, _ in one.applied] == [1, 2, 3, 4, 5]
            assert one.menu["d1"]["image"] == image
        async with Terminal(relay.url) as late:
            await agree(database, late)


async def test_a_mutation_right_after_a_big_snapshot_is_not_kept_waiting(relay: LocalRelay, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            """insert into pos.menu_items (restaurant_id, id, name, price, image)
               select 1, n::text, 'x', 1, repeat('x', 300000) from generate_series(1, 20) as n"""
        )
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", TABLE, within=0.7)  # RELIEF_SECONDS is 1
        await agree(database, only)


@pytest.mark.parametrize("limit", [DEFAULT_LIMIT, 2 * KIB, 2 * DEFAULT_LIMIT])
async def test_a_message_above_the_limit_closes_1009_and_nothing_else_breaks(
    database: str, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    async with (
        clean_relay(database, caplog, max_message_bytes=limit) as relay,
        terminals(relay.url, 2) as (other, sender),
    ):
        assert (await sender.hears("WELCOME"))["data"]["maxMessageBytes"] == limit
        await sender.send_text(text_of(limit, **DISH))
        assert (await sender.hears("ACK"))["data"] == {"revision": 1, "version": 1}
        await sender.say("UPDATE_TABLE", {"action": "add", "data": TABLE})
        await sender.send_text(text_of(limit + 1, **DISH))
        await until(lambda: sender.close_code is not None)
        assert sender.close_code == 1009
        await other.table("update", {"id": "t1", "seats": 6})  # what came before the big one is applied
        await agree(database, other)
        await sender.close()
        await sender.connect()
        await agree(database, sender)


@pytest.mark.parametrize("letter", ["x", "မ"])
async def test_a_message_to_others_may_have_four_kibibytes_and_not_a_letter_more(
    relay: LocalRelay, letter: str
) -> None:
    room = 4096 - len('{"text":""}')
    fits = letter * (room // len(letter.encode()))
    async with terminals(relay.url, 2) as (sender, other):
        await sender.send_text(f'{{"type":"MESSAGE","id":"1","data":{{"text":"{fits}"}}}}')
        assert (await sender.hears("ACK"))["ref"] == "1"
        await sender.send_text(f'{{"type":"MESSAGE","id":"2","data":{{"text":"{fits}{letter}"}}}}')
        error = await sender.hears("ERROR")
        assert (error["ref"], error["data"]["code"], error["data"]["field"]) == ("2", "TOO_LARGE", "data")
        await sender.table("add", TABLE)
        await other.change(1)
        assert [m["data"]["text"] for m in other.received if m["type"] == "MESSAGE"] == [fits]
