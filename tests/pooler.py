"""A real PgBouncer in front of PostgreSQL, which lends each transaction any of its connections."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.cluster import free_port
from tests.waiting import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 1
"""


@contextmanager
def pooled(conninfo: str, mode: str = "transaction", size: int = 4) -> Iterator[str]:
    """The connection string that leads through a pooler with so many connections of its own.

    PostgreSQL must listen on TCP. Without PgBouncer the test is skipped, in CI it fails.
    """
    if PROGRAM is None:
        assert os.environ.get("CI") != "true", "pgbouncer is not installed"
        pytest.skip("pgbouncer is not installed (apt-get install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="relay-test-"))
    port = free_port()
    file = folder / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(server_port=conninfo_to_dict(conninfo)["port"], port=port, mode=mode, size=size)
    )
    folder.chmod(0o755)
    # It refuses to run as root.
    account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "--quiet", str(file)], cwd="/", stdout=log, stderr=log, **account)  # type: ignore[call-overload]
    through = make_conninfo(conninfo, host="127.0.0.1", port=port)
    try:
        wait_until(lambda: _answers(through), within=10.0, what="the pooler")
        yield through
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
