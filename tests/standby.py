"""A standby of a cluster, built with pg_basebackup, which can miss commits and be promoted."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import BIN_DIR, TestCluster, free_port
from tests.waiting import wait_until

COPY_SECONDS = 60.0
WAITS_FOR_MORE = """
    select exists (select from pg_stat_activity
                   where backend_type = 'startup' and wait_event = 'RecoveryRetrieveRetryInterval')
"""


class Standby(TestCluster):
    """Replays what its primary commits, in a folder of its own, with the primary's settings."""

    def __init__(self, primary: TestCluster, port: int) -> None:
        folder = Path(tempfile.mkdtemp(prefix="relay-test-"))
        settings = {
            name: str(primary.say("select current_setting(%s)", name))
            for name in ("fsync", "max_connections", "listen_addresses")
        }
        super().__init__(folder, bin_dir=BIN_DIR, port=port, options=settings)
        self._primary = primary.tcp("postgres")

    def stop_copying(self) -> None:
        """From now on miss what the primary commits."""
        self.say("alter system set primary_conninfo = ''")
        self.say("select pg_reload_conf()")
        ended = "select not exists (select from pg_stat_wal_receiver)"
        wait_until(lambda: self.say(ended), within=30.0, what="the end of the copying")

    def has_all(self, position: str) -> bool:
        """Whether it has replayed the log up to a position."""
        return self.say("select pg_last_wal_replay_lsn() >= %s", position) is True

    def has_replayed(self) -> bool:
        """Whether it can read no further. What it was sent may end within a record, so positions do not tell."""
        return self.say(WAITS_FOR_MORE) is True

    def promote(self) -> None:
        """Make it the primary."""
        assert self.say("select pg_promote(true, 30)") is True

    def remove(self) -> None:
        """Stop it and remove what it is made of."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

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
    """A standby that has caught up so far; gone afterwards."""
    standby = Standby(primary, free_port())
    try:
        standby.start()
        yield standby
    finally:
        standby.remove()
