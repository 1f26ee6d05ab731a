"""The writer beside people who hold locks."""

from __future__ import annotations

import asyncio
import time

import psycopg

from tests.faults.deeds import OTHERS_SECONDS, add_restaurant, counts, lock_table, make_tables
from tests.relays import local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until


async def test_the_order_of_one_terminal_is_kept_through_the_lane(database: str) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 2) as (first, other):
        await make_tables(first, "held", "free")
        with psycopg.connect(database) as person:
            lock_table(person, "held")
            asked = [
                asyncio.create_task(first.table("update", {"id": ("held", "free")[count % 2], "count": count}))
                for count in range(60)
            ]
            # Beside it, another terminal's changes to other rows go on.
            for count in range(5):
                await other.table("update", {"id": "free", "beside": count}, within=3.0)
            assert not any(task.done() for task in asked)
        await asyncio.gather(*asked)
        await agree(database, first, other)
        assert counts(other) == list(range(60))


async def test_a_locked_row_holds_up_no_other_restaurant(database: str) -> None:
    add_restaurant(database, "other")
    async with (
        local_relay(database) as relay,
        local_relay(database) as second,
        terminals(relay.url, 2) as (first, beside),
        terminals(f"{relay.url}?restaurant=other", 1) as (other,),
        terminals(f"{second.url}?restaurant=other", 1) as (another,),
    ):
        await make_tables(first, "held", "free")
        await make_tables(other, "a", "b")
        slowest = 0.0
        with psycopg.connect(database) as person:
            lock_table(person, "held")
            asked = asyncio.create_task(first.table("update", {"id": "held", "seats": 8}))
            stop = time.monotonic() + 2.0
            while time.monotonic() < stop:
                started = time.monotonic()
                await asyncio.gather(
                    other.table("update", {"id": "a", "at": started}),
                    another.table("update", {"id": "b", "at": started}),
                )
                slowest = max(slowest, time.monotonic() - started)
                await beside.table("update", {"id": "free", "at": started}, within=2.0)
            assert not asked.done()
            released = time.monotonic()
        await asked
        assert time.monotonic() - released < 1.0, "applied too late after the lock was released"
        assert slowest < OTHERS_SECONDS
        await agree(database, first, beside)
        await agree(database, other, another, slug="other")


async def test_a_row_that_stays_locked_is_busy_with_its_id(database: str) -> None:
    async with local_relay(database, busy_seconds=0.7) as relay, terminals(relay.url, 1) as (terminal,):
        await make_tables(terminal, "held")
        with psycopg.connect(database) as person:
            lock_table(person, "held")
            started = time.monotonic()
            answer = await terminal.ask(
                "UPDATE_TABLE", {"action": "update", "data": {"id": "held", "seats": 8}}, id="m1"
            )
            assert (answer["data"]["code"], answer["data"]["retryable"], answer["ref"]) == ("BUSY", True, "m1")
            assert 0.7 < time.monotonic() - started < 2.0
            # Who does not repeat is not refused so soon.
            await terminal.say("UPDATE_TABLE", {"action": "update", "data": {"id": "held", "seats": 9}})
            await until(lambda: time.monotonic() - started > 3.0)
        await until(lambda: terminal.tables["held"]["seats"] == 9)
        # Nothing came of the refused one: its id may be used again.
        await terminal.table("update", {"id": "held", "seats": 8}, id="m1")
        await agree(database, terminal)


async def test_a_person_is_never_the_victim_of_a_deadlock_with_a_relay(database: str) -> None:
    async with (
        local_relay(database) as one,
        local_relay(database) as two,
        terminals(one.url, 4) as first,
        terminals(two.url, 4) as second,
    ):
        await make_tables(first[0], *(f"t{n}" for n in range(8)))
        stop = time.monotonic() + 2.0

        async def busy(terminal: Terminal, number: int) -> None:
            while time.monotonic() < stop:
                for other in range(8):
                    await terminal.ask(
                        "UPDATE_TABLE",
                        {"action": "update", "data": {"id": f"t{(number + other) % 8}", "at": time.time()}},
                    )

        def person(order: str) -> int:
            transactions = 0
            with psycopg.connect(database) as connection:
                while time.monotonic() < stop:
                    for step in range(8):
                        row = 7 - step if order == "down" else step
                        connection.execute("update pos.tables set seats = seats %% 9 + 1 where id = %s", (f"t{row}",))
                    connection.commit()
                    transactions += 1
            return transactions

        async with asyncio.TaskGroup() as tasks:
            for number, terminal in enumerate((*first, *second)):
                tasks.create_task(busy(terminal, number))
            people = tasks.create_task(asyncio.to_thread(person, "down"))
        assert people.result() > 2
        await agree(database, *first, *second)
