"""`relay doctor`: each fault is put in by hand, and named with its mend; those of a server have a file beside this."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from relay import doctor, schema
from relay.findings import Finding
from relay.settings import Settings
from tests.cluster import TestCluster, running_cluster
from tests.least import as_role, install_roles
from tests.pooler import pooled
from tests.standby import running_standby
from tests.waiting import until

DATABASE = "minipos"
SOUND = Settings(conninfo="", listen_conninfo="", database_named=True)


@pytest.fixture(scope="module")
def sound_cluster() -> Iterator[TestCluster]:
    """A stock PostgreSQL."""
    with running_cluster(fsync="on") as cluster:
        yield cluster


@pytest.fixture
async def sound(sound_cluster: TestCluster) -> AsyncIterator[str]:
    """The connection string, over TCP, of a database on it with the schema installed."""
    sound_cluster.create_database(DATABASE)
    conninfo = sound_cluster.tcp(DATABASE)
    await schema.apply(conninfo)
    yield conninfo
    with psycopg.connect(sound_cluster.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {DATABASE} with (force)")


async def examined(conninfo: str, **settings: Any) -> list[Finding]:
    """What the doctor finds, but for what is well."""
    found = {"listen_conninfo": conninfo, **settings}
    chosen = dataclasses.replace(SOUND, conninfo=conninfo, **found)
    return [one async for one in doctor.examine(chosen) if one.level != "ok"]


async def faults(conninfo: str, **settings: Any) -> list[Finding]:
    """The faults alone: each is named as such, and says how to mend it."""
    found = [one for one in await examined(conninfo, **settings) if one.level == "fault"]
    assert all(one.mend for one in found)
    return found


async def the_fault(conninfo: str, **settings: Any) -> Finding:
    """The only fault."""
    [one] = await faults(conninfo, **settings)
    return one


def say(conninfo: str, *statements: str) -> None:
    """Run statements, mends as they are printed among them."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def reloaded(conninfo: str, statement: str, name: str, value: str) -> None:
    """Run a statement, reload, and wait until a setting has a value."""
    say(conninfo, statement, "select pg_reload_conf()")

    def taken() -> bool:
        with psycopg.connect(conninfo) as connection:
            return connection.execute("select current_setting(%s)", (name,)).fetchone() == (value,)

    await until(taken, what=f"{name} = {value}")


async def test_a_stock_postgresql_has_no_fault_and_three_pieces_of_advice(sound: str) -> None:
    found = await examined(sound)
    assert [(one.level, one.name) for one in found] == [("advice", "roles"), *[("advice", "timeouts")] * 2]
    assert "tcp_user_timeout" in found[1].mend
    assert "idle_in_transaction_session_timeout" in found[2].mend
    # The mends are followed.
    install_roles(sound)
    await reloaded(sound, found[1].mend.partition(", and reload")[0], "tcp_user_timeout", "5000")
    say(sound, found[2].mend)
    try:
        assert await examined(as_role(sound, "pos_relay")) == []
    finally:
        await reloaded(sound, "alter system reset all", "tcp_user_timeout", "0")


async def test_the_schema_is_missing_old_or_too_new(sound: str) -> None:
    say(sound, "update pos.installation set version = 1")
    assert f"version 1, this relay needs {schema.VERSION}" in (await the_fault(sound)).message
    say(sound, "update pos.installation set version = 99")
    assert (await the_fault(sound)).mend == "use a newer relay"
    say(sound, "drop schema pos cascade")
    one = await the_fault(sound)
    assert (one.name, one.mend) == ("schema", schema.HOW_TO_APPLY)


async def test_a_trigger_that_is_missing_and_one_that_is_disabled_are_named(sound: str) -> None:
    say(sound, "drop trigger b_log_update on pos.tables", "alter table pos.menu_items disable trigger a_write")
    missing, disabled = await faults(sound)
    assert "b_log_update of pos.tables is missing" in missing.message
    assert missing.mend == schema.HOW_TO_APPLY
    assert "a_write of pos.menu_items is disabled" in disabled.message
    say(sound, disabled.mend)
    await schema.apply(sound)
    assert await faults(sound) == []


async def test_a_role_without_rights_is_told_which_to_grant(sound: str) -> None:
    say(sound, "create role waiter login")
    try:
        found = await faults(make_conninfo(sound, user="waiter"))
        assert {one.name for one in found} == {"schema"}  # it may not even look for the version
        say(sound, "grant usage on schema pos to waiter", "grant select on pos.installation to waiter")
        found = await faults(make_conninfo(sound, user="waiter"))
        assert {one.name for one in found} == {"grants"}
        say(sound, *(one.mend.partition(", or let")[0] for one in found))
        assert await faults(make_conninfo(sound, user="waiter")) == []
    finally:
        say(sound, "drop owned by waiter", "drop role waiter")


async def test_who_is_not_the_relays_role_is_told_so_once(sound: str) -> None:
    install_roles(sound)
    say(sound, "create role boss login in role pos_admin")
    try:
        one = await the_fault(as_role(sound, "boss"))
        assert "boss is not the relay's role" in one.message
        assert one.mend == "run relay doctor with the relay's settings"
    finally:
        say(sound, "drop role boss")


async def test_what_belongs_to_somebody_else_than_the_schema_is_named(sound: str) -> None:
    install_roles(sound)
    say(sound, "create role maria")
    try:
        say(sound, "alter function pos.snapshot(bigint,integer) owner to maria", "alter table pos.staff owner to maria")
        found = await faults(as_role(sound, "pos_relay"))
        assert [one.mend for one in found] == [
            "alter function pos.snapshot(bigint,integer) owner to pos_owner",
            "alter table pos.staff owner to pos_owner",
        ]
        assert all("belongs to maria" in one.message for one in found)
        say(sound, *(one.mend for one in found))
        assert await faults(as_role(sound, "pos_relay")) == []
    finally:
        say(sound, "drop owned by maria", "drop role maria")


async def test_a_pooler_that_swallows_listen_is_noticed(sound: str) -> None:
    with pooled(sound) as through:
        one = await the_fault(through)
        assert one.name == "listen"
        assert "transaction mode" in one.message
        assert await faults(through, listen_conninfo=sound) == []


async def test_a_listening_address_of_another_database_is_noticed(sound: str, sound_cluster: TestCluster) -> None:
    one = await the_fault(sound, listen_conninfo=sound_cluster.tcp("postgres"))
    assert (one.name, "another database" in one.message) == ("listen", True)


async def test_a_database_that_is_away_and_a_standby_are_told_apart(sound: str, sound_cluster: TestCluster) -> None:
    one = await the_fault(make_conninfo(sound, port=1))
    assert (one.name, "cannot be reached" in one.message) == ("connection", True)
    for unknown in ({"user": "nobodyrole"}, {"dbname": "nowhere"}):
        one = await the_fault(make_conninfo(sound, **unknown))
        assert ("does not exist" in one.message, "start PostgreSQL" in one.mend) == (True, False)
    with running_standby(sound_cluster) as standby:
        assert "standby" in (await the_fault(standby.tcp(DATABASE))).message


async def test_where_the_roles_are_installed_the_relay_is_advised_to_use_them_and_needs_no_more(sound: str) -> None:
    [advice] = [one for one in await examined(sound) if one.name == "roles"]
    assert "sql/roles.sql" in advice.mend
    install_roles(sound)
    [advice] = [one for one in await examined(sound) if one.name == "roles"]
    assert advice.mend == "let the relay connect as pos_relay"
    relay = as_role(sound, "pos_relay")
    assert {one.name for one in await examined(relay)} == {"timeouts"}
    for right in ("execute on function pos.snapshot(bigint,integer)", "select on pos.heads"):
        say(sound, f"revoke {right} from pos_relay")
        fault = await the_fault(relay)
        assert fault.name == "grants"
        assert right in fault.message
        assert fault.mend == "psql -d DATABASE -f sql/roles.sql"
        install_roles(sound)
    assert await faults(relay) == []


async def test_authentication_that_lets_in_everybody_or_nobody_is_named(sound: str, tmp_path: Path) -> None:
    def found(all_: list[Finding]) -> list[Finding]:
        return [one for one in all_ if one.name == "authentication"]

    assert found(await examined(sound)) == []  # off, on this machine alone
    [advice] = found(await examined(sound, host="0.0.0.0", allow_open=True))
    assert (advice.level, "whoever reaches" in advice.message) == ("advice", True)

    one = await the_fault(sound, auth="token")
    assert (one.name, "nobody is enrolled" in one.message) == ("authentication", True)
    say(sound, "insert into pos.terminals (restaurant_id, name, token_hash) select restaurant_id, 'Bar', sha256('x') "
        "from pos.restaurants")  # fmt: skip
    assert await faults(sound, auth="token") == []
    say(sound, "update pos.terminals set revoked_at = now()")
    assert (await the_fault(sound, auth="token")).mend == "relay terminal add --name NAME"

    key = tmp_path / "key"
    one = await the_fault(sound, auth="jwt", jwt_key=key)
    assert (one.name, "cannot be read" in one.message) == ("authentication", True)
    key.write_text("too short")
    assert (await the_fault(sound, auth="jwt", jwt_key=key)).name == "authentication"
    key.write_text("x" * 40)
    assert await faults(sound, auth="jwt", jwt_key=key) == []


async def test_where_the_roles_are_installed_the_relay_may_count_who_is_enrolled(sound: str) -> None:
    install_roles(sound)
    one = await the_fault(as_role(sound, "pos_relay"), auth="token")
    assert "nobody is enrolled" in one.message


async def test_a_standby_that_is_of_no_use_is_named(sound: str, sound_cluster: TestCluster) -> None:
    say(sound, "insert into pos.tables (restaurant_id, id, number, seats) select restaurant_id, '4', 4, 2 "
        "from pos.restaurants")  # fmt: skip
    one = await the_fault(sound, read_conninfo=make_conninfo(sound, port=1))
    assert (one.name, "of no use" in one.message) == ("standby", True)
    assert "no standby" in (await the_fault(sound, read_conninfo=sound)).message
    with running_standby(sound_cluster) as standby:
        assert await faults(sound, read_conninfo=standby.tcp(DATABASE)) == []
        standby.say("select pg_wal_replay_pause()")
        one = await the_fault(sound, read_conninfo=standby.tcp(DATABASE))
        assert "stopped replaying" in one.message
        standby.say("select pg_wal_replay_resume()")
        assert await faults(sound, read_conninfo=standby.tcp(DATABASE)) == []
    with running_cluster() as other:
        other.create_database(DATABASE)
        await schema.apply(other.tcp(DATABASE))
        say(other.tcp(DATABASE), "insert into pos.tables (restaurant_id, id, number, seats) "
            "select restaurant_id, '4', 4, 2 from pos.restaurants")  # fmt: skip
        with running_standby(other) as stranger:
            assert "another history" in (await the_fault(sound, read_conninfo=stranger.tcp(DATABASE))).message


def run(conninfo: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "doctor", *arguments]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": conninfo}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_prints_what_is_found_and_exits_1_on_a_fault_only(sound: str) -> None:
    done = run(sound)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n0 faults, 3 pieces of advice\n")
    say(sound, "alter table pos.tables disable trigger b_log_update")
    done = run(sound)
    assert done.returncode == 1
    assert done.stdout.endswith("\n1 fault, 3 pieces of advice\n")
    assert "mend: alter table pos.tables enable trigger b_log_update" in done.stdout
    done = run(sound, "--json")
    assert done.returncode == 1
    assert [one["name"] for one in json.loads(done.stdout) if one["level"] == "fault"] == ["triggers"]


def test_a_password_is_not_printed(sound: str) -> None:
    wrong = make_conninfo(sound, password="geheim-1234", dbname="none")
    done = run(wrong, "--json")
    assert "geheim-1234" not in done.stdout + done.stderr
    assert "geheim-1234" not in run(make_conninfo(sound, password="geheim-1234")).stdout
