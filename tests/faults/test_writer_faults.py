"""The writer beside bad mutations, full queues and a database that comes and goes."""

from __future__ import annotations

import asyncio
import base64
import random
import time

import psycopg
import pytest

from relay import pending
from relay.protocol import Mutation
from tests.cluster import TestCluster
from tests.faults.deeds import OTHERS_SECONDS, add_restaurant, counts, execute, lock_table, make_tables, slow_down
from tests.load import load
from tests.proxy import proxied
from tests.relays import local_relay
from tests.terminals import agree, terminals
from tests.waiting import until


async def test_what_arrives_while_a_transaction_is_on_its_way_is_committed_together(database: str) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 20) as many:
        await make_tables(many[0], *(f"t{n}" for n in range(20)))
        before = execute(database, "select count(*) from pos.batches")
        await asyncio.gather(
            *(one.table("update", {"id": f"t{n}", "count": count}) for n, one in enumerate(many) for count in range(25))
        )
        commits = execute(database, "select count(*) from pos.batches") - before
        assert commits < 500 / 5, f"500 mutations took {commits} commits"
        await agree(database, *many)


async def test_a_mutation_that_raises_in_sql_hurts_only_its_sender(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "create function house_rule() returns trigger language plpgsql as"
            " $$ begin if new.extra ? 'forbidden' then raise exception 'not in my house'; end if; return new; end $$"
        )
        connection.execute("create trigger z before update on pos.tables for each row execute function house_rule()")
    async with local_relay(database) as relay, terminals(relay.url, 6) as (bad, *good):
        await make_tables(bad, "t0", "t1", "t2", "t3", "t4")
        asked = [
            asyncio.create_task(one.table("update", {"id": f"t{n}", "count": count}))
            for count in range(10)
            for n, one in enumerate(good)
        ]
        refused = [
            await bad.refused("UPDATE_TABLE", {"action": "update", "data": {"id": "t0", "forbidden": count}})
            for count in range(5)
        ]
        await asyncio.gather(*asked)
        assert {error["code"] for error in refused} == {"INTERNAL"}
        await agree(database, bad, *good)


# What it calls is not there: an error as if a function of the relay's had gone. Or what it asks (postgres_fdw) is away.
@pytest.mark.parametrize(
    "rule", ["perform no_such_rule(new.id);", "raise exception 'could not connect' using errcode = '08001';"]
)
async def test_a_rule_of_others_that_breaks_at_the_commit_hurts_only_its_sender(database: str, rule: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "create function late_rule() returns trigger language plpgsql as"
            f" $$ begin {rule} return null; end $$".encode()
        )
        connection.execute(
            "create constraint trigger z after insert or update on pos.menu_items deferrable initially deferred"
            " for each row execute function late_rule()"
        )
    add_restaurant(database, "other")
    dish = {"id": "d", "name": "Soup", "price": 5, "category": "c", "description": ""}
    asked = {"action": "add_item", "data": dish}
    async with (
        local_relay(database) as relay,
        load(database, relay.url, tills=2, slug="other") as working,
        terminals(relay.url, 1) as (terminal,),
    ):
        await terminal.say("UPDATE_MENU", asked)  # without an id it would be kept for as long as the database is away
        error = await terminal.refused("UPDATE_MENU", asked)
        assert (error["code"], error["retryable"]) == ("INTERNAL", False)
        await working.goes_on(20)
    assert {code for till in working.tills for code in till.refusals} == set()


async def test_a_mutation_that_cannot_even_be_sent_hurts_only_its_sender(database: str) -> None:
    def mutation(number: int, body: str) -> Mutation:
        return Mutation(restaurant_id, f"client-{number}", None, "UPDATE_SETTINGS", "update", body, None)

    restaurant_id = execute(database, "select restaurant_id from pos.find_restaurant(null)")
    async with local_relay(database) as relay:
        submit = relay.relay.writer.submit
        # As if the checks before the writer had a hole: what psycopg refuses, what it cannot encode, no JSON, no type.
        bad = [submit(mutation(0, body)) for body in ('{"a": "\\0"}', '{"a": "\ud800"}', "{", "{}\0")]
        bad.append(submit(Mutation(restaurant_id, "client-0", None, "UPDATE_TABLE", "add", '{"id": "1"}', 2**63)))
        good = [submit(mutation(number, f'{{"key{number}": {number}}}')) for number in range(1, 40)]
        answers = await asyncio.gather(*good)
        assert all(answer.applied for answer in answers)
        refusals = await asyncio.gather(*bad, return_exceptions=True)
        assert {type(refusal).__name__ for refusal in refusals} == {"Refusal"}
        assert len(execute(database, "select settings from pos.restaurants")) == 39


async def test_what_fails_after_the_commit_does_not_do_it_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 1) as (terminal,):
        monkeypatch.setattr(relay.relay.ways, "commit", lambda *_: 1 / 0)
        for number in range(6):
            await terminal.say("MESSAGE", {"number": number})
        await terminal.update("UPDATE_SETTINGS", "update", {"theme": "dark"})
        assert execute(database, "select count(*) from pos.messages") == 6
        assert not [message for message in terminal.received if message["type"] == "ERROR"]


async def test_a_batch_that_takes_too_long_is_done_in_smaller_parts(database: str) -> None:
    # 57014, and nobody can say for whom: each dish takes its time, and a few of them too much.
    slow_down(database, "menu_items", 0.02)
    async with local_relay(database, statement_ms=150) as relay, terminals(relay.url, 16) as many:
        dish = {"name": "Soup", "price": 5, "category": "c", "description": ""}
        answers = await asyncio.gather(
            *(one.dish("add_item", {"id": f"d{n}-{count}", **dish}) for n, one in enumerate(many) for count in range(2))
        )
        assert len({answer["revision"] for answer in answers}) == 32
        await agree(database, *many)


async def test_many_photos_hold_up_nobody(database: str) -> None:
    add_restaurant(database, "other")
    async with (
        local_relay(database) as relay,
        terminals(relay.url, 4) as many,
        load(database, relay.url, tills=1, slug="other") as working,
    ):
        image = "data:image/jpeg;base64," + base64.b64encode(random.randbytes(220_000)).decode()
        await working.goes_on(5)
        working.tills[0].slowest = 0.0
        dish = {"name": "Soup", "price": 5, "category": "c", "description": "", "image": image}
        await asyncio.gather(
            *(
                one.dish("add_item", {"id": f"d{n}-{m}", **dish}, within=30.0)
                for n, one in enumerate(many)
                for m in range(15)
            )
        )
        assert working.tills[0].slowest < OTHERS_SECONDS
        await agree(database, *many)


async def test_beyond_its_limit_the_queue_is_busy_and_loses_nothing(database: str) -> None:
    async with local_relay(database, pending=10) as relay, terminals(relay.url, 4) as many:
        await make_tables(many[0], "t0", "t1", "t2", "t3")
        with psycopg.connect(database) as person:
            person.execute("select from pos.heads for update")
            asked = [
                asyncio.create_task(
                    one.ask("UPDATE_TABLE", {"action": "update", "data": {"id": f"t{n}", "count": count}})
                )
                for count in range(10)
                for n, one in enumerate(many)
            ]
            await until(lambda: sum(task.done() for task in asked) == 30)
            assert relay.relay.writer.pending == 10
        answers = await asyncio.gather(*asked)
        assert [a["data"]["code"] for a in answers if a["type"] == "ERROR"] == ["BUSY"] * 30
        await agree(database, *many)
        assert len(counts(many[0])) == 10


async def test_a_terminal_that_sends_faster_than_it_is_answered_is_not_read_from(database: str) -> None:
    async with local_relay(database, pending_per_terminal=5) as relay, terminals(relay.url, 2) as (fast, other):
        await make_tables(fast, "t0")
        with psycopg.connect(database) as person:
            lock_table(person, "t0")
            for count in range(200):
                await fast.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t0", "count": count}})
            await until(lambda: relay.relay.writer.pending == 5)
            await other.update("UPDATE_SETTINGS", "update", {"theme": "dark"}, within=2.0)
            assert relay.relay.writer.pending == 5
        await until(lambda: fast.tables["t0"].get("count") == 199, within=10.0)
        assert counts(other) == list(range(200))
        await agree(database, fast, other)


async def test_a_mutation_without_an_id_outlives_an_outage(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos")
    conninfo = private_cluster.conninfo("minipos")
    async with (
        local_relay(conninfo) as relay,
        local_relay(conninfo) as fresh,  # has no connection yet to find broken
        terminals(relay.url, 2) as (first, other),
        terminals(fresh.url, 1) as (third,),
    ):
        await make_tables(first, "t0")
        await asyncio.to_thread(private_cluster.kill)
        stopped = time.monotonic()
        for count in range(10):
            await first.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t0", "count": count}})
            await third.say("UPDATE_SETTINGS", {"count": count})
        # Who repeats is told, and not only when the database is back.
        for one in (other, third):
            refused = await one.refused("UPDATE_SETTINGS", {"theme": "dark"})
            assert (refused["code"], refused["retryable"]) == ("UNAVAILABLE", True)
        await until(lambda: time.monotonic() - stopped > 3.0)
        await asyncio.to_thread(private_cluster.start)
        await until(lambda: other.tables["t0"].get("count") == other.settings.get("count") == 9, within=5.0)
        await agree(conninfo, first, other, third)
        assert counts(other) == list(range(10))
        assert [m for one in (first, third) for m in one.received if m["type"] == "ERROR" and "ref" not in m] == []


async def test_without_space_what_nobody_would_repeat_is_kept(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "UNREPEATED_SECONDS", 1.5)
    add_restaurant(database, "other")
    async with (
        local_relay(database, busy_seconds=0.3) as relay,
        terminals(relay.url, 2) as (first, other),
        terminals(f"{relay.url}?restaurant=other", 1) as (beside,),
    ):
        await make_tables(first, "t0")
        execute(
            database,
            "create function no_space() returns trigger language plpgsql as"
            " $$ begin raise exception 'no space left on device' using errcode = '53100'; end $$;"
            " create trigger z before update on pos.tables for each row execute function no_space()",
        )
        for count in range(5):
            await first.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t0", "count": count}})
        began = time.monotonic()
        refused = await other.refused("UPDATE_TABLE", {"action": "update", "data": {"id": "t0", "seats": 9}})
        assert (refused["code"], refused["retryable"]) == ("BUSY", True)
        await until(lambda: time.monotonic() - began > 3.0)
        await beside.update("UPDATE_SETTINGS", "update", {"theme": "dark"}, within=2.0)
        assert relay.relay.writer.pending == 5
        execute(database, "drop trigger z on pos.tables")
        await until(lambda: other.tables["t0"].get("count") == 4, within=5.0)
        assert counts(other) == list(range(5))
        assert not [m for m in first.received if m["type"] == "ERROR"]
        await agree(database, first, other)


async def test_how_long_the_database_was_away_is_not_counted_as_a_wait_for_a_row(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "UNREPEATED_SECONDS", 2.0)
    async with (
        proxied(database) as proxy,
        local_relay(proxy.conninfo, listen_conninfo=database, busy_seconds=0.3) as relay,
        terminals(relay.url, 2) as (first, other),
    ):
        await make_tables(first, "t0")
        await proxy.stop()
        await first.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t0", "count": 1}})
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 2.5)
        with psycopg.connect(database) as person:
            lock_table(person, "t0")
            await proxy.start()
            await until(lambda: relay.relay.writer._lane, what="the mutation to wait for the row")
        await until(lambda: other.tables["t0"].get("count") == 1)
        assert not [m for m in first.received if m["type"] == "ERROR"]
