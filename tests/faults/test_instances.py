"""Several relays on one database: what one of them does, all show."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.faults.deeds import TABLE, execute, order
from tests.load import load
from tests.proxy import proxied
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal, agree
from tests.waiting import until


@asynccontextmanager
async def instances(conninfo: str, count: int, **settings: Any) -> AsyncIterator[list[tuple[LocalRelay, Terminal]]]:
    """So many relays on one database, each with a terminal."""
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            relay = await stack.enter_async_context(local_relay(conninfo, **settings))
            terminal = await stack.enter_async_context(Terminal(relay.url, f"terminal-{number}"))
            found.append((relay, terminal))
        yield found


def revisions(terminal: Terminal) -> list[int]:
    """Of every change it was sent, whether it applied it or not."""
    return [message["revision"] for message in terminal.received if message["type"].startswith("UPDATE_")]


async def test_a_change_through_one_instance_is_seen_through_all(database: str) -> None:
    async with instances(database, 3) as found:
        many = [terminal for _, terminal in found]
        slowest = 0.0
        for number, terminal in enumerate(many * 5):
            await terminal.table("add", {"id": f"t{number}", "number": number, **TABLE})
            acknowledged = time.monotonic()
            await asyncio.gather(*(one.reaches(number + 1) for one in many))
            slowest = max(slowest, time.monotonic() - acknowledged)
        await agree(database, *many)
        assert slowest < 0.5, "it came by the sweep"
        assert {m["clientId"] for m in many[0].received if m["type"] == "UPDATE_TABLE"} == {t.client_id for t in many}


async def test_a_change_of_which_it_hears_twice_is_sent_once(database: str) -> None:
    # The writer rings, PostgreSQL rings, and so does somebody else.
    async with instances(database, 2) as ((_, first), (_, other)):
        for number in range(50):
            await first.update("UPDATE_SETTINGS", "update", {"number": number})
            execute(database, "select pg_notify('pos_doorbell', restaurant_id::text) from pos.restaurants")
        await agree(database, first, other)
        assert revisions(first) == revisions(other) == list(range(1, 51))


async def test_the_writers_own_ring_is_enough_and_so_is_the_notification(database: str, empty_database: str) -> None:
    async with (
        local_relay(database, listen_conninfo=empty_database, wait_ready=False) as deaf,
        local_relay(database, sweep_seconds=60.0) as hearing,
        Terminal(deaf.url) as first,
        Terminal(hearing.url) as other,
    ):
        late: list[float] = []
        for number in range(1, 31):
            await first.update("UPDATE_SETTINGS", "update", {"number": number})
            started = time.monotonic()
            await first.reaches(number)
            late.append(time.monotonic() - started)
            await other.reaches(number, within=1.0)
        # By the sweep of one that is deaf it would be an eighth of a second.
        assert statistics.median(late) < 0.05
        await agree(database, first, other)
        assert revisions(first) == revisions(other) == list(range(1, 31))


async def test_a_message_and_the_ledger_cross(database: str) -> None:
    async with instances(database, 3) as found:
        (_, first), (_, second), (_, third) = found
        await first.ask("MESSAGE", {"bell": 1})
        await first.ask("MESSAGE", {"bell": 2, "to": second.client_id})
        for one, bells in ((second, 2), (third, 1)):
            await until(lambda one=one, bells=bells: len(messages(one)) == bells)  # type: ignore[misc]
        # An id that one instance has answered is known to all.
        body = {"action": "add", "data": order("o1")}
        answers = [
            await terminal.ask("UPDATE_ORDER", body, id="m1", clientId="roaming") for terminal in (first, second, third)
        ]
        assert len({answer["data"]["revision"] for answer in answers}) == 1
        ids = [(await one.ask("NEXT_ORDER_ID"))["data"]["orderId"] for one in (first, second, third) * 5]
        assert len(set(ids)) == 15
        await agree(database, first, second, third)
        assert messages(first) == []
        assert [message["data"]["bell"] for message in messages(second)] == [1, 2]


def messages(terminal: Terminal) -> list[dict[str, Any]]:
    return [message for message in terminal.received if message["type"] == "MESSAGE"]


async def test_tills_that_change_the_same_rows_through_three_instances_agree(database: str) -> None:
    async with (
        instances(database, 3) as found,
        load(database, *(relay.url for relay, _ in found), tills=6) as working,
    ):
        many = [terminal for _, terminal in found]
        await many[0].table("add", {"id": "shared", "number": 1001, "lines": 0, **TABLE})
        for count in range(10):
            await asyncio.gather(
                *(
                    one.table(
                        "add_items",
                        {"id": "shared", "items": [{"id": f"{one.client_id}-{count}", "price": 1, "quantity": 1}]},
                    )
                    for one in many
                )
            )
        await working.goes_on(10)
        await working.stop()
        await until(lambda: len(many[0].tables["shared"]["orderItems"]) == 30)
        await agree(database, *many)


async def test_an_instance_that_leaves_takes_nothing_with_it(database: str) -> None:
    async with local_relay(database) as staying:
        async with AsyncExitStack() as stack:
            leaving = await stack.enter_async_context(local_relay(database))
            working = await stack.enter_async_context(load(database, leaving.url, staying.url, tills=4))
            await working.goes_on(10)
            leaving.relay.stop()
            await until(leaving.task.done, what="the end of one instance")
            # Its terminals go to the other one, repeat what was not acknowledged, and go on from their cursors.
            await working.goes_on(10)
        assert {till.terminal.url.partition("?")[0] for till in working.tills} == {staying.url}
        assert all(len(till.terminal.snapshots) == 1 for till in working.tills)


async def test_a_relay_that_has_not_heard_of_a_new_history_moves_nobody_back(database: str) -> None:
    """The database was restored; one relay is cut off from it, and a terminal changes over from another one."""
    async with (
        proxied(database) as link,
        local_relay(database) as well,
        local_relay(link.conninfo) as cut_off,
        Terminal(cut_off.url, "here") as here,
    ):
        for number in range(5):
            await here.table("add", {"id": f"t{number}", "number": number, **TABLE})
        await here.reaches(5)
        async with Terminal(well.url, "mover") as mover:
            link.deaf = True
            execute(database, "truncate pos.sync_log")
            execute(database, "update pos.tables set seats = 9 where id = 't1'")
            await until(lambda: mover.epoch != here.epoch)
            await mover.reaches(6)
        said, mover.url = len(mover.received), cut_off.url
        await mover.connect(sync=False)
        await mover.say("SYNC_REQUEST", {"epoch": mover.epoch, "revision": 6})
        error = await mover.hears("ERROR", within=30.0, after=said)
        assert error["data"]["code"] == "UNAVAILABLE"
        link.deaf = False
        answer = await mover.hears("SYNC_RESPONSE", within=30.0, after=said)
        assert (answer["data"]["mode"], answer["data"]["epoch"]) == ("changes", mover.epoch)
        execute(database, "update pos.tables set seats = 8 where id = 't1'")
        await agree(database, here, mover)
        await mover.close()
