"""Every command, as every role and as nobody: done, or one sentence that says what to do, and never a traceback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from relay import errors, logs, schema
from relay.__main__ import main
from tests.cluster import TestCluster, running_cluster
from tests.least import ROLES, as_role, install_roles
from tests.relays import relay_process
from tests.test_backups import BACKUP
from tests.waiting import until

PASSWORD = "right-9876"
ELSEWHERE = {"serve", "tail", "schema describe"}  # serve is below; the others ask no database
# In an order in which each has what it needs. A command that is not here fails the first test.
ARGUMENTS = {
    "schema check": "",
    "schema apply": "",
    "schema diff": "",
    "doctor": "",
    "seed": "",
    "import": "export.json --replace",
    "restaurant add": "bistro",
    "restaurant list": "",
    "terminal add": "--name Bar",
    "terminal list": "",
    "terminal rotate": "Bar",
    "terminal revoke": "Bar",
    "terminals": "--restaurant default",
    "kick": "nobody --restaurant default",
    "prune": "",
}
OF_ADMIN = {name for name in ARGUMENTS if name.startswith("terminal")} | {"kick", "restaurant list"}
ALLOWED = {
    "pos_owner": set(ARGUMENTS),
    "pos_relay": {"schema check", "schema diff", "doctor", "prune"},
    "pos_admin": {"schema check", "schema diff", "doctor", "prune"} | OF_ADMIN,
    "pos_reader": set[str](),
}


class Done(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def names_of(group: click.Group, before: str = "") -> Iterator[str]:
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from names_of(each, f"{name} ")
        else:
            yield before + name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda *_: None)  # of this process
    Path("export.json").write_text(json.dumps(BACKUP))


def run(conninfo: str, name: str) -> Done:
    """A command in this process; what it raises is raised here."""
    done = CliRunner().invoke(main, [*name.split(), *ARGUMENTS[name].split()], env={"DATABASE_URL": conninfo})
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def guarded() -> Iterator[TestCluster]:
    """A PostgreSQL with an empty database, one with the schema and its roles, and a role that needs a password."""
    with running_cluster() as cluster:
        for name in ("minipos", "empty"):
            cluster.create_database(name)
        asyncio.run(schema.apply(cluster.tcp("minipos")))
        install_roles(cluster.tcp("minipos"))
        with psycopg.connect(cluster.tcp("minipos"), autocommit=True) as connection:
            for role in ROLES:
                connection.execute(f"create role a_{role} login in role {role}".encode())
            connection.execute(f"create role locked login password '{PASSWORD}' in role pos_admin".encode())
            connection.execute("create role stranger login")
        rules = cluster.data / "pg_hba.conf"
        rules.write_text(f"host all locked all scram-sha-256\n{rules.read_text()}")
        cluster.say("select pg_reload_conf()")
        yield cluster


def test_no_command_is_forgotten() -> None:
    assert sorted(names_of(main)) == sorted({*ARGUMENTS, *ELSEWHERE})


@pytest.mark.parametrize("role", ROLES)
def test_a_command_is_done_or_says_which_role_may_do_it(guarded: TestCluster, role: str) -> None:
    conninfo = as_role(guarded.tcp("minipos"), f"a_{role}")
    for name in ARGUMENTS:
        if name in ALLOWED[role]:
            done = run(conninfo, name)
            assert "may not do this" not in done.stdout + done.stderr, name
            assert done.status == (1 if name in {"doctor", "kick"} else 0), (name, done)  # fsync is off, nobody is here
        else:
            done = run(conninfo, name)
            assert done.status == 1, (name, done)
            said = done.stdout if name == "doctor" else done.stderr
            assert f"the role a_{role} may not do this (" in said, name
            assert "as pos_relay (serve, doctor, prune), as a member of pos_admin (" in said


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"user": "locked", "password": "wrong-1234"}, errors.LET_IN),
        ({"user": "locked"}, errors.LET_IN),
        ({"user": "nobody_at_all"}, errors.LET_IN),
        ({"user": "stranger"}, errors.LET_IN),
        ({"dbname": "nowhere"}, errors.LET_IN),
        ({"port": "1"}, "for the database of `make run`: DB_HOST="),
        ({"host": "nowhere.invalid"}, "for the database of `make run`: DB_HOST="),
        ({"dbname": "empty"}, schema.HOW_TO_APPLY),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_who_is_not_let_in_is_told_what_to_set(guarded: TestCluster, way: dict[str, str], said: str) -> None:
    conninfo = make_conninfo(guarded.tcp("minipos"), **way)
    for name in ARGUMENTS:
        if way == {"dbname": "empty"} and name == "schema apply":
            continue
        done = run(conninfo, name)
        assert done.status == (1 if "empty" in way.values() or name == "doctor" else 69), (name, done)
        assert said in done.stdout + done.stderr, (name, done)
        assert "1234" not in done.stdout + done.stderr


async def test_a_relay_that_is_not_let_in_says_so_and_waits(guarded: TestCluster) -> None:
    conninfo = make_conninfo(guarded.tcp("minipos"), user="locked", password="wrong-1234")
    async with relay_process(conninfo, wait_ready=False) as relay:
        await until(lambda: "the database does not let the relay in; waiting for it" in relay.log, within=20.0)
        assert "password authentication failed" in relay.log
        assert "wrong-1234" not in relay.log


async def test_a_relay_whose_role_may_not_even_look_says_so_and_ends(guarded: TestCluster) -> None:
    async with relay_process(as_role(guarded.tcp("minipos"), "a_pos_reader"), wait_ready=False) as relay:
        assert await relay.ended(within=20.0) == 1
        assert "relay: the role a_pos_reader may not do this (permission denied for " in relay.log
        assert "Traceback" not in relay.log


async def test_a_relay_whose_role_may_not_serve_says_so_and_is_not_ready(guarded: TestCluster) -> None:
    async with relay_process(as_role(guarded.tcp("minipos"), "a_pos_admin"), wait_ready=False) as relay:
        refused = "pos.apply may not be called by a_pos_admin"
        await until(lambda: refused in relay.log, within=20.0)
        status, _, health = await relay.get("/health")
        assert (status, health["ready"]) == (503, False)
        assert refused in health["problems"][0]
        assert "Traceback" not in relay.log
