"""Least privilege: roles.sql run again, upgraded, by whoever may, and restored from a dump."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from relay import catalogue, retention, schema, terminals
from relay.settings import Settings
from tests.cluster import TestCluster
from tests.least import ROLES, as_role, install_roles
from tests.sql.shop import NEW_TABLE, Mutation, Shop
from tests.sql.test_roles import MUTATIONS, owner, relay
from tests.sql.test_schema import OLD_VERSIONS, Programs, install_old, programs

__all__ = ["owner", "programs", "relay"]


def test_running_it_again_changes_nothing_and_neither_does_an_upgrade(owner: Shop, programs: Programs) -> None:
    before = programs.dump(owner.conninfo)
    assert "SECURITY DEFINER" in before
    done = programs.install(owner.conninfo, "roles.sql")
    assert (done.returncode, done.stderr) == (0, "")
    assert programs.dump(owner.conninfo) == before
    for _ in range(2):
        done = programs.install(owner.conninfo)
        assert (done.returncode, done.stderr) == (0, "")
        assert programs.dump(owner.conninfo) == before
    # What an upgrade makes anew belongs to the owner too, whoever runs it.
    owner.sql("drop function pos.history_of(text, text, text)")
    owner.sql("drop table pos.lagging")
    assert programs.install(owner.conninfo).returncode == 0
    assert programs.dump(owner.conninfo) == before


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_an_old_database_with_roles_ends_where_a_new_one_does(
    empty_database: str, owner: Shop, programs: Programs, version: int
) -> None:
    install_old(empty_database, version)
    assert programs.install(empty_database).returncode == 0
    install_roles(empty_database)
    assert programs.dump(empty_database, "--schema-only") == programs.dump(owner.conninfo, "--schema-only")


def test_a_dba_who_is_no_superuser_installs_and_upgrades(cluster: TestCluster, programs: Programs) -> None:
    # As on a managed PostgreSQL. The roles are the cluster's, so they must not be there already.
    superuser = cluster.conninfo("postgres")
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("create role dba login createrole")
        present = {name for (name,) in connection.execute("select rolname from pg_roles").fetchall()}
        for role in ROLES:
            if role in present:
                option = "with admin option" if connection.info.server_version < 160_000 else "with admin true"
                connection.execute(f"grant {role} to dba {option}".encode())
        connection.execute("create database managed owner dba template template0")
        conninfo = make_conninfo(cluster.conninfo("managed"), user="dba")
        try:
            for file in ("schema.sql", "roles.sql", "schema.sql", "roles.sql"):
                done = programs.install(conninfo, file)
                assert (done.returncode, done.stderr) == (0, ""), file
            with Shop(as_role(conninfo, "pos_relay")) as relay:
                assert relay.apply(MUTATIONS[:1])[0].code == "OK"
        finally:
            connection.execute("drop database managed with (force)")
            for role in ROLES:
                connection.execute(f"revoke {role} from dba cascade".encode())
            connection.execute("drop role dba")


@pytest.mark.parametrize("version", [None, *OLD_VERSIONS])
def test_whoever_owns_the_database_and_nothing_else_installs_upgrades_and_serves(
    cluster: TestCluster, programs: Programs, version: int | None
) -> None:
    """As on a managed PostgreSQL where not even a role can be made."""
    conninfo = as_role(cluster.conninfo("plain"), "tenant")
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("create role tenant login nosuperuser nocreaterole nocreatedb noreplication")
        connection.execute("create database plain owner tenant template template0")
        try:
            if version is not None:
                install_old(conninfo, version)
            for _ in range(2):
                done = programs.install(conninfo)
                assert (done.returncode, done.stderr) == (0, "")
            asyncio.run(schema.apply(conninfo))
            with Shop(conninfo) as shop:
                assert {answer.code for answer in shop.apply(MUTATIONS)} == {"OK"}
                shop.check()
            assert programs.install(conninfo, "roles.sql").returncode != 0  # it makes roles, or grants them
            assert asyncio.run(catalogue.differences(conninfo)) == []
        finally:
            connection.execute("drop database plain with (force)")
            connection.execute("drop role tenant")


def test_without_a_schema_it_says_what_to_run_first(empty_database: str, programs: Programs) -> None:
    done = programs.install(empty_database, "roles.sql")
    assert done.returncode != 0
    assert "First run sql/schema.sql" in done.stderr


def test_a_dump_is_restored_with_its_rights(
    owner: Shop, empty_database: str, programs: Programs, tmp_path: Path
) -> None:
    with Shop(as_role(owner.conninfo, "pos_relay")) as relay:
        relay.apply(MUTATIONS)
    dump = tmp_path / "dump.sql"
    dump.write_text(programs.dump(owner.conninfo))
    done = programs.run("psql", empty_database, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={dump}")
    assert (done.returncode, done.stderr) == (0, "")
    assert asyncio.run(catalogue.differences(empty_database)) == []
    with Shop(as_role(empty_database, "pos_relay")) as relay, Shop(empty_database) as restored:
        assert relay.apply([Mutation("UPDATE_TABLE", "add", NEW_TABLE)])[0].revision == len(MUTATIONS) + 1
        assert restored.one("select pos.epoch()") != owner.one("select pos.epoch()")
        with pytest.raises(errors.InsufficientPrivilege):
            relay.sql("delete from pos.tables")


async def test_pos_admin_enrols_revokes_and_prunes(owner: Shop, relay: Shop) -> None:
    owner.sql("create role manager login in role pos_admin")
    try:
        conninfo = as_role(owner.conninfo, "manager")
        await terminals.add(conninfo, "default", "Bar 1", "terminal")
        before = owner.one("select staff from pos.heads")
        await terminals.revoke(conninfo, None, "Bar 1")
        # Every relay is told, by a trigger that lends its owner's rights.
        assert owner.one("select staff from pos.heads") == before + 1
        relay.apply(MUTATIONS)
        settings = Settings(conninfo=conninfo, listen_conninfo=conninfo, database_named=True)
        gone = await retention.prune(settings, retention.Kept(0, 1))
        assert gone["changes"] == len(MUTATIONS) - 1
    finally:
        owner.sql("drop role manager")
