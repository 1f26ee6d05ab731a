"""The environment and `.env`, read once to frozen settings with all faults reported together.

A setting is one line of `Settings`: its variable, what is allowed, the default as one would write it, and what it
means. Reading, the README's table and `.env.example` all come from that line.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values
from psycopg.conninfo import make_conninfo

from .errors import SettingsError
from .values import (
    AUTH,
    CONNECTION,
    HOST,
    ORIGINS,
    PATH,
    PROXIES,
    SECRET,
    SWITCHED,
    TEXT,
    Kind,
    choice,
    decimal,
    limit,
    whole,
)

T = TypeVar("T")

SHOWN = 100  # characters of a faulty value that are repeated in the sentence about it


@dataclass(frozen=True)
class Setting:
    """One variable: what it accepts, its default as text (empty: none), and what it means."""

    variable: str
    kind: Kind[Any]
    default: str
    about: str

    @property
    def meaning(self) -> str:
        """What it means and, in brackets, what is allowed."""
        return f"{self.about} ({self.kind.allowed})" if self.kind.allowed else self.about


DATABASE = (
    Setting("DATABASE_URL", CONNECTION, "", "The database; wins over the DB_ variables"),
    Setting("DB_HOST", TEXT, "localhost", "Host name, address or socket folder of the database"),
    Setting("DB_PORT", whole(1, 65535), "5432", "TCP port of the database"),
    Setting("DB_NAME", TEXT, "minipos_db", "Name of the database"),
    Setting("DB_USER", TEXT, "postgres", "Role to connect as"),
    Setting("DB_PASSWORD", TEXT, "", "Its password; by default PGPASSWORD or ~/.pgpass"),
)
LISTEN = Setting(
    "LISTEN_DATABASE_URL",
    CONNECTION,
    "",
    "A direct connection for LISTEN where the database is reached through a pooler",
)
READ = Setting(
    "READ_DATABASE_URL",
    CONNECTION,
    "",
    "A standby that states and /api are read from where it has all of the primary's changes",
)


def env(variable: str, kind: Kind[T], default: str, about: str) -> T:
    """A dataclass field that is read from `variable`; a secret one is not in the repr."""
    row = Setting(variable, kind, default, about)
    found: Any = field(default=kind.parse(default), metadata={"setting": row}, repr=not kind.secret)
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set from outside. Durations are in the unit their name ends with."""

    # database: out of the repr because they hold passwords
    conninfo: str = field(repr=False)
    listen_conninfo: str = field(repr=False)
    database_named: bool
    read_conninfo: str = field(default="", repr=False)  # empty: the primary is read

    # server
    host: str = env("HOST", HOST, "127.0.0.1", "Address to listen on")
    port: int = env("PORT", whole(0, 65535), "8080", "TCP port to listen on; 0 takes any free one")
    data: Path = env("RELAY_DATA", PATH, ".data", "Folder of the embedded PostgreSQL")  # noqa: RUF009
    apply_schema: bool = env("RELAY_APPLY_SCHEMA", SWITCHED, "off", "Upgrade the database's schema at start")
    drain_seconds: float = env(
        "DRAIN_SECONDS", decimal(0, 600), "20", "Seconds for pending work and goodbyes at a stop"
    )
    log_level: str = env("LOG_LEVEL", choice("debug", "info", "warning", "error"), "info", "Least level to log")
    log_format: str = env("LOG_FORMAT", choice("text", "json"), "text", "Form of a log line")
    tracing: bool = env("RELAY_TRACING", SWITCHED, "off", "Send spans to OpenTelemetry, as the OTEL_ variables say")

    # protocol
    max_message_bytes: int = env(
        "RELAY_MAX_MESSAGE_BYTES", whole(1024, 64 * 1024 * 1024), "1048576", "Bytes of the largest message"
    )
    heartbeat_seconds: float = env(
        "RELAY_HEARTBEAT_SECONDS", decimal(0.1, 300), "20", "Seconds between WebSocket pings"
    )
    origins: tuple[str, ...] = env(
        "RELAY_ORIGINS",
        ORIGINS,
        "",
        "Web origins that may connect; by default any port of localhost and 127.0.0.1, none with authentication",
    )
    auth: str = env("RELAY_AUTH", AUTH, "off", "How terminals say who they are")
    jwt_key: Path = env("RELAY_JWT_KEY", PATH, "", "File with the keys for RELAY_AUTH=jwt: secret, PEM or JWKS")  # noqa: RUF009
    jwt_audience: str = env("RELAY_JWT_AUDIENCE", TEXT, "minipos-relay", "What a signed token must name as aud")
    unidentified: int = env("RELAY_UNIDENTIFIED", whole(1, 10_000), "100", "Sockets that have not shown a token yet")
    allow_open: bool = env("RELAY_ALLOW_OPEN", SWITCHED, "0", "Serve other machines although RELAY_AUTH is off")

    secret: str = env(
        "RELAY_SECRET",
        SECRET,
        "",
        "Seals the passwords of the web app's users in the database",
    )

    card_warning: bool = env(
        "RELAY_CARD_WARNING", SWITCHED, "off", "Warn in the log where a text seems to hold a card number"
    )
    proxies: tuple[str, ...] = env(
        "FORWARDED_ALLOW_IPS", PROXIES, "127.0.0.1,::1", "Proxies that are believed whom they forward for"
    )

    # how much may come in
    handshakes: int = env(
        "RELAY_HANDSHAKES", limit(100_000), "1000", "New connections a second; in a burst 5 times as many"
    )
    connections: int = env("RELAY_CONNECTIONS", limit(1_000_000), "20000", "Connections of this relay")
    restaurant_connections: int = env(
        "RELAY_RESTAURANT_CONNECTIONS", limit(1_000_000), "2000", "Of these, connections of one restaurant"
    )
    address_connections: int = env(
        "RELAY_ADDRESS_CONNECTIONS", limit(1_000_000), "1000", "Of these, connections from one address"
    )
    terminal_connections: int = env(
        "RELAY_TERMINAL_CONNECTIONS", limit(10_000), "20", "Of these, connections with one client id"
    )
    terminal_messages: int = env(
        "RELAY_TERMINAL_MESSAGES",
        limit(1_000_000),
        "100",
        "Messages a second of one terminal; in a burst 10 times as many",
    )
    terminal_bytes: int = env(
        "RELAY_TERMINAL_BYTES", limit(1 << 30), "4194304", "Bytes a second of one terminal; in a burst 10 times as many"
    )
    restaurant_messages: int = env(
        "RELAY_RESTAURANT_MESSAGES",
        limit(1_000_000),
        "1000",
        "Messages a second of one restaurant; in a burst 10 times as many",
    )
    restaurant_bytes: int = env(
        "RELAY_RESTAURANT_BYTES",
        limit(1 << 30),
        "16777216",
        "Bytes a second of one restaurant; in a burst 10 times as many",
    )

    # limits
    window_changes: int = env(
        "RELAY_WINDOW_CHANGES", whole(1, 1_000_000), "10000", "Recent changes held per restaurant"
    )
    window_bytes: int = env(
        "RELAY_WINDOW_BYTES", whole(1024, 1 << 30), "8388608", "Bytes of changes held per restaurant"
    )
    snapshot_orders: int = env("RELAY_SNAPSHOT_ORDERS", whole(1, 10_000), "1000", "Newest orders in a snapshot")
    snapshot_cache_bytes: int = env(
        "RELAY_SNAPSHOT_CACHE_BYTES", whole(1 << 20, 1 << 33), "134217728", "Bytes of snapshots held"
    )
    pending_per_terminal: int = env(
        "RELAY_PENDING_PER_TERMINAL", whole(1, 10_000), "200", "Waiting mutations of one terminal"
    )
    pending: int = env("RELAY_PENDING", whole(1, 1_000_000), "20000", "Waiting mutations of all terminals")
    batch: int = env("RELAY_BATCH", whole(1, 1000), "200", "Mutations in one transaction")
    keep_days: int = env("RELAY_KEEP_DAYS", whole(1, 3650), "90", "Days that tombstones and mutation ids are kept")
    keep_log_days: int = env("RELAY_KEEP_LOG_DAYS", whole(1, 3650), "30", "Days that sync_log is kept")
    keep_log_rows: int = env(
        "RELAY_KEEP_LOG_ROWS", whole(1, 10**12), "5000000", "Rows that sync_log keeps at most of each restaurant"
    )
    pool: int = env("RELAY_POOL", whole(1, 50), "4", "Database connections for reads")

    # timing
    sweep_seconds: float = env(
        "RELAY_SWEEP_SECONDS", decimal(0.1, 60), "1.0", "Seconds between looks for missed changes"
    )
    proof_seconds: float = env(
        "RELAY_PROOF_SECONDS", decimal(0.1, 300), "5.0", "Seconds between the listener's calls to itself"
    )
    lock_ms: int = env(
        "RELAY_LOCK_MS", whole(10, 60_000), "200", "Milliseconds to wait for one lock, below deadlock_timeout"
    )
    statement_ms: int = env(
        "RELAY_STATEMENT_MS", whole(10, 60_000), "700", "Milliseconds for one batch, below deadlock_timeout"
    )
    busy_seconds: float = env(
        "RELAY_BUSY_SECONDS", decimal(0.1, 60), "5.0", "Seconds to wait for a locked row before BUSY"
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, env_file: Path | None = None) -> Settings:
        """Read `environ` (default: the process's), which wins over `env_file` (default: `.env`; may be missing).

        An empty value counts as unset. SettingsError names every fault found.
        """
        problems: list[str] = []
        given = _from_file(env_file or Path(".env"), problems) | _filled(os.environ if environ is None else environ)
        problems += _unknown(given)
        database = {row.variable: _value(row, given, problems) for row in (*DATABASE, LISTEN, READ)}
        values = {name: _value(row, given, problems) for name, row in _rows()}
        problems += _too_open(values) + _keyless(values)
        if problems:
            raise SettingsError(problems)
        conninfo = _conninfo(database)
        return cls(
            conninfo=conninfo,
            listen_conninfo=database[LISTEN.variable] or conninfo,
            read_conninfo=database[READ.variable],
            database_named=any(row.variable in given for row in DATABASE),
            **values,
        )

    def elsewhere(self) -> str:
        """What to do where no database is found at the address that is set."""
        embedded = f"for the database of `make run`: DB_HOST={self.data.resolve()}"
        return f"set DATABASE_URL or the DB_ variables to where it is; {embedded}"

    @staticmethod
    def describe() -> list[tuple[str, str, str]]:
        """Every setting as (variable, default as text, what it means and what is allowed)."""
        rows = [*DATABASE, LISTEN, READ, *(row for _, row in _rows())]
        return [(row.variable, row.default, row.meaning) for row in rows]


def _rows() -> Iterator[tuple[str, Setting]]:
    return ((f.name, f.metadata["setting"]) for f in fields(Settings) if "setting" in f.metadata)


def _filled(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value and value.strip()}


def _from_file(path: Path, problems: list[str]) -> dict[str, str]:
    try:
        # No interpolation: a password with ${ in it is meant as it stands.
        return _filled(dotenv_values(path, interpolate=False))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read as UTF-8 text: {error}")
        return {}


def _unknown(given: Mapping[str, str]) -> list[str]:
    # Compared without the prefix, which would make any two names look alike, and is easily put before a name without.
    known = {variable.removeprefix("RELAY_"): variable for variable, _, _ in Settings.describe()}
    problems = []
    for name in sorted(name for name in given if name.startswith("RELAY_") and name not in known.values()):
        close = difflib.get_close_matches(name.removeprefix("RELAY_"), known, n=1)
        problems.append(f"{name} is not a setting" + (f"; did you mean {known[close[0]]}?" if close else ""))
    return problems


def _value(row: Setting, given: Mapping[str, str], problems: list[str]) -> Any:
    value = given.get(row.variable, row.default)
    try:
        # A password may begin or end with a space; nothing else does on purpose.
        return row.kind.parse(value if row.variable == "DB_PASSWORD" else value.strip())
    except ValueError:
        said = "cannot be used" if row.kind.secret else f"is {_shown(value)}"
        problems.append(f"{row.variable} {said}; allowed: {row.kind.allowed}")
        return None


def _shown(value: str) -> str:
    # A connection URL that was given to the wrong variable must not show its password either.
    masked = re.sub(r"://.*@", "://***@", value)
    return repr(masked if len(masked) <= SHOWN else masked[:SHOWN] + "…")


def _too_open(values: Mapping[str, Any]) -> list[str]:
    host, auth, allow_open = values["host"], values["auth"], values["allow_open"]
    if None in (host, auth, allow_open) or auth != "off" or allow_open or is_loopback(host):
        return []
    return [
        f"HOST is {host!r} and RELAY_AUTH is off, so whoever reaches that address may change everything; "
        "set RELAY_AUTH=token, HOST=127.0.0.1 to serve this machine only, or RELAY_ALLOW_OPEN=1 if that is meant"
    ]


def _keyless(values: Mapping[str, Any]) -> list[str]:
    if values["auth"] == "jwt" and values["jwt_key"] == Path():
        return ["RELAY_AUTH is jwt and RELAY_JWT_KEY is not set; name the file with the key that signs the tokens"]
    return []


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _conninfo(database: Mapping[str, Any]) -> str:
    # No password stays unset rather than empty: libpq then asks PGPASSWORD and ~/.pgpass.
    return database["DATABASE_URL"] or make_conninfo(
        host=database["DB_HOST"],
        port=database["DB_PORT"],
        dbname=database["DB_NAME"],
        user=database["DB_USER"],
        password=database["DB_PASSWORD"] or None,
    )
