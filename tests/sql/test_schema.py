"""Installing: by psql and by the relay, again, at once, over something newer, half way, and in the wrong place."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from relay import schema
from relay.errors import SchemaError
from tests.cluster import TestCluster
from tests.sql.shop import NEW_TABLE, Shop


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


FILES = Path(__file__).parents[2] / "sql"
OLD_VERSIONS = range(1, schema.VERSION)  # each as it was, in tests/sql/versions


def install_old(conninfo: str, version: int) -> None:
    """Installs an earlier version of the schema into an empty database."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute((Path(__file__).parent / "versions" / f"{version}.sql").read_bytes())


class Programs:
    """PostgreSQL's own programs, run from a folder of no importance."""

    def __init__(self, bin_dir: Path, folder: Path) -> None:
        self._bin_dir = bin_dir
        self._folder = folder

    def run(self, program: str, conninfo: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._bin_dir / program, f"--dbname={conninfo}", *arguments],
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def install(self, conninfo: str, file: str = "schema.sql", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("psql", conninfo, "--no-psqlrc", "--file", str(FILES / file), **environment)

    def dump(self, conninfo: str, *arguments: str) -> str:
        done = self.run("pg_dump", conninfo, *arguments)
        assert done.returncode == 0, done.stderr
        return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)  # a random word each time


@pytest.fixture
def programs(cluster: TestCluster, tmp_path: Path) -> Programs:
    return Programs(cluster.bin_dir, tmp_path)


@pytest.fixture(params=OLD_VERSIONS)
def old_database(empty_database: str, request: pytest.FixtureRequest) -> str:
    """A database with each earlier version of the schema."""
    install_old(empty_database, request.param)
    return empty_database


def apply(conninfo: str) -> None:
    asyncio.run(schema.apply(conninfo))


def test_psql_and_the_relay_install_the_same(database: str, empty_database: str, programs: Programs) -> None:
    done = programs.install(empty_database)
    assert (done.returncode, done.stderr) == (0, "")
    dump = programs.dump(empty_database, "--schema-only")
    assert "CREATE TABLE pos.sync_log" in dump
    assert dump == programs.dump(database, "--schema-only")


def test_installing_again_changes_nothing_and_says_nothing(shop: Shop, programs: Programs) -> None:
    shop.table("add", NEW_TABLE)
    shop.sql("update pos.restaurants set slug = 'renamed'")
    before = programs.dump(shop.conninfo)
    epoch = shop.one("select pos.epoch()")
    for _ in range(2):
        done = programs.install(shop.conninfo)
        assert (done.returncode, done.stderr) == (0, "")
    apply(shop.conninfo)
    assert programs.dump(shop.conninfo) == before
    assert shop.one("select pos.epoch()") == epoch
    assert shop.table("update", {"id": "t", "seats": 5}).version == 2


def test_eight_first_installs_at_once_all_succeed(empty_database: str, programs: Programs) -> None:
    def install(number: int) -> None:
        if number % 2:
            apply(empty_database)
        else:
            done = programs.install(empty_database)
            assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(install, range(8)))
    with Shop(empty_database) as shop:
        assert shop.sql("select slug, restaurant_id from pos.restaurants") == [("default", 1)]
        assert shop.table("add", NEW_TABLE).revision == 1


def test_a_newer_schema_is_not_overwritten(shop: Shop, programs: Programs) -> None:
    shop.sql("update pos.installation set version = 7")
    before = programs.dump(shop.conninfo)
    done = programs.install(shop.conninfo)
    assert done.returncode != 0
    assert "version 7" in done.stderr
    assert f"version {schema.VERSION}" in done.stderr
    assert "HINT:" in done.stderr
    with pytest.raises(SchemaError, match=rf"version 7.* version {schema.VERSION} .*newer relay"):
        apply(shop.conninfo)
    with pytest.raises(SchemaError, match=rf"version 7.* {schema.VERSION};"):
        asyncio.run(schema.ensure(shop.conninfo, upgrade=True))
    assert programs.dump(shop.conninfo) == before


@pytest.mark.parametrize("by", ["psql", "relay"])
def test_an_install_that_fails_leaves_nothing_behind(empty_database: str, programs: Programs, by: str) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("create schema pos")
        # In the way of the last file but two.
        connection.execute("create function pos.epoch() returns integer language sql as 'select 1'")
    before = programs.dump(empty_database)
    if by == "psql":
        assert "cannot change return type" in programs.install(empty_database).stderr
    else:
        with pytest.raises(SchemaError, match="cannot change return type"):
            apply(empty_database)
    assert programs.dump(empty_database) == before


def test_an_empty_database_is_installed(empty_database: str) -> None:
    assert asyncio.run(schema.installed_version(empty_database)) is None
    asyncio.run(schema.ensure(empty_database, upgrade=False))
    assert asyncio.run(schema.installed_version(empty_database)) == schema.VERSION


def test_an_old_database_is_upgraded_only_with_leave(old_database: str) -> None:
    with pytest.raises(SchemaError, match=rf"version \d, .* needs {schema.VERSION}; .*relay schema apply"):
        asyncio.run(schema.ensure(old_database, upgrade=False))
    asyncio.run(schema.ensure(old_database, upgrade=True))
    assert asyncio.run(schema.installed_version(old_database)) == schema.VERSION


@pytest.mark.parametrize("by", ["psql", "relay"])
def test_an_upgrade_ends_where_a_new_install_begins_and_keeps_everything(
    old_database: str, database: str, programs: Programs, by: str
) -> None:
    with Shop(old_database) as shop:
        shop.table("add", NEW_TABLE)
        shop.table("add", {**NEW_TABLE, "id": "gone", "number": 41})
        shop.table("delete", {"id": "gone"})
        shop.message({"text": "the kitchen bell"})
        before = shop.log(), shop.rows("tables"), shop.one("select pos.epoch()")
        if by == "psql":
            done = programs.install(old_database)
            assert (done.returncode, done.stderr) == (0, "")
        else:
            apply(old_database)
        assert (shop.log(), shop.rows("tables"), shop.one("select pos.epoch()")) == before
        assert shop.table("add", {**NEW_TABLE, "id": "gone", "number": 41}).version == 3
        shop.check()
    assert programs.dump(old_database, "--schema-only") == programs.dump(database, "--schema-only")


def test_an_upgrade_does_not_wait_for_ever_behind_a_forgotten_begin(shop: Shop, programs: Programs) -> None:
    shop.table("add", NEW_TABLE)
    with shop.again(autocommit=False) as forgotten:
        forgotten.sql("update pos.tables set seats = 9")
        done = programs.install(shop.conninfo)
        assert "lock timeout" in done.stderr
    assert programs.install(shop.conninfo).returncode == 0


@pytest.mark.parametrize("line", ["\\gexec", "\\i other.sql", "\\set ON_ERROR_STOP off", "\\ir"])
def test_the_loader_refuses_what_only_psql_understands(tmp_path: Path, line: str) -> None:
    (tmp_path / "entry.sql").write_text(f"\\ir included.sql\n{line}\n")
    (tmp_path / "included.sql").write_text("\\set ON_ERROR_STOP on\nselect 1;\n")
    with pytest.raises(SchemaError, match=re.escape(line)):
        schema.script(str(tmp_path / "entry.sql"))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_in_utf8_is_refused(
    empty_database: str, cluster: TestCluster, programs: Programs, encoding: str
) -> None:
    name = f"not_in_utf8_{encoding.lower()}"
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"create database {name} template template0 encoding '{encoding}' locale 'C'")
        try:
            done = programs.install(cluster.conninfo(name))
            with pytest.raises(SchemaError, match=rf"UTF8, this one is in {encoding} \(createdb --encoding"):
                apply(cluster.conninfo(name))
            with psycopg.connect(cluster.conninfo(name)) as refused:
                assert refused.execute("select to_regnamespace('pos')").fetchone() == (None,)
        finally:
            connection.execute(f"drop database {name} with (force)")
    assert done.returncode != 0
    assert "UTF8" in done.stderr
    assert "HINT:" in done.stderr


def test_a_terminal_in_another_encoding_changes_no_text(database: str, empty_database: str, programs: Programs) -> None:
    done = programs.install(empty_database, PGCLIENTENCODING="LATIN1")
    assert done.returncode == 0, done.stderr
    assert programs.dump(empty_database, "--schema-only") == programs.dump(database, "--schema-only")
    assert programs.install(empty_database, "seed.sql", PGCLIENTENCODING="LATIN1").returncode == 0
    with Shop(empty_database) as shop:
        assert shop.row("menu_items", "1")["name"] == "မုန့်ဟင်းခါး / Mohinga"
