"""The commands of docs/dba.md, from top to bottom, as a DBA types them: the roles, the relay, a backup, its return."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from tests.cluster import TestCluster
from tests.relays import relay_process
from tests.terminals import Terminal
from tests.test_docs import DBA, ROOT, blocks

pytestmark = pytest.mark.timeout(120)

PASSWORD = "of-the-relay"


async def test_the_commands_for_dbas_do_what_the_page_says(private_cluster: TestCluster, tmp_path: Path) -> None:
    (tmp_path / "sql").symlink_to(ROOT / "sql")
    programs = [str(Path(sys.executable).parent), str(private_cluster.bin_dir), os.environ["PATH"]]
    environment = {
        "PATH": os.pathsep.join(programs),
        "PGHOST": str(private_cluster.socket_folder),
        "PGPORT": str(private_cluster.port),
        "PGUSER": "postgres",
        "LC_ALL": "C.UTF-8",
        "DATABASE_URL": private_cluster.conninfo("minipos_db"),
    }

    def run(command: str) -> str:
        # Without a terminal, psql reads a password twice from its input.
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            input=f"{PASSWORD}\n{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )
        again = re.findall(r"role \"\w+\" already exists", done.stderr)  # of the server that the backup is of
        assert (done.returncode, "ERROR" in done.stderr and not again) == (0, False), (command, done.stderr)
        return done.stdout

    install, prune, upgrade, backup, restore = [
        re.findall(r"^\$ (.*)$", block, flags=re.MULTILINE) for block in blocks(DBA, "console")
    ]
    for command in install:
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
        for command in (*prune, *upgrade):
            said = run(command)
        assert "as a fresh install makes it" in said
        for command in backup:
            run(command)
        await one.table("update", {"id": "4", "seats": 9})
        for command in restore:
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


def stranger(cluster: TestCluster) -> str:
    """Somebody who may log in to the server, and whom nobody has let into the database."""
    cluster.say("create role stranger login")
    return "stranger"
