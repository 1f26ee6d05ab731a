"""MESSAGE: passed on to the other terminals, and kept nowhere."""

from __future__ import annotations

import psycopg
import pytest

from tests.relays import LocalRelay, local_relay
from tests.terminals import Row, Terminal, terminals
from tests.waiting import until

BELL = {"bell": "kitchen", "table": 4, "price": 1.10}


def passed(terminal: Terminal) -> list[Row]:
    return [m for m in terminal.received if m["type"] == "MESSAGE"]


async def all_answered(*found: Terminal) -> None:
    """Wait until each has been sent whatever was on its way to it: the change of a mutation that follows."""
    asker = found[0]
    revision = (await asker.ask("UPDATE_SETTINGS", {"turn": len(asker.received)}))["data"]["revision"]
    for one in found:
        await one.change(revision)


async def test_a_message_goes_to_all_others_and_not_back(relay: LocalRelay) -> None:
    async with terminals(relay.url, 3) as (sender, *others):
        answer = await sender.ask("MESSAGE", BELL)
        assert answer["data"] == {"revision": 0}
        for one in others:
            message = await one.hears("MESSAGE")
            assert {k: float(v) if k == "price" else v for k, v in message["data"].items()} == BELL
            assert message["clientId"] == sender.client_id
            assert isinstance(message["timestamp"], int)
            assert "revision" not in message
        await all_answered(sender, *others)
        assert [len(passed(one)) for one in (sender, *others)] == [0, 1, 1]


async def test_a_message_to_one_goes_to_that_one(relay: LocalRelay) -> None:
    async with terminals(relay.url, 3) as (sender, other, kitchen):
        await sender.say("MESSAGE", BELL | {"to": kitchen.client_id})
        assert (await kitchen.hears("MESSAGE"))["data"]["to"] == kitchen.client_id
        await sender.say("MESSAGE", BELL | {"to": "nobody"})
        await sender.say("MESSAGE", BELL | {"to": sender.client_id})
        await all_answered(sender, other, kitchen)
        assert [len(passed(one)) for one in (sender, other, kitchen)] == [0, 0, 1]


async def test_messages_arrive_in_the_order_they_were_sent(relay: LocalRelay) -> None:
    async with terminals(relay.url, 2) as (sender, other):
        for number in range(100):
            await sender.say("MESSAGE", {"number": number})
        await until(lambda: len(passed(other)) == 100)
        assert [m["data"]["number"] for m in passed(other)] == list(range(100))


async def test_a_message_without_data_is_passed_on(relay: LocalRelay) -> None:
    async with terminals(relay.url, 2) as (sender, other):
        await sender.send_text('{"type": "MESSAGE"}')
        assert (await other.hears("MESSAGE"))["data"] == {}


async def test_a_message_crosses_to_other_instances_and_to_no_other_restaurant(
    relay: LocalRelay, database: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("insert into pos.restaurants (slug, name) values ('other', 'Other')")
    async with (
        local_relay(database) as second_relay,
        Terminal(relay.url) as sender,
        Terminal(second_relay.url) as elsewhere,
        Terminal(f"{relay.url}?restaurant=other") as foreign,
        Terminal(f"{second_relay.url}?restaurant=other") as foreign_elsewhere,
    ):
        await sender.say("MESSAGE", BELL)
        assert (await elsewhere.hears("MESSAGE"))["clientId"] == sender.client_id
        await all_answered(foreign, foreign_elsewhere)
        assert passed(foreign) == passed(foreign_elsewhere) == []


async def test_a_message_is_no_change_and_not_kept(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (sender, other):
        await sender.say("MESSAGE", BELL)
        await other.hears("MESSAGE")
        async with Terminal(relay.url) as late:
            await all_answered(sender, late)
            assert passed(late) == []
            assert late.revision == 1
        with psycopg.connect(database) as connection:
            assert connection.execute("select type from pos.sync_log").fetchall() == [("UPDATE_SETTINGS",)]
            (persistence,) = connection.execute(
                "select relpersistence from pg_class where oid = 'pos.messages'::regclass"
            ).fetchone() or ("",)
            assert persistence == "u"
        assert (await relay.get("/api/changes"))[2]["changes"][0]["type"] == "UPDATE_SETTINGS"


@pytest.mark.parametrize("first_words", [("CLIENT_CONNECTED", {"clientId": "late"}), ("HEARTBEAT", {"ping": True})])
async def test_a_terminal_that_never_syncs_gets_messages_too(relay: LocalRelay, first_words: tuple[str, Row]) -> None:
    late = Terminal(relay.url, "late")
    async with terminals(relay.url, 1) as (sender,):
        await late.connect(hello=False, sync=False)
        await late.say(*first_words)
        await late.say("HEARTBEAT")
        await late.hears("HEARTBEAT")
        await sender.say("MESSAGE", BELL | {"to": "late"})
        await late.hears("MESSAGE")
        await late.close()
