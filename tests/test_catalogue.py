"""`relay schema diff` and `relay schema describe`: what differs from a fresh install, and the page of the schema."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg

from relay import catalogue, schema
from tests.least import install_roles

PAGE = Path(__file__).parent.parent / "docs" / "schema.md"


def run(conninfo: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "schema", *arguments]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": conninfo}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def say(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_a_fresh_install_differs_in_nothing_with_and_without_roles(database: str) -> None:
    done = run(database, "diff")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the schema is as a fresh install makes it\n", "")
    install_roles(database)
    assert await catalogue.differences(database) == []


def test_whatever_was_changed_by_hand_is_named(database: str) -> None:
    say(
        database,
        "drop index pos.tables_order_id",
        "alter table pos.tables disable trigger b_log_update",
        "alter table pos.tables drop constraint tables_seats",
        "alter table pos.tables add column colour text",
        "alter table pos.sync_log set (autovacuum_enabled = off)",
        "create index by_status on pos.tables (status)",
        "create or replace function pos.prove(p_instance_id text) returns void language sql as 'select null'",
        "comment on column pos.tables.number is 'Mine.'",
        "grant select on pos.staff to public",
    )
    done = run(database, "diff")
    assert (done.returncode, done.stderr) == (1, "")
    kinds = [" ".join(line.split()[:3]).rstrip(":") for line in done.stdout.splitlines()]
    assert sorted(kinds) == sorted(
        [
            "missing: index pos.tables_order_id",
            "different: trigger b_log_update",
            "missing: constraint tables_seats",
            "extra: column pos.tables.colour",
            "different: table pos.sync_log",
            "extra: index pos.by_status",
            "different: function pos.prove(text)",
            "different: column pos.tables.number",
            "extra: grant of",
        ]
    )
    assert "on pos.staff to public" in done.stdout
    say(database, "drop schema pos cascade")
    assert "there is no schema" in run(database, "diff").stderr


def test_a_difference_far_inside_a_long_definition_is_shown() -> None:
    # Past where it was cut, and in a line more.
    for here, fresh, shown in (
        ("x" * 500 + " mine", "x" * 500 + " yours", f"{'x' * 39} mine"),
        ("x\n" * 200 + "end\n-- mine\nmore", "x\n" * 200 + "end", "end\n-- mine"),
        ("x\n" * 200 + "  end", "x\n" * 200 + "end", "  end"),
    ):
        [line] = catalogue.compared({"it": fresh}, {"it": here})
        mine, theirs = line.removeprefix("different: it: ").split(" instead of ")
        assert mine == repr(shown)
        assert mine != theirs


async def test_the_page_of_the_schema_is_up_to_date(database: str) -> None:
    async with schema.connected(database, 10.0) as connection:
        page = await catalogue.describe(connection)
    assert page == PAGE.read_text(), "relay schema describe > docs/schema.md"


def test_the_command_prints_the_page_and_needs_no_database() -> None:
    assert run("host=nowhere.invalid", "describe").stdout == PAGE.read_text()
