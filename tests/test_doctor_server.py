"""`relay doctor` on the server: open transactions, vacuum, settings, its clock, connections and queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
import pytest

from relay import doctor_tables, schema
from relay.findings import Finding
from tests.cluster import VERSION, running_cluster
from tests.least import as_role
from tests.test_doctor import DATABASE, examined, faults, reloaded, say, sound, sound_cluster, the_fault

__all__ = ["sound", "sound_cluster"]


@contextmanager
def open_transaction(conninfo: str, statement: LiteralString) -> Iterator[psycopg.Connection[Any]]:
    """Somebody at psql who has gone to lunch."""
    with psycopg.connect(conninfo, application_name="psql") as connection:
        connection.execute(statement)
        yield connection


async def test_an_open_transaction_is_named_with_its_pid_and_statement(
    sound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_tables, "OPEN_SECONDS", 0.0)
    say(sound, "insert into pos.tables (restaurant_id, id, number, seats) select restaurant_id, '4', 4, 2 "
        "from pos.restaurants")  # fmt: skip
    with open_transaction(sound, "update pos.tables set seats = 3") as connection:
        one = await the_fault(sound)
        assert f"pid {connection.info.backend_pid} (postgres, psql)" in one.message
        assert "pos.tables" in one.message
        assert "update pos.tables set seats = 3" in one.message
        say(sound, one.mend.partition("end it: ")[2])
        assert await faults(sound) == []
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


async def test_an_open_transaction_that_only_reads_holds_up_nobody(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_tables, "OPEN_SECONDS", 0.0)
    with open_transaction(sound, "select * from pos.tables"):
        assert await faults(sound) == []


async def test_a_prepared_transaction_that_nobody_ends_is_named() -> None:
    with running_cluster(fsync="on", max_prepared_transactions="2") as cluster:
        cluster.create_database(DATABASE)
        conninfo = cluster.tcp(DATABASE)
        await schema.apply(conninfo)
        say(
            conninfo,
            "begin",
            "update pos.restaurants set time_zone = 'Asia/Yangon'",
            "prepare transaction 'forgotten'",
        )
        one = await the_fault(conninfo)
        assert "'forgotten'" in one.message
        say(conninfo, one.mend)
        assert await faults(conninfo) == []


async def test_a_table_that_is_not_vacuumed_is_named(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_tables, "DEAD_ROWS", 100)
    say(
        sound,
        "alter table pos.sync_log set (autovacuum_enabled = off)",
        "insert into pos.tables (restaurant_id, id, number, seats)"
        " select restaurant_id, n::text, n, 2 from pos.restaurants, generate_series(1, 300) as n",
        "delete from pos.sync_log",
        "select pg_stat_force_next_flush()",
    )

    async def found() -> list[Finding]:
        return [one for one in await faults(sound) if "pos.sync_log holds" in one.message]

    [one] = await found()
    assert "holds 300 dead rows" in one.message
    say(sound, one.mend.partition(", and look")[0])
    assert await found() == []


async def test_a_table_that_autovacuum_is_kept_from_is_named(sound: str) -> None:
    say(
        sound,
        "alter table pos.sync_log set (autovacuum_enabled = off)",
        "alter table pos.tables set (autovacuum_enabled = 0, fillfactor = 90)",
        "alter table pos.menu_items set (toast.autovacuum_enabled = false)",
        "alter table pos.categories set (autovacuum_enabled = on)",
    )
    found = await faults(sound)
    assert [one.message.partition(" off: ")[0] for one in found] == [
        "pos.menu_items has toast.autovacuum_enabled",
        "pos.sync_log has autovacuum_enabled",
        "pos.tables has autovacuum_enabled",
    ]
    say(sound, *(one.mend for one in found))
    assert await faults(sound) == []


@pytest.mark.parametrize("name", ["full_page_writes", "synchronous_commit", "autovacuum", "track_counts"])
async def test_a_setting_that_loses_sales_or_space_is_named(sound: str, name: str) -> None:
    off = f"alter system set {name} = off"
    try:
        await reloaded(sound, off, name, "off")
        one = await the_fault(sound)
        assert f"{name} is off" in one.message
        await reloaded(sound, one.mend.partition(", and reload")[0], name, "on")
        assert await faults(sound) == []
    finally:
        await reloaded(sound, "alter system reset all", name, "on")


@pytest.mark.parametrize(
    "whose", [f"database {DATABASE}", "role waiter", f"role waiter in database {DATABASE}", "role all"]
)
@pytest.mark.parametrize("setting", ["synchronous_commit = off", "deadlock_timeout = '10ms'"])
async def test_a_setting_of_the_database_or_the_role_is_reset_there(sound: str, whose: str, setting: str) -> None:
    say(sound, "create role waiter login superuser")
    try:
        say(sound, f"alter {whose} set {setting}")
        one = await the_fault(as_role(sound, "waiter"))
        mend = one.mend.partition("; or ")[0]
        assert mend == f"alter {whose} reset {setting.partition(' ')[0]}"
        say(sound, mend)
        assert await faults(as_role(sound, "waiter")) == []
    finally:
        say(sound, "alter role all reset all", "drop role waiter")


async def test_a_postgresql_that_does_not_flush_is_named(database: str) -> None:
    assert "fsync is off" in (await the_fault(database)).message


async def test_a_relay_that_waits_longer_than_the_deadlock_timeout_is_noticed(sound: str) -> None:
    assert "deadlock_timeout is 1000 ms" in (await the_fault(sound, statement_ms=1500)).message


async def test_clocks_apart_and_few_connections_are_advice(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr("relay.doctor_server.time.time", lambda: now() - 90)
    found = [one for one in await examined(sound, pool=195) if one.name != "timeouts"]
    assert [(one.level, one.name) for one in found] == [
        ("advice", "clock"),
        ("advice", "roles"),
        ("advice", "connections"),
    ]
    assert "90 s apart" in found[0].message


# Before PostgreSQL 17 the queue cannot be made so small.
if VERSION != "15":

    async def test_a_queue_that_fills_is_named_with_the_one_who_fills_it() -> None:
        with running_cluster(fsync="on", max_notify_queue_pages="64") as cluster:
            cluster.create_database(DATABASE)
            conninfo = cluster.tcp(DATABASE)
            await schema.apply(conninfo)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute("listen anything")
                connection.execute("begin")  # and it reads no more
                for _ in range(20):
                    say(conninfo, "select pg_notify('anything', repeat('x', 7000))")
                one = await the_fault(conninfo)
                assert one.name == "notify queue"
                assert f"pid {connection.info.backend_pid} " in one.mend
