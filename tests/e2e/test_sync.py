"""A SYNC_REQUEST from end to end: the answers, what they cost, and that nothing is lost between them."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import nullcontext

import psycopg
import pytest

from relay.syncer import GATHER_SECONDS
from tests.flow import ROWS, add_tables, count_reads, flow, make_changes, truncate_log
from tests.relays import LocalRelay, local_relay
from tests.terminals import Row, Terminal, agree, terminals
from tests.waiting import until

MAX = 2**63


async def no_reads(_: object) -> None:
    """A listener that is stuck."""


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def ask(relay: LocalRelay, data: Row) -> tuple[Row, list[int]]:
    """What a new terminal is told that asks with this cursor: the SYNC_RESPONSE and the revisions up to its own."""
    one = await Terminal(relay.url).connect(hello=False, sync=False)
    await one.say("SYNC_REQUEST", data, id="ask")
    response = await one.hears("SYNC_RESPONSE")
    assert (response["ref"], response["clientId"]) == ("ask", "server")
    if response["data"].get("from", MAX) < response["data"]["revision"]:
        await one.change(response["data"]["revision"])
    await one.close()
    return response["data"], [message["revision"] for message in one.received if "revision" in message]


async def cut_off(relay: LocalRelay, database: str, *changes: int) -> list[Terminal]:
    """Terminals that were cut off one after the other, with so many changes after each."""
    away = []
    for count in changes:
        one = await Terminal(relay.url).connect()
        await agree(database, one)
        await one.cut()
        await asyncio.to_thread(make_changes, database, count)
        away.append(one)
    return away


# The answers


async def test_each_reason_for_a_snapshot(database: str) -> None:
    add_tables(database)
    async with local_relay(database, window_changes=10) as relay:
        first, _ = await ask(relay, {})
        assert (first["mode"], first["reason"], first["revision"]) == ("snapshot", "first-sync", ROWS)
        assert len(first["tables"]) == ROWS
        epoch = first["epoch"]
        for cursor, reason in [
            ({"epoch": epoch}, "first-sync"),
            ({"epoch": "another", "revision": ROWS}, "epoch-changed"),
            ({"epoch": epoch, "revision": ROWS - 11}, "too-old"),
            ({"epoch": epoch, "revision": ROWS + 1}, "ahead"),
        ]:
            assert await ask(relay, cursor) == (first | {"reason": reason}, []), cursor
        made, revisions = await ask(relay, {"epoch": epoch, "revision": ROWS - 10})
        assert made == {"mode": "changes", "epoch": epoch, "from": ROWS - 10, "revision": ROWS}
        assert revisions == list(range(ROWS - 9, ROWS + 1))
        assert await ask(relay, {"epoch": epoch, "revision": ROWS}) == (made | {"from": ROWS}, [])


async def test_a_cursor_before_the_pruned_log_is_too_old(relay: LocalRelay, database: str) -> None:
    add_tables(database)
    epoch = (await ask(relay, {}))[0]["epoch"]
    execute(
        database,
        "update pos.sync_log set created_at = now() - interval '2 days' where revision <= 15",
        "select pos.prune_log(0, interval '1 day', 1000000, 1000)",
    )
    assert (await ask(relay, {"epoch": epoch, "revision": 14}))[0]["reason"] == "too-old"
    assert (await ask(relay, {"epoch": epoch, "revision": 15}))[1] == list(range(16, ROWS + 1))


async def test_changes_come_from_the_window_and_before_it_from_the_log(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tables(database)
    async with local_relay(database) as relay:
        [one] = await cut_off(relay, database, 300)
        await until(lambda: relay.relay.hub.rooms[1].head == ROWS + 300)
        reads = count_reads(relay, monkeypatch)
        await one.connect()
        await agree(database, one)
        del reads["find_restaurant"]  # again, where a slow machine took long since the last time
        assert reads == {}, "the window has it all"
        await one.cut()
        await asyncio.to_thread(make_changes, database, 300)
    async with local_relay(database) as relay:
        reads = count_reads(relay, monkeypatch)
        one.url = relay.url
        await one.connect()
        await agree(database, one)
        assert reads == {"find_restaurant": 1, "read_heads": 1, "read_changes": 1}
        await one.close()
    assert len(one.snapshots) == 1


# However many ask


async def test_many_cursors_that_come_back_together_after_a_restart_cost_one_read(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tables(database)
    async with local_relay(database) as relay:
        away = await cut_off(relay, database, *[7] * 40)
    async with local_relay(database) as relay:
        reads = count_reads(relay, monkeypatch)
        for one in away:
            one.url = relay.url
        await asyncio.gather(*(one.connect() for one in away))
        await agree(database, *away)
        assert (reads["snapshot"], reads["read_heads"], reads["read_changes"]) == (0, 1, 1)
        await asyncio.gather(*(one.close() for one in away))
    assert all(len(one.snapshots) == 1 for one in away)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_storm_of_first_syncs_costs_a_restaurant_one_snapshot(
    relay: LocalRelay, database: str, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    execute(database, "insert into pos.restaurants (slug, name) values ('two', 'Two'), ('three', 'Three')")
    slugs = ["default", "two", "three"]
    for slug in slugs:
        add_tables(database, slug)
    reads = count_reads(relay, monkeypatch)
    storm = [Terminal(f"{relay.url}?restaurant={slugs[number % 3]}") for number in range(100)]
    started = time.monotonic()
    with flow(database, 100) if busy else nullcontext():
        await asyncio.gather(*(one.connect() for one in storm))
    # What changes meanwhile costs who comes later another one: see GATHER_SECONDS.
    seconds = time.monotonic() - started if busy else 0
    assert reads["snapshot"] <= 3 + seconds / GATHER_SECONDS
    assert (reads["read_heads"], reads["read_changes"]) == (3, 0)
    for number, slug in enumerate(slugs):
        await agree(database, *storm[number::3], slug=slug)
    await asyncio.gather(*(one.close() for one in storm))


async def test_terminals_that_come_from_an_instance_that_is_ahead_lose_and_repeat_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tables(database)
    async with (
        local_relay(database) as ahead,
        local_relay(database) as behind,
        Terminal(behind.url) as there,
        terminals(ahead.url, 20) as moving,
    ):
        monkeypatch.setattr(behind.relay.reader, "_read_rooms", no_reads)
        await asyncio.to_thread(make_changes, database, 30)
        await agree(database, *moving)
        assert behind.relay.hub.rooms[1].head == ROWS
        reads = count_reads(behind, monkeypatch)
        await asyncio.gather(*(one.cut() for one in moving))
        for one in moving:
            one.url = behind.url
        await asyncio.gather(*(one.connect() for one in moving))
        assert reads["read_heads"] <= 3
        monkeypatch.undo()
        await asyncio.to_thread(make_changes, database, 5)
        await agree(database, there, *moving)
        for one in moving:
            revisions = [message["revision"] for message in one.received if "revision" in message]
            assert revisions == list(range(ROWS + 1, ROWS + 36)), "each once"
            assert len(one.snapshots) == 1


# Where a snapshot and the changes meet


async def test_snapshots_and_changes_meet_exactly_while_changes_go_on(relay: LocalRelay, database: str) -> None:
    add_tables(database)

    async def restless(number: int) -> Terminal:
        dice = random.Random(number)
        one = await Terminal(relay.url, f"restless-{number}").connect()
        for _ in range(12):
            await one.reaches(one.revision + dice.randrange(30))
            match dice.randrange(5):
                case 0:
                    await one.sync()
                case 1:
                    await one.say("SYNC_REQUEST", {})
                case 2:
                    await one.cut()
                    await one.connect(hello=dice.random() < 0.5)
                case 3:
                    await one.cut()
                    await one.connect(hello=False, sync=False)
                    await one.say("SYNC_REQUEST", {})
                case 4:
                    assert one.faults == []
                    await one.close()
                    one = await Terminal(relay.url, f"restless-{number}").connect()
        return one

    with flow(database, 200):
        made = await asyncio.gather(*map(restless, range(30)))
    await agree(database, *made)
    await asyncio.gather(*(one.close() for one in made))


@pytest.mark.parametrize("anew", [False, True])
async def test_a_terminal_is_never_moved_behind_what_was_acknowledged(
    relay: LocalRelay, database: str, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    add_tables(database)
    async with terminals(relay.url, 8) as made:
        if anew:  # an ACK may come long before the change itself
            monkeypatch.setattr(relay.relay.reader, "_read_rooms", no_reads)

        async def change_and_ask(one: Terminal, number: int) -> None:
            for seats in range(1, 6):
                done = await one.table("update", {"id": str(number + 1), "seats": seats})
                known = len(one.snapshots)
                if anew:
                    await one.cut()
                    await one.connect(hello=False, sync=False)
                await one.say("SYNC_REQUEST", {})
                await until(lambda known=known: len(one.snapshots) > known)  # type: ignore[misc]
                snapshot = one.snapshots[known]
                assert snapshot["revision"] >= done["revision"]
                [mine] = [row for row in snapshot["tables"] if row["id"] == str(number + 1)]
                assert mine["seats"] == seats

        await asyncio.gather(*(change_and_ask(one, number) for number, one in enumerate(made)))
        monkeypatch.undo()
        await agree(database, *made)


# Other instances, other histories


async def test_a_terminal_resumes_on_another_instance_and_on_one_that_was_restarted(database: str) -> None:
    add_tables(database)
    one = Terminal("")
    with flow(database, 100):
        for _ in range(2):
            async with local_relay(database) as first, local_relay(database) as second:
                for relay in (first, second, first):
                    one.url = relay.url
                    await one.connect()
                    await one.reaches(one.revision + 20)
                    await one.cut()
    assert len(one.snapshots) == 1
    revisions = [revision for _, revision, _ in one.applied]
    assert revisions == list(range(one.snapshots[0]["revision"] + 1, one.revision + 1))
    assert one.faults == []


@pytest.mark.parametrize("busy", [True, False])
async def test_when_the_log_is_truncated_all_terminals_take_the_state(
    relay: LocalRelay, database: str, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tables(database)
    async with terminals(relay.url, 20) as made:
        reads = count_reads(relay, monkeypatch)
        with flow(database, 100) if busy else nullcontext():
            await truncate_log(database)
            await until(lambda: all(len(one.snapshots) == 2 for one in made), what="a snapshot for each")
        assert {one.snapshots[1]["reason"] for one in made} == {"epoch-changed"}
        assert {one.snapshots[0]["epoch"] for one in made}.isdisjoint(one.snapshots[1]["epoch"] for one in made)
        assert reads["snapshot"] == 1
        await made[0].table("update", {"id": "1", "status": "occupied"})
        await agree(database, *made)
        assert all(len(one.snapshots) == 2 for one in made)
