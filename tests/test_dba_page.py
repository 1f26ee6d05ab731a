"""The commands of docs/dba.md, from top to bottom, as a DBA types them: the roles, the relay, a backup, its return."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from relay import catalogue
from tests.cluster import TestCluster, running_cluster
from tests.least import as_role
from tests.relays import relay_process
from tests.sql.shop import NEW_TABLE, Mutation, Shop
from tests.terminals import Terminal
from tests.test_docs import DBA, ROOT, blocks

pytestmark = pytest.mark.timeout(120)

PASSWORD = "of-the-relay"


INSTALL, PRUNE, UPGRADE, BACKUP, RESTORE, MAKE_ROLES = (
    re.findall(r"^\$ (.*)$", block, flags=re.MULTILINE) for block in blocks(DBA, "console")
)


def runs(cluster: TestCluster, user: str, folder: Path) -> Callable[[str], str]:
    """What runs a command line beside sql/, as a user of a server, and gives back what it prints."""
    if not (folder / "sql").exists():
        (folder / "sql").symlink_to(ROOT / "sql")
    programs = [str(Path(sys.executable).parent), str(cluster.bin_dir), os.environ["PATH"]]
    environment = {
        "PATH": os.pathsep.join(programs),
        "PGHOST": str(cluster.socket_folder),
        "PGPORT": str(cluster.port),
        "PGUSER": user,
        "LC_ALL": "C.UTF-8",
        "DATABASE_URL": as_role(cluster.conninfo("minipos_db"), user),
    }

    def run(command: str) -> str:
        # Without a terminal, psql reads a password twice from its input.
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            input=f"{PASSWORD}\n{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )
        wrong = [line for line in done.stderr.splitlines() if "ERROR" in line]
        harmless = [line for line in wrong if re.search(r"role \"\w+\" already exists", line)]  # as the page says
        assert (done.returncode, wrong) == (0, harmless), (command, done.stderr)
        return done.stdout

    return run


async def test_the_commands_for_dbas_do_what_the_page_says(private_cluster: TestCluster, tmp_path: Path) -> None:
    run = runs(private_cluster, "postgres", tmp_path)
    for command in INSTALL:
        run(command)
    database = private_cluster.tcp("minipos_db")
    with psycopg.connect(private_cluster.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("alter system set password_encryption = 'scram-sha-256'")
        hba = private_cluster.data / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all pos_relay all scram-sha-256\nhost all all all trust\n")
        connection.execute("select pg_reload_conf()")
    async with (
        relay_process(make_conninfo(database, user="pos_relay", password=PASSWORD)) as relay,
        Terminal(relay.url) as one,
    ):
        await one.table("add", {"id": "4", "number": 4, "seats": 2, "status": "available"})
        for command in (*PRUNE, *UPGRADE):
            said = run(command)
        assert "as a fresh install makes it" in said
        dumper, server = run(BACKUP[0]).splitlines()
        assert server.split()[0] in dumper
        for command in BACKUP[1:]:
            run(command)
        await one.table("update", {"id": "4", "seats": 9})
        for command in RESTORE:
            run(command)
        restored = make_conninfo(private_cluster.tcp("minipos_new"), user="pos_relay", password=PASSWORD)
        async with relay_process(restored) as second:
            await one.close()
            one.url = second.url
            await one.connect()
            assert one.snapshots[-1]["reason"] == "epoch-changed"
            assert one.tables["4"]["seats"] == 2, "what came after the backup is not shown any more"
            await one.table("update", {"id": "4", "seats": 3})
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(make_conninfo(private_cluster.tcp("minipos_new"), user=stranger(private_cluster)))
    with (
        psycopg.connect(restored) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute("delete from pos.tables")


async def test_a_dba_without_a_superuser_restores_on_another_server(
    private_cluster: TestCluster, tmp_path: Path
) -> None:
    with running_cluster() as other:
        for cluster in (private_cluster, other):
            cluster.say("create role dba login createdb createrole")
        here, there = (runs(cluster, "dba", tmp_path) for cluster in (private_cluster, other))
        for command in INSTALL:
            here(command)
        with pytest.raises(AssertionError, match="permission denied for"):
            here(BACKUP[1])
        here(BACKUP[2])
        for command in (*MAKE_ROLES, *RESTORE[1:]):
            there(command)
        restored = make_conninfo(other.conninfo("minipos_new"), user="dba")
        assert await catalogue.differences(restored) == []
        with Shop(as_role(restored, "pos_relay")) as relay:
            assert relay.apply([Mutation("UPDATE_TABLE", "add", NEW_TABLE)])[0].code == "OK"


def stranger(cluster: TestCluster) -> str:
    """Somebody who may log in to the server, and whom nobody has let into the database."""
    cluster.say("create role stranger login")
    return "stranger"
