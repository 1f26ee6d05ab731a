"""The epoch names a history: it stays as long as the history does, and no longer."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import psycopg
import pytest

from relay import schema
from tests.cluster import TestCluster
from tests.sql.shop import NEW_TABLE, Shop, doorbell
from tests.waiting import wait_until


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


def epoch(shop: Shop) -> str:
    return str(shop.one("select pos.epoch()"))


def test_a_crash_changes_neither_the_epoch_nor_the_log(private_cluster: TestCluster) -> None:
    private_cluster.create_database("shop")
    conninfo = private_cluster.conninfo("shop")
    asyncio.run(schema.apply(conninfo))
    with Shop(conninfo) as shop:
        shop.table("add", NEW_TABLE)
        shop.message({"kitchen": "bell"})
        before = epoch(shop), shop.log()
        shop.sql("begin")
        shop.sql("update pos.tables set seats = 9")
        private_cluster.kill()
    private_cluster.restart()
    with Shop(conninfo) as shop:
        assert (epoch(shop), shop.log()) == before
        assert shop.table("update", {"id": "t", "seats": 5}).revision == 2
        shop.sql("update pos.tables set seats = 6")
        shop.check()
        # Messages do not survive it; their numbers go on.
        assert shop.sql("select from pos.messages") == []
        assert shop.one("select messages from pos.heads") == 1


def test_a_promoted_standby_has_an_epoch_of_its_own(private_cluster: TestCluster) -> None:
    private_cluster.create_database("shop")
    conninfo = private_cluster.conninfo("shop")
    asyncio.run(schema.apply(conninfo))
    with Shop(conninfo) as shop:
        before = epoch(shop)
    private_cluster.stop()
    (private_cluster.data / "standby.signal").touch()
    private_cluster.start()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        assert connection.execute("select pg_promote()").fetchone() == (True,)
    with Shop(conninfo) as shop:
        wait_until(lambda: not shop.one("select pg_is_in_recovery()"), within=20)
        assert epoch(shop) != before


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_a_restored_dump_is_another_history_that_works_on(
    shop: Shop, empty_database: str, cluster: TestCluster, tmp_path: Path, form: str
) -> None:
    shop.table("add", {**NEW_TABLE, "orderId": "X-1"})
    shop.sql("update pos.tables set seats = 9")
    shop.sql("insert into pos.order_history (restaurant_id, id, status, total) values (1, 'o', 'void', 1)")
    shop.table("delete", {"id": "t"}, id="m1")
    dump = str(tmp_path / "dump")
    run(cluster, "pg_dump", f"--dbname={shop.conninfo}", f"--format={form}", f"--file={dump}")
    if form == "plain":
        run(cluster, "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--dbname={empty_database}", f"--file={dump}")
    else:
        run(cluster, "pg_restore", "--exit-on-error", f"--dbname={empty_database}", dump)
    with Shop(empty_database) as restored:
        assert epoch(restored) != epoch(shop)
        assert restored.log() == shop.log()
        assert restored.snapshot()["orders"] == shop.snapshot()["orders"]
        assert restored.table("delete", {"id": "t"}, id="m1").revision == 4
        assert restored.table("add", NEW_TABLE).version == 4
        restored.sql("update pos.tables set seats = 6")
        assert restored.head == 6
        restored.check()


def run(cluster: TestCluster, program: str, *arguments: str) -> None:
    subprocess.run([cluster.bin_dir / program, *arguments], check=True, capture_output=True, timeout=60)


def test_truncating_the_log_begins_another_history(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    before = epoch(shop)
    shop.sql("truncate pos.sync_log")
    assert epoch(shop) != before
    assert shop.sql("select revision, floor from pos.heads") == [(1, 2)]
    # Revisions go on, so that none means two things.
    with doorbell(shop.conninfo) as bell:
        assert shop.table("update", {"id": "t", "seats": 5}).revision == 2
        assert bell.rings() == [1]


def test_a_truncation_that_is_rolled_back_changes_nothing(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    before = epoch(shop), shop.log()
    with shop.again(autocommit=False) as other:
        other.sql("truncate pos.sync_log")
        other.connection.rollback()
    assert (epoch(shop), shop.log()) == before


def test_every_reader_of_the_epoch_reads_the_same(shop: Shop) -> None:
    found = {
        epoch(shop),
        shop.snapshot()["epoch"],
        *(row[0] for row in shop.sql("select epoch from pos.read_heads('{}')")),
        *(row[0] for row in shop.sql("select epoch from pos.read_changes('{1}', '{0}', 1, 1)")),
    }
    assert len(found) == 1
