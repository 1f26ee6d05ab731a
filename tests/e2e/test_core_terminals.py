"""Terminals that speak only the core messages, and bodies in the forms they come in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.session import State
from tests.relays import LocalRelay
from tests.terminals import Row, Terminal, agree, state_in_database, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
DISH = {"id": "d1", "name": "Tea", "price": 5, "category": "Drinks", "description": "Hot"}
ORDER = {
    "id": "o1", "tableNumber": 1, "customerName": "Mya", "orderDate": "2026-01-02", "status": "pending", "total": 10,
    "items": [], "createdAt": "2026-01-02T03:04:05Z",
}  # fmt: skip
CORE = {
    "CLIENT_CONNECTED", "CLIENT_DISCONNECTED", "HEARTBEAT", "SYNC_REQUEST", "SYNC_RESPONSE", "UPDATE_TABLE",
    "UPDATE_MENU", "UPDATE_ORDER", "UPDATE_SETTINGS",
}  # fmt: skip


@asynccontextmanager
async def core_terminal(relay: LocalRelay, client_id: str = "core", *, hello: bool = True) -> AsyncIterator[Terminal]:
    """A terminal that has connected without a protocol, and whose messages have no id."""
    terminal = Terminal(relay.url, client_id)
    await terminal.connect(hello=False, sync=False)
    try:
        if hello:
            await terminal.say("CLIENT_CONNECTED", {"clientId": client_id, "name": "Till"}, timestamp=1767323045000)
        yield terminal
    finally:
        await terminal.close()


async def test_a_core_terminal_is_served_with_core_messages_alone(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (other,), core_terminal(relay) as core:
        await core.say("SYNC_REQUEST", {}, timestamp=1767323045000)
        assert (await core.hears("SYNC_RESPONSE"))["data"]["reason"] == "first-sync"
        said: list[tuple[str, Row]] = [
            ("UPDATE_TABLE", {"action": "add", "data": TABLE}),
            ("UPDATE_TABLE", {"action": "update", "data": TABLE | {"status": "occupied"}}),
            ("UPDATE_MENU", {"action": "add_category", "data": {"name": "Drinks"}}),
            ("UPDATE_MENU", {"action": "add_item", "data": DISH}),
            ("UPDATE_MENU", {"action": "update_item", "data": DISH | {"price": 6}}),
            ("UPDATE_ORDER", {"action": "add", "data": ORDER}),
            ("UPDATE_SETTINGS", {"currency": "MMK"}),
            ("UPDATE_TABLE", {"action": "delete", "data": {"id": "t1"}}),
            ("UPDATE_MENU", {"action": "delete_item", "data": {"id": "d1"}}),
            ("UPDATE_MENU", {"action": "delete_category", "data": {"name": "Drinks"}}),
            ("UPDATE_ORDER", {"action": "clear"}),
        ]
        for type_, data in said:
            await core.say(type_, data, timestamp=1767323045000)
        await core.reaches(len(said))
        await core.reaches(len(said))
        await other.table("add", TABLE)
        await core.reaches(len(said) + 1)
        await core.say("HEARTBEAT", {"ping": True})
        assert (await core.hears("HEARTBEAT"))["data"] == {"response": True, "revision": 12, "head": 12}
        assert {m["type"] for m in core.received} <= CORE
        await agree(database, core, other)
        await core.say("CLIENT_DISCONNECTED", {"clientId": "core"})
        await until(lambda: core.close_code == 1000)


async def test_a_goodbye_closes_1000_after_what_was_sent_before_it(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (other, leaving):
        for number in range(20):
            row = TABLE | {"id": f"t{number}", "number": number}
            await leaving.say("UPDATE_TABLE", {"action": "add", "data": row}, id=f"m{number}")
        await leaving.say("CLIENT_DISCONNECTED", {"clientId": leaving.client_id})
        await until(lambda: leaving.close_code is not None)
        assert leaving.close_code == 1000
        assert sum(m["type"] == "ACK" for m in leaving.received) == 20
        await other.reaches(20)
        await agree(database, other)


@pytest.mark.parametrize(
    "first_words",
    [
        ("CLIENT_CONNECTED", {"clientId": "quiet"}),
        ("HEARTBEAT", {"ping": True}),
        ("HEARTBEAT", {"response": True}),
        ("UPDATE_SETTINGS", {"theme": "light"}),
        ("MESSAGE", {}),
        ("NEXT_ORDER_ID", {}),
    ],
    ids=lambda words: words[0],
)
async def test_a_terminal_that_never_syncs_is_sent_changes_from_the_head_at_its_first_message(
    relay: LocalRelay, first_words: tuple[str, Row]
) -> None:
    async with terminals(relay.url, 1) as (other,), core_terminal(relay, "quiet", hello=False) as quiet:
        await other.table("add", TABLE)
        await other.reaches(1)
        assert quiet.received == []
        await quiet.say(*first_words)
        await until(
            lambda: [s for s in relay.relay.hub.sessions if s.client_id == "quiet" and s.state is State.LIVE],
            what="it to join",
        )
        await other.table("update", {"id": "t1", "seats": 6})
        await quiet.change(3 if first_words[0] == "UPDATE_SETTINGS" else 2)
        assert "revision" in quiet.received[-1]
        assert [m for m in quiet.received if m.get("revision") == 1] == []
        assert [m for m in quiet.received if m["type"] == "SYNC_RESPONSE"] == []


async def test_a_terminal_that_says_nothing_is_sent_nothing(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (other,), core_terminal(relay, hello=False) as quiet:
        await other.table("add", TABLE)
        await quiet.send_text('{"type": "CLIENT_DISCONNECTED"}')
        await until(lambda: quiet.close_code == 1000)
        assert quiet.received == []


BODIES = [
    ("UPDATE_TABLE", {"data": TABLE}),
    ("UPDATE_TABLE", {"action": None, "data": TABLE}),
    ("UPDATE_TABLE", TABLE),
    ("UPDATE_TABLE", TABLE | {"action": "add"}),
    ("UPDATE_MENU", {"data": DISH}),
    ("UPDATE_MENU", DISH),
    ("UPDATE_MENU", DISH | {"action": "add_item"}),
    ("UPDATE_MENU", {"action": "add_category", "data": "Drinks"}),
    ("UPDATE_MENU", {"action": "add_category", "name": "Drinks"}),
    ("UPDATE_ORDER", {"data": ORDER}),
    ("UPDATE_ORDER", ORDER),
    ("UPDATE_ORDER", ORDER | {"action": "update"}),
    ("UPDATE_ORDER", ORDER | {"items": "[]"}),
    ("UPDATE_SETTINGS", {"action": "update", "data": {"currency": "MMK"}}),
]


@pytest.mark.parametrize(("type_", "data"), BODIES)
async def test_bodies_are_understood_in_every_form(relay: LocalRelay, database: str, type_: str, data: Row) -> None:
    async with terminals(relay.url, 1) as (watcher,), core_terminal(relay) as core:
        await core.say(type_, data)
        change = (await watcher.change(1))["data"]
        expected = {
            "UPDATE_TABLE": {"action": "add", "data": TABLE | {"version": 1}},
            "UPDATE_MENU": {"action": "add_item", "data": DISH | {"version": 1}},
            "UPDATE_ORDER": {"action": "add", "data": ORDER | {"version": 1}},
            "UPDATE_SETTINGS": {"currency": "MMK"},
        }[type_]
        if data.get("action") == "add_category":
            expected = {"action": "add_category", "data": {"name": "Drinks"}}
        assert change == expected
        await agree(database, watcher)


async def test_version_and_revision_inside_a_body_are_ignored(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (only,):
        await only.table("add", TABLE | {"version": 99, "revision": "x"})
        assert (await only.change(1))["data"]["data"] == TABLE | {"version": 1}
        await only.ask("UPDATE_SETTINGS", {"theme": "dark", "version": 7, "revision": 8})
        assert (await only.change(2))["data"] == {"theme": "dark"}


@pytest.mark.parametrize("client_id", ["", ', "clientId": null', ', "clientId": "by-envelope"'])
async def test_a_client_id_is_always_a_string(relay: LocalRelay, client_id: str) -> None:
    async with terminals(relay.url, 1) as (watcher,):
        nameless = Terminal(relay.url)
        await nameless.connect(hello=False, sync=False)
        for text in (
            {"type": "SYNC_REQUEST"},
            {"type": "UPDATE_TABLE", "data": TABLE},
            {"type": "MESSAGE"},
            {"type": "HEARTBEAT"},
            {"type": "NEXT_ORDER_ID", "id": "n"},
            {"type": "UNHEARD_OF"},
        ):
            await nameless.send_text(json.dumps(text)[:-1] + client_id + "}")
        await nameless.hears("ERROR")
        await nameless.hears("ACK")
        await nameless.change(1)
        kinds = {m["type"] for m in nameless.received}
        assert kinds == {"UPDATE_TABLE", "SYNC_RESPONSE", "HEARTBEAT", "ACK", "ERROR"}
        named = (await watcher.hears("MESSAGE"))["clientId"]
        assert named == (await watcher.change(1))["clientId"]
        assert (named == "by-envelope") is ("by-envelope" in client_id)
        await nameless.close()
        assert nameless.faults == watcher.faults == []


async def test_two_sockets_may_use_one_client_id(relay: LocalRelay, database: str) -> None:
    async with Terminal(relay.url, "till") as one, Terminal(relay.url, "till") as two, Terminal(relay.url) as other:
        await one.table("add", TABLE)
        await two.table("update", {"id": "t1", "seats": 6})
        await other.say("MESSAGE", {"to": "till"})
        for socket in (one, two):
            await socket.hears("MESSAGE")
        await agree(database, one, two, other)
        assert (one.close_code, two.close_code) == (None, None)
        assert state_in_database(database)[0] == 2
        assert (await relay.health())["clients"] == 3
