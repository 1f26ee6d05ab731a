"""What `relay doctor` looks at in the server: its clock, notification queue, settings and connections."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from psycopg.conninfo import conninfo_to_dict

from .database import LIVE, WRITERS
from .findings import Connection, Finding, rows_of
from .listener import QUEUE_ALARM
from .settings import Settings

CLOCK_SECONDS = 2.0  # between this machine and the database
LISTENERS = 1  # connections of a relay beside its pools


async def clock(connection: Connection) -> Finding:
    """Whether this machine and the database agree on the time."""
    before = time.time()
    [row] = await rows_of(connection, "select extract(epoch from clock_timestamp())::float8 as now")
    after = time.time()
    off = max(before - row["now"], row["now"] - after, 0.0)
    if off > CLOCK_SECONDS:
        message = f"the clocks of this machine and of the database are {off:.0f} s apart: times shown are wrong"
        return Finding("advice", "clock", message, "let both follow a time server (NTP)")
    return Finding("ok", "clock", "as the database's")


async def queue(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """How full the notification queue is, and who may fill it."""
    [row] = await rows_of(connection, "select pg_notification_queue_usage() as used")
    if row["used"] <= QUEUE_ALARM:
        yield Finding("ok", "notify queue", f"{row['used']:.1%} full")
        return
    holders = await rows_of(
        connection,
        """select pid, usename, application_name, state from pg_stat_activity
           where query ilike 'listen %%' or state like 'idle in transaction%%'
           order by xact_start nulls last limit 3""",
    )
    who = "; ".join(
        f"pid {h['pid']} ({h['usename']}, {h['application_name'] or 'no name'}: {h['state']})" for h in holders
    )
    message = f"{row['used']:.0%} full: a session listens and does not read. When it is full, nothing can be changed"
    yield Finding(
        "fault", "notify queue", message, f"end it: select pg_terminate_backend(PID), of {who or 'all that listen'}"
    )


async def settings_of_server(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    """Settings that lose sales or space."""
    [row] = await rows_of(
        connection,
        """select current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
                  current_setting('synchronous_commit') as synchronous_commit,
                  current_setting('autovacuum') as autovacuum, current_setting('track_counts') as track_counts,
                  extract(epoch from current_setting('deadlock_timeout')::interval)::float8 * 1000 as deadlock_ms""",
    )
    well = True
    lost = "an acknowledged sale can be lost when the power fails"
    for name, why in (
        ("fsync", lost),
        ("full_page_writes", "the database can be damaged when the power fails"),
        ("synchronous_commit", lost),
        ("autovacuum", "every table grows without end"),
        ("track_counts", "autovacuum does not know what to vacuum"),
    ):
        if row[name] == "off":
            well = False
            mend = await _set(connection, name, "on")
            yield Finding("fault", "server settings", f"{name} is off: {why}", mend)
    longest = max(settings.lock_ms, settings.statement_ms)
    if row["deadlock_ms"] <= longest:
        well = False
        message = (
            f"deadlock_timeout is {row['deadlock_ms']:.0f} ms, and the relay waits up to {longest} ms: in a deadlock a \
person's statement is the one that fails"
        )
        mend = await _set(connection, "deadlock_timeout", "'1s'")
        yield Finding("fault", "server settings", message, f"{mend}; or lower RELAY_LOCK_MS and RELAY_STATEMENT_MS")
    if well:
        yield Finding("ok", "server settings", "a commit is on disk, autovacuum is on, deadlock_timeout fits")


async def _set(connection: Connection, name: str, value: str) -> str:
    """The statement that sets it: what a database or a role has of its own comes before the system's."""
    [row] = await rows_of(
        connection,
        """select source, quote_ident(current_database()) as database, quote_ident(session_user) as role
           from pg_settings where name = %s""",
        name,
    )
    own = {
        "global": "role all",
        "database": f"database {row['database']}",
        "user": f"role {row['role']}",
        "database user": f"role {row['role']} in database {row['database']}",
    }.get(row["source"])
    return f"alter {own} reset {name}" if own else f"alter system set {name} = {value}, and reload"


async def timeouts(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Settings that let the dead and the forgetful hold others up."""
    [row] = await rows_of(
        connection,
        """select (select setting::int from pg_settings where name = 'tcp_user_timeout') as tcp_user_timeout,
                  inet_client_addr() is not null as over_tcp,
                  extract(epoch from current_setting('idle_in_transaction_session_timeout')::interval)::int as idle""",
    )
    # Over a Unix socket it reads as 0 whatever was set.
    if row["over_tcp"] and not row["tcp_user_timeout"]:
        message = (
            "tcp_user_timeout is 0: a relay that is frozen or cut off keeps its notifications in the queue for long"
        )
        yield Finding("advice", "timeouts", message, "alter system set tcp_user_timeout = '5s', and reload")
    if not row["idle"]:
        message = (
            "idle_in_transaction_session_timeout is 0: a `begin` forgotten in psql holds its rows until somebody looks"
        )
        database = conninfo_to_dict(f"dbname='{connection.info.dbname}'")["dbname"]
        mend = f"alter database \"{database}\" set idle_in_transaction_session_timeout = '10min'"
        yield Finding("advice", "timeouts", message, mend)


async def room(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    """Whether there are connections for one more relay."""
    [row] = await rows_of(
        connection,
        """select current_setting('max_connections')::int
                  - current_setting('superuser_reserved_connections')::int as most,
                  (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as used""",
    )
    needed = settings.pool + WRITERS + LIVE + LISTENERS
    if row["most"] - row["used"] < needed:
        message = f"{row['used']} of {row['most']} connections are taken, and one more relay needs up to {needed}"
        yield Finding("advice", "connections", message, "raise max_connections, lower RELAY_POOL, or use a pooler")
    else:
        yield Finding("ok", "connections", f"{row['used']} of {row['most']} are taken; a relay needs up to {needed}")
