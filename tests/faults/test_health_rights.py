"""Somebody takes a right away, or makes another role the owner, while relays run: health says so, and it comes back."""

from __future__ import annotations

import logging
from typing import NamedTuple

import pytest

from tests.faults.deeds import TABLE, execute
from tests.faults.health import GREEN, LONG, SHORT, says
from tests.least import as_role, install_roles
from tests.relays import local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until


class Taken(NamedTuple):
    """What takes something away, what gives it back, and what is said of it."""

    take: str
    give: str
    said: str
    health: str = "degraded"


def execution(function: str, name: str, **more: str) -> Taken:
    """The right to call a function."""
    take, give = f"revoke execute on function {function} from", f"grant execute on function {function} to"
    return Taken(f"{take} pos_relay", f"{give} pos_relay", f"{name} may not be called by pos_relay", **more)


def owner(what: str, said: str) -> Taken:
    """That something belongs to the schema's owner."""
    return Taken(f"alter {what} owner to pos_reader", f"alter {what} owner to pos_owner", said)


TAKEN = {
    "snapshots": execution("pos.snapshot(bigint, integer)", "pos.snapshot"),
    "writing": execution("pos.apply", "pos.apply"),
    "heads": execution("pos.read_heads(bigint[])", "pos.read_heads", health="down"),
    "the log": Taken(
        "revoke select on pos.sync_log from pos_relay",
        "grant select on pos.sync_log to pos_relay",
        'permission denied for table sync_log (in SQL function "changes_after"',
    ),
    "the owner of a function": owner(
        "function pos.snapshot(bigint, integer)", "pos.snapshot belongs to pos_reader, and the schema to pos_owner"
    ),
    "the owner of writing": owner("function pos.apply", "pos.apply belongs to pos_reader, and the schema to pos_owner"),
    "the owner of a table": owner(
        "table pos.categories", 'permission denied for table categories (in SQL function "snapshot"'
    ),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_a_relay_at_which_nobody_asks_says_what_is_refused(database: str, name: str) -> None:
    install_roles(database)
    taken = TAKEN[name]
    async with local_relay(as_role(database, "pos_relay")) as relay:
        execute(database, taken.take)
        await says(relay, ("200", "503", taken.health), SHORT)

        async def is_said() -> bool:
            problems = (await relay.get("/health/ready"))[2]["problems"]
            return any(taken.said in one and "run relay doctor" in one for one in problems)

        await until(is_said, what=taken.said)
        execute(database, taken.give)
        await says(relay, GREEN, LONG)


async def test_terminals_wait_for_a_right_and_are_synced_when_it_is_given_back(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    install_roles(database)
    taken = TAKEN["snapshots"]
    async with local_relay(as_role(database, "pos_relay")) as relay:
        execute(database, taken.take)
        many = [await Terminal(relay.url).connect(sync=False) for _ in range(5)]
        for one in many:
            await one.say("SYNC_REQUEST")
            assert (await one.hears("ERROR"))["data"]["code"] == "UNAVAILABLE"
        await says(relay, ("200", "503", "degraded"), SHORT)
        assert [one.close_code for one in many] == [None] * 5
        # However many ask, and however often it is tried: the operator is told once of the reads, and once by health.
        told = [(one.name, one.getMessage()) for one in caplog.records if "refuses" in one.getMessage()]
        assert sorted({name for name, _ in told}) == ["relay.health", "relay.unreadable"]
        assert len(told) == len(set(told))
        assert not [one for one in caplog.records if one.exc_info or "waits for the database" in one.getMessage()]
        execute(database, taken.give)
        await until(lambda: all(one.epoch for one in many), what="every SYNC_RESPONSE")
        await says(relay, GREEN, LONG)
        await agree(database, *many)
        for one in many:
            await one.close()


@pytest.mark.parametrize("name", ["writing", "the owner of writing"])
async def test_what_cannot_be_written_for_want_of_a_right_is_kept_or_may_be_repeated(database: str, name: str) -> None:
    install_roles(database)
    taken = TAKEN[name]
    async with local_relay(as_role(database, "pos_relay")) as relay, terminals(relay.url, 1) as (terminal,):
        execute(database, taken.take)
        refused = await terminal.refused("UPDATE_SETTINGS", {"theme": "dark"})
        assert (refused["code"], refused["retryable"]) == ("UNAVAILABLE", True)
        await terminal.say("UPDATE_TABLE", {"action": "add", "data": {"id": "t1", "number": 1, **TABLE}})
        await says(relay, ("200", "503", "degraded"), SHORT)
        execute(database, taken.give)
        await until(lambda: "t1" in terminal.tables, what="the table that was kept")
        await says(relay, GREEN, LONG)
        await agree(database, terminal)
