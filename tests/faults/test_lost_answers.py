"""Whatever becomes of the connection, a mutation has one effect and its sender an answer."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import psycopg
import pytest

from relay import writer
from tests.faults.deeds import add_restaurant, execute, order, slow_down
from tests.load import load
from tests.proxy import Proxy, proxied
from tests.relays import local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

AT_WORK = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'relay write'"
END_WRITERS = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'relay write'"
TABLE = {"number": 1, "seats": 4, "status": "available"}


def log_of(conninfo: str) -> list[Any]:
    """The data of every change, oldest first."""
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute("select data from pos.sync_log order by revision")]


async def test_a_commit_whose_answer_is_lost_is_acknowledged_and_done_once(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 3) as many,
    ):
        proxy.lose_answer_to(b"needle")
        # All of these may share the batch whose answer is lost.
        answers = await asyncio.gather(
            many[0].table("add", {"id": "needle", **TABLE}),
            *(one.order("add", order(f"order-{n}")) for n, one in enumerate(many)),
            *(one.update("NEXT_ORDER_ID", "", {}) for one in many),
        )
        assert proxy.losses == 1
        assert all(answer["revision"] >= 1 for answer in answers)
        assert len({answer["orderId"] for answer in answers[4:]}) == 3
        assert len(log_of(database)) == 4
        await agree(database, *many)


async def test_without_an_id_too_it_is_done_once(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 2) as (first, other),
    ):
        proxy.lose_answer_to(b"needle")
        # Done twice, each of the next two would show.
        await first.say("UPDATE_ORDER", {"action": "add", "data": order("o1")})
        await first.say("MESSAGE", {"text": "needle"})
        await first.say("UPDATE_ORDER", {"action": "clear"})
        await first.say("UPDATE_SETTINGS", {"theme": "dark"})
        await first.update("UPDATE_SETTINGS", "update", {"theme": "light"})
        assert proxy.losses == 1
        await agree(database, first, other)
        assert other.revision == 4
        assert execute(database, "select count(*) from pos.messages") == 1
        await other.hears("MESSAGE")
        assert [m["data"] for m in other.received if m["type"] == "MESSAGE"] == [{"text": "needle"}]
        assert not [m for m in first.received if m["type"] == "ERROR"]


CLEARS = "select count(*) from pos.sync_log where action = 'clear'"


async def cut_off_in_the_middle(database: str, proxy: Proxy, terminal: Terminal) -> None:
    """What was said without an id is committed; the relay is not told so, and reaches its database no more."""
    await terminal.order("add", order("o1"))
    proxy.deaf_to_client = True
    await terminal.say("UPDATE_ORDER", {"action": "clear"})
    await until(lambda: execute(database, CLEARS) == 1, what="the commit")
    await proxy.stop()
    proxy.deaf_to_client = False


async def test_what_became_of_a_batch_is_found_out_after_most_of_a_day(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 2) as (first, other),
    ):
        await cut_off_in_the_middle(database, proxy, first)
        execute(database, "update pos.batches set created_at = created_at - interval '23 hours'")
        execute(database, "select pos.prune('90 days', 1000)")  # as another relay does meanwhile
        await proxy.start()
        await until(relay.ready, what="the relay to be ready again")
        await first.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
        assert execute(database, CLEARS) == 1
        assert not [m for m in first.received if m["type"] == "ERROR"]
        await agree(database, first, other)


async def test_what_will_never_be_found_out_is_said_and_not_done_again(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "KNOWN_SECONDS", 3.0)
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 2) as (first, other),
    ):
        await cut_off_in_the_middle(database, proxy, first)
        await first.say("UPDATE_SETTINGS", {"theme": "dark"})  # it was not sent yet, and is only kept
        error = await first.hears("ERROR")
        assert (error["data"]["code"], "never be known" in caplog.text) == ("UNAVAILABLE", True)
        execute(database, "truncate pos.batches")
        await proxy.start()
        await until(lambda: other.settings.get("theme") == "dark")
        assert execute(database, CLEARS) == 1
        assert len([m for m in first.received if m["type"] == "ERROR"]) == 1
        await agree(database, first, other)


async def test_a_backend_that_is_ended_after_its_commit_is_asked_about_too(database: str) -> None:
    """It says so (57P01) before its connection is closed. That it was ended does not mean that nothing was done."""
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 2) as (first, other),
    ):
        for number, word in enumerate((b"needle", b"thread")):
            proxy.end_after(word)
            # Without an id nothing but the batch's own tells that it was done.
            await first.say("MESSAGE", {"text": word.decode()})
            await first.update("UPDATE_SETTINGS", "update", {"number": number})
            assert proxy.losses == number + 1
        assert execute(database, "select count(*) from pos.messages") == 2
        await until(lambda: len(messages(other)) == 2)
        assert messages(other) == [{"text": "needle"}, {"text": "thread"}]
        assert not [m for m in first.received if m["type"] == "ERROR"]
        await agree(database, first, other)


async def test_backends_that_are_ended_at_work_cost_and_double_nothing(database: str) -> None:
    async with (
        local_relay(database) as relay,
        load(database, relay.url, tills=6) as working,
        terminals(relay.url, 1) as (first,),
    ):
        for number in range(40):
            await first.say("MESSAGE", {"number": number})
            execute(database, END_WRITERS)
            await working.goes_on(1)
        await first.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
        numbers = [row["number"] for row in sent(database)]
        assert numbers == list(range(40))


def messages(terminal: Terminal) -> list[Any]:
    return [message["data"] for message in terminal.received if message["type"] == "MESSAGE"]


def sent(conninfo: str) -> list[Any]:
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute("select data from pos.messages order by number")]


async def test_a_request_that_is_lost_is_made_again(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 1) as (terminal,),
    ):
        for number in range(5):
            proxy.reset()
            await terminal.update("UPDATE_SETTINGS", "update", {"number": number})
        await agree(database, terminal)
        assert terminal.revision == 5


@pytest.mark.parametrize("lost", [b"no more", b"close_batch"])
async def test_a_batch_that_takes_too_long_after_its_link_broke_holds_nobody_up_for_ever(
    database: str, lost: bytes
) -> None:
    # Whole it takes too long at every attempt, and in parts it may be done only when none of it was.
    slow_down(database, "messages", 0.05)
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database, statement_ms=150) as relay,
        terminals(relay.url, 1) as (terminal,),
    ):
        for number in range(9):
            await terminal.say("MESSAGE", {"number": number})
        writing = relay.relay.writer
        await until(lambda: len(writing._taken) == 8 and execute(database, AT_WORK), what="eight of them at work")
        proxy.reset()
        proxy.lose_answer_to(lost)
        await terminal.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
        assert [row["number"] for row in sent(database)] == list(range(9))
        assert proxy.losses == (lost == b"close_batch")


@pytest.mark.parametrize("may_ask", [True, False])
async def test_a_batch_still_under_way_when_its_link_breaks_is_not_done_a_second_time(
    database: str, may_ask: bool
) -> None:
    # It takes its time, so that the question what became of it finds it at work, and holding locks.
    slow_down(database, "messages", 1.0)
    if not may_ask:
        execute(
            database,
            "create or replace function pos.close_batch(p_batch_id uuid) returns boolean language plpgsql as"
            " $$ begin raise exception 'permission denied' using errcode = '42501'; end $$",
        )
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database, lock_ms=100, statement_ms=5000) as relay,
        terminals(relay.url, 1) as (terminal,),
    ):
        await terminal.say("MESSAGE", {"text": "ping"})
        await until(lambda: execute(database, AT_WORK), what="the batch at work")
        proxy.reset()
        await terminal.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
        assert execute(database, "select count(*) from pos.messages") == 1
        assert not [m for m in terminal.received if m["type"] == "ERROR"]
        await agree(database, terminal)
        assert terminal.revision == 1


@pytest.mark.parametrize("id_", ["m1", None])
async def test_what_a_lost_answer_had_left_undone_is_done(database: str, id_: str | None) -> None:
    add_restaurant(database, "other")
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database) as relay,
        terminals(relay.url, 1) as (first,),
        terminals(f"{relay.url}?restaurant=other", 1) as (other,),
    ):
        await first.table("add", {"id": "held", **TABLE})
        with psycopg.connect(database) as person:
            # Both go into one batch; of it the one that is locked is left for later, and the answer that says so lost.
            person.execute("select from pos.heads for update")
            await first.say("UPDATE_SETTINGS", {"warming": "up"})
            await until(lambda: relay.relay.writer.pending)
            proxy.lose_answer_to(b"needle")
            asked = asyncio.create_task(change_held(first, id_))
            beside = asyncio.create_task(other.update("UPDATE_SETTINGS", "update", {"word": "needle"}))
            person.rollback()
            person.execute("select from pos.tables where id = 'held' for update")
            await beside
            await until(lambda: proxy.losses)
        await asked
        await until(lambda: first.tables["held"]["seats"] == 8, what="the change that was locked")
        await agree(database, first)


async def change_held(terminal: Terminal, id_: str | None) -> None:
    body = {"action": "update", "data": {"id": "held", "seats": 8}}
    if id_ is None:
        await terminal.say("UPDATE_TABLE", body)
        return

    async def acknowledged() -> bool:
        answer = await terminal.ask("UPDATE_TABLE", body, id=id_)
        assert answer["type"] == "ACK" or answer["data"]["retryable"]
        return bool(answer["type"] == "ACK")

    await until(acknowledged)


async def test_an_id_that_is_repeated_anywhere_has_one_effect(database: str) -> None:
    async with local_relay(database) as one, local_relay(database) as two, terminals(one.url, 2) as (first, other):
        answers = [await first.ask("UPDATE_ORDER", {"action": "add", "data": order("o1")}, id="m1")]
        await other.order("add", order("o2"))
        answers.append(await first.ask("UPDATE_ORDER", {"action": "add", "data": order("o1")}, id="m1"))
        await first.cut()
        first.url = two.url
        await first.connect()
        answers.append(await first.ask("UPDATE_ORDER", {"action": "add", "data": order("o1")}, id="m1"))
        # At the same moment at both.
        double = await Terminal(one.url, first.client_id).connect()
        for number in range(20):
            body = {"action": "add", "data": order(f"both-{number}")}
            answers += await asyncio.gather(*(t.ask("UPDATE_ORDER", body, id=f"b{number}") for t in (first, double)))
        assert {answer["type"] for answer in answers} == {"ACK"}
        assert len({answer["data"]["revision"] for answer in answers[:3]}) == 1
        assert len({answer["data"]["revision"] for answer in answers[3:]}) == 20
        assert len(log_of(database)) == 22
        await agree(database, first, other, double)
        await double.close()


def has_lost(proxy: Proxy, answers: int) -> bool:
    return proxy.losses == answers


async def test_links_that_keep_breaking_cost_and_double_nothing(database: str) -> None:
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo) as relay,
        load(database, relay.url, tills=6) as working,
    ):
        for number in range(8):
            proxy.lose_answer_to(b"count")
            await until(partial(has_lost, proxy, number + 1), within=10.0)
            await working.goes_on(number % 3)
            proxy.reset()
        await working.goes_on(5)
