"""What happened in restaurants, told end to end on two relays: each story names what must not happen again."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.database import State
from tests.cluster import TestCluster
from tests.faults.deeds import TABLE, execute, order
from tests.patient import PatientTerminal
from tests.relays import LocalRelay, local_relay
from tests.terminals import Row, Terminal, agree
from tests.waiting import until

BILL = "POS-11262026-001"
PAID = order(BILL) | {"status": "completed", "total": 9.50}
LINES: list[Row] = [{"id": "soup", "price": 4.50, "quantity": 1}, {"id": "tea", "price": 5, "quantity": 1}]
SEATED = {"id": "t1", "number": 1, **TABLE, "status": "occupied", "orderId": BILL, "orderItems": LINES}


class Two:
    """Two relays on one database, and a waiter at each."""

    def __init__(self, relays: list[LocalRelay], waiters: list[PatientTerminal]) -> None:
        self.here, self.there = relays
        self.mya, self.hla = waiters


@pytest.fixture
async def two(database: str) -> AsyncIterator[Two]:
    async with (
        local_relay(database) as here,
        local_relay(database) as there,
        PatientTerminal(here.url, "mya") as mya,
        PatientTerminal(there.url, "hla") as hla,
    ):
        yield Two([here, there], [mya, hla])


def orders(conninfo: str) -> int:
    return int(execute(conninfo, "select count(*) from pos.order_history"))


async def test_two_waiters_add_lines_to_one_table_at_the_same_moment(two: Two, database: str) -> None:
    """Both wrote the whole order, each from what the pad showed: the second one's beer overwrote the first one's soup.

    Line actions merge, so both stay, in whatever order they come.
    """
    await two.mya.table("add", SEATED | {"orderItems": []})
    for number in range(20):
        await asyncio.gather(
            two.mya.table("add_items", {"id": "t1", "items": [{"id": f"mya-{number}", "price": 1, "quantity": 1}]}),
            two.hla.table("add_items", {"id": "t1", "items": [{"id": f"hla-{number}", "price": 2, "quantity": 1}]}),
        )
    await agree(database, two.mya, two.hla)
    table = two.mya.tables["t1"]
    assert {line["id"] for line in table["orderItems"]} == {f"{who}-{n}" for who in ("mya", "hla") for n in range(20)}
    assert table["orderTotal"] == 60


async def test_an_order_paid_at_a_till_that_was_offline_does_not_reopen_when_it_returns(
    two: Two, database: str
) -> None:
    """The till took the money while its Wi-Fi was down. A waiter who saw the table open went on editing it, and the two
    versions of the bill kept overwriting each other until the paid one was open again.
    """
    await two.mya.table("add", SEATED)
    await agree(database, two.mya, two.hla)
    await two.mya.leave()
    await two.mya.do("UPDATE_ORDER", {"action": "add", "data": PAID})
    await two.mya.do("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "status": "available"}})
    still_open = SEATED | {"orderItems": [*LINES, {"id": "beer", "price": 3, "quantity": 1}]}
    await two.hla.table("update", still_open)
    await two.mya.come_back(two.there.url)
    assert (await two.hla.refused("UPDATE_TABLE", {"action": "update", "data": still_open}))["code"] == "CONFLICT"
    await agree(database, two.mya, two.hla)
    assert two.hla.orders[BILL]["status"] == "completed"
    assert (two.hla.tables["t1"]["status"], "orderId" in two.hla.tables["t1"]) == ("available", False)
    await two.mya.repeat_everything()
    await agree(database, two.mya, two.hla)


async def test_a_read_that_began_before_the_payment_and_ends_after_it_does_not_undo_it(
    two: Two, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kitchen screen was opened just as the bill was paid. Its first load was slow and came last, so it showed the
    order as open for the rest of the evening.
    """
    await two.mya.order("add", order(BILL))
    read, paid = asyncio.Event(), asyncio.Event()
    snapshot = two.there.relay.database.snapshot

    async def slow(restaurant_id: int, orders: int) -> State:
        state = await snapshot(restaurant_id, orders)
        read.set()
        await paid.wait()
        return state

    await until(lambda: two.hla.revision == 1)
    monkeypatch.setattr(two.there.relay.database, "snapshot", slow)
    screen = Terminal(two.there.url, "screen")
    opening = asyncio.create_task(screen.connect())
    await read.wait()
    await two.mya.order("update", PAID)
    await two.hla.reaches(2)  # the relay of the screen has the payment before it has the state
    paid.set()
    await opening
    assert screen.snapshots[0]["orderHistory"][0]["status"] == "pending", "it was read before the payment"
    await agree(database, two.mya, two.hla, screen)
    assert screen.orders[BILL]["status"] == "completed"
    await screen.close()


async def test_a_paid_order_edited_by_a_terminal_that_was_behind_is_refused_with_the_order_as_it_is(
    two: Two, database: str
) -> None:
    """A tablet that had slept in a pocket saved the bill it still showed, and a paid sale was open again."""
    await two.mya.order("add", order(BILL))
    await agree(database, two.hla)
    await two.hla.leave()
    await two.mya.order("update", PAID)
    pocket = Terminal(two.there.url, "hla")
    await pocket.connect(sync=False)
    stale = order(BILL) | {"items": LINES}
    error = await pocket.refused("UPDATE_ORDER", {"action": "update", "data": stale})
    assert (error["code"], error["field"]) == ("CONFLICT", "status")
    assert error["current"] == two.mya.orders[BILL]
    error = await pocket.refused("UPDATE_ORDER", {"action": "update", "data": stale}, ifVersion=1)
    assert (error["code"], error["field"], error["current"]["version"]) == ("CONFLICT", "ifVersion", 2)
    await pocket.close()
    await two.hla.come_back(two.there.url)
    await agree(database, two.mya, two.hla)
    assert two.hla.orders[BILL]["status"] == "completed"


async def test_a_retry_after_a_timeout_makes_no_second_order(two: Two, database: str) -> None:
    """The answer did not come in time, the till sent the sale again elsewhere, and the guest was charged twice."""
    till = Terminal(two.here.url, "till")
    await till.connect()
    till.stop_reading()  # so the answer is never heard
    await till.say("UPDATE_ORDER", {"action": "add", "data": PAID}, id="sale-1")
    await until(lambda: orders(database) == 1, what="the sale in the database")
    await till.cut()
    for relay in (two.there, two.here):
        till.url = relay.url
        await till.connect()
        answer = await till.ask("UPDATE_ORDER", {"action": "add", "data": PAID}, id="sale-1")
        assert (answer["type"], answer["data"]["revision"]) == ("ACK", 1)
        await till.cut()
    assert orders(database) == 1
    await agree(database, two.mya, two.hla)
    assert two.mya.revision == 1, "a repeat is no change"


@asynccontextmanager
async def restored(cluster: TestCluster, dump: Path, conninfo: str) -> AsyncIterator[LocalRelay]:
    """A relay on a database made from a dump."""
    await asyncio.to_thread(postgres, cluster, "pg_restore", "--exit-on-error", f"--dbname={conninfo}", str(dump))
    async with local_relay(conninfo) as relay:
        yield relay


def postgres(cluster: TestCluster, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs."""
    subprocess.run([cluster.bin_dir / program, *arguments], check=True, capture_output=True, timeout=60)


async def test_a_database_restored_from_yesterdays_backup_is_noticed(
    two: Two, database: str, empty_database: str, cluster: TestCluster, tmp_path: Path
) -> None:
    """After the restore the counters began again where yesterday ended. Terminals that had seen today took new changes
    for ones they knew, and showed orders that the database had never heard of.
    """
    await two.mya.table("add", SEATED)
    dump = tmp_path / "yesterday"
    await asyncio.to_thread(postgres, cluster, "pg_dump", f"--dbname={database}", "--format=custom", f"--file={dump}")
    await two.mya.order("add", PAID)
    await two.mya.table("add", {"id": "t2", "number": 2, **TABLE})
    await agree(database, two.mya, two.hla)
    for one in (two.mya, two.hla):
        await one.cut()
    async with restored(cluster, dump, empty_database) as relay, Terminal(relay.url, "fresh") as fresh:
        # As many changes as were lost: the revisions alone tell nothing.
        await fresh.table("add", {"id": "t3", "number": 3, **TABLE})
        await fresh.table("add", {"id": "t4", "number": 4, **TABLE})
        for one in (two.mya, two.hla):
            await one.come_back(relay.url)
            assert one.snapshots[-1]["reason"] == "epoch-changed"
        await fresh.table("update", {"id": "t3", "seats": 9})
        await agree(empty_database, fresh, two.mya, two.hla)
        assert (set(two.mya.tables), two.mya.orders) == ({"t1", "t3", "t4"}, {})
        for one in (two.mya, two.hla):
            await one.close()


async def test_a_terminal_that_was_away_for_thirty_days_comes_back(two: Two, database: str) -> None:
    """A tablet was found behind the bar. It sent what it had kept: a table that no longer existed came back, and a sale
    that had been entered by hand meanwhile stood there twice.
    """
    await two.mya.table("add", SEATED)
    await two.mya.table("add", {"id": "t2", "number": 2, **TABLE})
    await agree(database, two.hla)
    await two.hla.leave()
    await two.mya.table("delete", {"id": "t2"})
    await two.mya.order("add", PAID)
    for number in range(20):
        await two.mya.update("UPDATE_SETTINGS", "update", {"number": number})
    execute(database, "update pos.sync_log set created_at = created_at - interval '31 days'")
    execute(database, "select pos.prune_log(0, interval '30 days', 1000000, 1000)")
    async with local_relay(database) as anew:  # a relay that was started since; no window reaches back so far
        found = Terminal(anew.url, "hla")
        found.epoch, found.revision = two.hla.epoch, two.hla.revision
        await found.connect()
        assert [snapshot["reason"] for snapshot in found.snapshots] == ["too-old"]
        late = {"action": "update", "data": {"id": "t2", "number": 2, **TABLE}}
        assert (await found.refused("UPDATE_TABLE", late, id="late-1"))["code"] == "GONE"
        # The same sale with the same content is a repeat; one of its own is new, and is stored once.
        await found.order("add", PAID, id="late-2")
        for _ in range(2):
            await found.order("add", order("POS-10262026-007"), id="late-3")
        await agree(database, found, two.mya)
        assert set(found.tables) == {"t1"}
        assert set(found.orders) == {BILL, "POS-10262026-007"}
        await found.close()
