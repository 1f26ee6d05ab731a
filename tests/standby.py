"""A standby of a cluster, built with pg_basebackup, which can be promoted."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.cluster import BIN_DIR, TestCluster, free_port
from tests.waiting import wait_until

COPY_SECONDS = 60.0


class Standby(TestCluster):
    """Replays what its primary commits."""

    def __init__(self, primary: TestCluster, folder: Path) -> None:
        settings = {"fsync": "off", "max_connections": "200"}
        super().__init__(folder, bin_dir=BIN_DIR, port=free_port(), options=settings)
        self._primary = primary.tcp("postgres")

    def promote(self) -> None:
        """Make it the primary."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("select pg_promote(true, 30)")

    def stop_copying(self) -> None:
        """From now on miss what the primary commits."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("alter system set primary_conninfo = ''")
            connection.execute("select pg_reload_conf()")
            ended = "select not exists (select from pg_stat_wal_receiver)"
            wait_until(lambda: connection.execute(ended).fetchone() == (True,), what="the end of the copying")

    def _initdb(self) -> None:
        program, words = self.bin_dir / "pg_basebackup", ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        subprocess.run(
            [program, "-D", self.data, "-d", self._primary, *words],
            check=True,
            capture_output=True,
            timeout=COPY_SECONDS,
            **self._surroundings(),
        )


@contextmanager
def running_standby(primary: TestCluster) -> Iterator[Standby]:
    """A standby that has caught up so far, in a folder of its own; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="relay-test-"))
    standby = Standby(primary, folder)
    try:
        standby.start()
        yield standby
    finally:
        standby.stop()
        shutil.rmtree(folder)
