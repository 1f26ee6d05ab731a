"""The schema is upgraded while relays of the old version, terminals and people go on: for each version there was."""

from __future__ import annotations

import asyncio
import os
import sys
import tarfile
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cluster import free_port
from tests.faults.deeds import execute
from tests.load import Load, load
from tests.relays import RelayProcess, relay_process
from tests.sql.test_schema import OLD_VERSIONS, Programs, install_old, programs
from tests.terminals import Terminal
from tests.waiting import pause, until

__all__ = ["programs"]

pytestmark = pytest.mark.timeout(240)

VERSIONS = Path(__file__).parents[1] / "sql" / "versions"
FURTHER = 5  # changes of each till
PATIENCE = 60.0  # seconds, on a machine that does other things as well
ROLL_CALLS_SINCE = 3  # version of the schema
TRIES = 10  # of an upgrade that gave way and changed nothing


def old_relay(version: int, folder: Path) -> dict[str, Any]:
    """The environment in which `python -m relay` is the last relay of a version."""
    kept = VERSIONS / f"{version}.relay.tar.xz"
    assert kept.exists(), f"keep it: git archive LAST_COMMIT_WITH_VERSION_{version} relay | xz -9e > {kept.name}"
    with tarfile.open(kept) as archive:
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
        archive.extractall(folder, **safely)
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


@dataclass
class Person:
    """Somebody who changes two rows in psql, again and again."""

    conninfo: str
    committed: int = 0
    failed: list[str] = field(default_factory=list)

    def work(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                with closing(psycopg.connect(self.conninfo)) as connection, connection:
                    connection.execute("update pos.menu_items set price = price + 1 where id = 'by hand'")
                    connection.execute("update pos.tables set seats = seats % 9 + 1 where id = 'by hand'")
                self.committed += 1
            except psycopg.Error as error:
                self.failed.append(str(error))
            pause(0.01)


@asynccontextmanager
async def person(conninfo: str) -> AsyncIterator[Person]:
    """Somebody at work meanwhile, none of whose statements may fail or be lost."""
    execute(
        conninfo,
        "with r as (select restaurant_id as id from pos.find_restaurant(null)), made as ("
        " insert into pos.menu_items (restaurant_id, id, name, price) select id, 'by hand', 'Tea', 0 from r)"
        " insert into pos.tables (restaurant_id, id, number, seats) select id, 'by hand', 999, 1 from r",
    )
    found, ended = Person(conninfo), threading.Event()
    work = asyncio.create_task(asyncio.to_thread(found.work, ended))
    try:
        await until(lambda: found.committed or found.failed)
        yield found
    finally:
        ended.set()
        await work
    assert found.failed == []
    assert execute(conninfo, "select price::int from pos.menu_items where id = 'by hand'") == found.committed
    logged = execute(conninfo, "select count(*) from pos.sync_log where client_id = 'database'")
    assert logged == 2 * found.committed + 2


async def upgrade(conninfo: str, programs: Programs, by: str) -> None:
    """Run it as a DBA does: again, where it gave way to somebody and changed nothing."""
    for _ in range(TRIES):
        if by == "psql":
            done = await asyncio.to_thread(programs.install, conninfo)
            status, said = int(done.returncode), done.stderr
        else:
            status, said = await run("schema", "apply", DATABASE_URL=conninfo)
        if status == 0:
            return
        assert "lock timeout" in said or "deadlock" in said, said
    raise AssertionError(f"no upgrade in {TRIES} tries")


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """`relay` with these arguments to its end: its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay",
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def everything_works(one: Terminal, other: Terminal) -> None:
    """Both take the state, each hears of what the other changes or says, and gets an order id of its own."""
    ids = []
    for speaker, listener in ((one, other), (other, one)):
        for each in (speaker, listener):
            each.epoch = None
            await each.sync()
        done = await speaker.table("update", {"id": "by hand", "note": speaker.client_id})
        await listener.reaches(done["revision"], PATIENCE)
        heard = len(listener.received)
        await speaker.say("MESSAGE", {"text": "the kitchen bell"})
        assert (await listener.hears("MESSAGE", PATIENCE, after=heard))["clientId"] == speaker.client_id
        ids.append((await speaker.ask("NEXT_ORDER_ID"))["data"]["orderId"])
    assert len(set(ids)) == 2


@pytest.mark.parametrize(("version", "by"), [(each, ("relay", "psql")[each % 2]) for each in OLD_VERSIONS])
async def test_relays_are_replaced_one_by_one_after_an_upgrade_under_load(
    empty_database: str, database: str, programs: Programs, tmp_path: Path, version: int, by: str
) -> None:
    install_old(empty_database, version)
    old, ports = old_relay(version, tmp_path), [free_port(), free_port()]
    urls = [f"ws://127.0.0.1:{port}/ws" for port in ports]
    async with AsyncExitStack() as relays:
        first, second = [
            await relays.enter_async_context(relay_process(empty_database, PORT=str(port), **old)) for port in ports
        ]
        async with load(empty_database, *urls, pause=0.02, clears=True) as tills, person(empty_database) as maria:
            await tills.goes_on(FURTHER, PATIENCE)
            await upgrade(empty_database, programs, by)
            # Old relays on the new schema work on; one that starts now says what is wrong.
            await both_go_on(tills, maria)
            status, said = await run("serve", DATABASE_URL=empty_database, PORT=str(free_port()), **old)
            assert status != 0
            assert f"this relay speaks {version}; use a newer relay" in said
            # The deploy: one relay after the other.
            await first.stop()
            new = await relays.enter_async_context(relay_process(empty_database, PORT=str(ports[0])))
            await both_go_on(tills, maria)
            async with Terminal(second.url, "at-old") as at_old, Terminal(new.url, "at-new") as at_new:
                await everything_works(at_old, at_new)
                if version < ROLL_CALLS_SINCE:
                    status, said = await run("kick", "at-old", DATABASE_URL=empty_database)
                    assert (status, at_old.close_code) == (1, None)
                    assert "1 more relay listens" in said
                    assert "schema version 2" in said
            await second.stop()
            await both_go_on(tills, maria)
        no_errors(first, second, new)
    assert programs.dump(empty_database, "--schema-only") == programs.dump(database, "--schema-only")


async def both_go_on(tills: Load, maria: Person) -> None:
    more = maria.committed + FURTHER
    await tills.goes_on(FURTHER, PATIENCE)
    await until(lambda: maria.committed >= more or maria.failed, PATIENCE)


def no_errors(*relays: RelayProcess) -> None:
    for relay in relays:
        assert "Traceback" not in relay.log, relay.log
        assert " ERROR " not in relay.log, relay.log
