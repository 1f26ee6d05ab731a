"""What `relay doctor` looks at: why a change may not arrive, or will not one day, each fault with its mend."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, dict_row

from . import pools, schema
from .database import LIVE, WRITERS
from .errors import DatabaseUnavailable, Deaf, OnlyStandby, SchemaError
from .listener import PROOF_GRACE, QUEUE_ALARM
from .settings import Settings
from .versions import complaint

CHANNEL = "pos_doctor"
EXAMINE_SECONDS = 30.0  # for all that is asked of one connection
CLOCK_SECONDS = 2.0  # between this machine and the database
OPEN_SECONDS = 5.0  # a transaction that has held rows of terminals so long holds terminals up
DEAD_ROWS, DEAD_SHARE = 50_000, 0.5  # of a table, before it counts as not vacuumed
LISTENERS = 1  # connections of a relay beside its pools

Level = Literal["ok", "advice", "fault"]
_Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and how to mend it (nothing where it is well)."""

    level: Level
    name: str
    message: str
    mend: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything, as the role that the relay connects as. A database that is away is a finding too."""
    try:
        async with schema.connected(settings.conninfo, EXAMINE_SECONDS) as connection:
            connection.row_factory = dict_row  # type: ignore[assignment]
            yield _connection(connection)
            installed = await schema.installed_version(settings.conninfo)
            yield _schema(installed)
            looks: list[Look] = [_queue, _settings_of_server, _timeouts, _room]
            if installed == schema.VERSION:
                looks = [_triggers, _grants, _roles, _tables, _transactions, *looks]
            yield await _clock(connection)
            for look in looks:
                async for finding in look(connection, settings):
                    yield finding
        yield await _listen(settings)
    except OnlyStandby as error:
        yield Finding("fault", "connection", str(error), "name the primary in DATABASE_URL")
    except DatabaseUnavailable as error:
        mend = "start PostgreSQL, or set DATABASE_URL or the DB_ variables to where it is"
        yield Finding("fault", "connection", f"the database cannot be reached: {' '.join(str(error).split())}", mend)
    except SchemaError as error:
        yield Finding("fault", "schema", str(error), schema.HOW_TO_APPLY)


Look = Callable[[_Connection, Settings], AsyncIterator[Finding]]


async def _rows(connection: _Connection, query: Any, *parameters: object) -> list[dict[str, Any]]:
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall()  # type: ignore[return-value]


def _connection(connection: _Connection) -> Finding:
    info = connection.info
    version = ".".join(map(str, divmod(info.server_version, 10_000)))
    if said := complaint(info.server_version):
        return Finding(
            "fault", "version", said, "install the newest minor version: it needs a restart and nothing else"
        )
    where = f"PostgreSQL {version} at {info.host}:{info.port}, database {info.dbname}, as {info.user}"
    return Finding("ok", "connection", where)


def _schema(installed: int | None) -> Finding:
    if installed == schema.VERSION:
        return Finding("ok", "schema", f"version {installed} is installed")
    if installed is not None and installed > schema.VERSION:
        message = f"the schema has version {installed}, this relay speaks {schema.VERSION}"
        return Finding("fault", "schema", message, "use a newer relay")
    message = f"the schema has version {installed}" if installed else "there is no schema"
    return Finding("fault", "schema", f"{message}, this relay needs {schema.VERSION}", schema.HOW_TO_APPLY)


async def _triggers(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    pattern = r"create (?:or replace |constraint )trigger (\w+)[^;]*? on pos\.(\w+)"
    wanted = {(table, name) for name, table in re.findall(pattern, schema.script())}
    found = {
        (row["table"], row["name"]): row["enabled"]
        for row in await _rows(
            connection,
            """select c.relname as "table", t.tgname as name, t.tgenabled in ('O', 'A') as enabled
               from pg_trigger as t join pg_class as c on c.oid = t.tgrelid
               where c.relnamespace = 'pos'::regnamespace and not t.tgisinternal""",
        )
    }
    well = True
    for table, name in sorted(wanted - found.keys()):
        well = False
        message = f"the trigger {name} of pos.{table} is missing: changes of it reach no terminal"
        yield Finding("fault", "triggers", message, schema.HOW_TO_APPLY)
    for table, name in sorted(key for key in wanted & found.keys() if not found[key]):
        well = False
        message = f"the trigger {name} of pos.{table} is disabled: changes of it reach no terminal"
        yield Finding("fault", "triggers", message, f"alter table pos.{table} enable trigger {name}")
    if well:
        yield Finding("ok", "triggers", f"all {len(wanted)} are there and enabled")


async def _grants(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    # The script says what a relay calls. Where it connects as an owner without roles, the functions do the rest as it.
    named = re.search(r"v_relay constant text\[\] := array\[(.*?)\]", schema.script(), flags=re.DOTALL)
    called = re.findall(r"'(\w+)'", named[1]) if named else []
    missing = await _rows(
        connection,
        """select 'execute on function ' || p.oid::regprocedure as right
           from pg_proc as p
           where p.pronamespace = 'pos'::regnamespace and p.prorettype <> 'trigger'::regtype
             and (p.proname = any (%s) or not exists (
               select from pg_proc as q where q.pronamespace = p.pronamespace and q.proname = 'apply' and q.prosecdef))
             and not has_function_privilege(p.oid, 'execute')
           union all
           select 'select on ' || name from unnest('{pos.sync_log,pos.heads,pos.installation}'::text[]) as name
           where not has_table_privilege(name, 'select')
           order by 1""",
        called,
    )
    user = connection.info.user
    for row in missing:
        mend = f'grant {row["right"]} to "{user}", or let the relay connect as the owner of the schema'
        yield Finding("fault", "grants", f"the role {user} lacks {row['right']}", mend)
    if not missing:
        yield Finding("ok", "grants", f"the role {user} may do what the relay does")


async def _roles(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    [row] = await _rows(
        connection,
        """select (select pg_get_userbyid(nspowner) = 'pos_owner' from pg_namespace where nspname = 'pos') as installed,
                  has_table_privilege('pos.tables', 'update') as writes""",
    )
    if not row["writes"]:
        yield Finding("ok", "roles", f"the role {connection.info.user} cannot write a table by hand")
        return
    message = f"the role {connection.info.user} may write every table: so may whoever takes over the relay"
    mend = "let the relay connect as pos_relay"
    if not row["installed"]:
        mend = "run sql/roles.sql once (psql -d DATABASE -f sql/roles.sql), give pos_relay a password, and " + mend
    yield Finding("advice", "roles", message, mend)


async def _listen(settings: Settings) -> Finding:
    named = settings.listen_conninfo != settings.conninfo
    variable = "LISTEN_DATABASE_URL" if named else "DATABASE_URL"
    try:
        async with pools.listening(settings.listen_conninfo, variable, CHANNEL) as ear:
            pooled = await pools.is_pooled(ear)
            async with schema.connected(settings.conninfo, PROOF_GRACE + schema.CONNECT_SECONDS) as connection:
                await connection.execute("select pg_notify(%s, %s)", (CHANNEL, str(ear.info.backend_pid)))
            async for notification in ear.notifies(timeout=PROOF_GRACE):
                if notification.payload == str(ear.info.backend_pid):
                    return Finding("ok", "listen", f"a notification is heard on {variable}")
            deaf = Deaf(pooled=pooled)
            mend = "set LISTEN_DATABASE_URL to the host and port of PostgreSQL itself"
            return Finding("fault", "listen", str(deaf), mend)
    except (psycopg.Error, DatabaseUnavailable) as error:
        message = f"{variable} cannot be listened on: {' '.join(str(error).split())}"
        return Finding("fault", "listen", message, f"set {variable} to a direct connection to the primary")


async def _clock(connection: _Connection) -> Finding:
    before = time.time()
    [row] = await _rows(connection, "select extract(epoch from clock_timestamp())::float8 as now")
    after = time.time()
    off = max(before - row["now"], row["now"] - after, 0.0)
    if off > CLOCK_SECONDS:
        message = f"the clocks of this machine and of the database are {off:.0f} s apart: times shown are wrong"
        return Finding("advice", "clock", message, "let both follow a time server (NTP)")
    return Finding("ok", "clock", "as the database's")


async def _queue(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    [row] = await _rows(connection, "select pg_notification_queue_usage() as used")
    if row["used"] <= QUEUE_ALARM:
        yield Finding("ok", "notify queue", f"{row['used']:.1%} full")
        return
    holders = await _rows(
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


async def _transactions(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    rows = await _rows(
        connection,
        """select a.pid, a.usename, a.application_name, a.state, left(a.query, 200) as query,
                  extract(epoch from clock_timestamp() - a.xact_start)::int as seconds,
                  array_agg(distinct l.relation::regclass::text order by l.relation::regclass::text) as tables
           from pg_stat_activity as a join pg_locks as l on l.pid = a.pid and l.granted
           join pg_class as c on c.oid = l.relation and c.relnamespace = 'pos'::regnamespace and c.relkind = 'r'
           where a.pid <> pg_backend_pid() and a.datname = current_database() and l.mode <> 'AccessShareLock'
             and a.xact_start < clock_timestamp() - make_interval(secs => %s)
             and a.backend_type = 'client backend'
           group by a.pid, a.usename, a.application_name, a.state, a.query, a.xact_start order by a.xact_start""",
        OPEN_SECONDS,
    )
    for row in rows:
        query = " ".join(row["query"].split())
        message = (
            f"pid {row['pid']} ({row['usename']}, {row['application_name'] or 'no name'}) holds rows or locks of "
            f"{', '.join(row['tables'])} in a transaction open for {row['seconds']} s, {row['state']}: terminals that "
            f"change the same are told BUSY. Its last statement: {query}"
        )
        mend = f"let it commit or roll back, or end it: select pg_terminate_backend({row['pid']})"
        yield Finding("fault", "transactions", message, mend)
    for prepared in await _rows(
        connection, "select gid, prepared from pg_prepared_xacts where database = current_database() order by prepared"
    ):
        message = (
            f"the prepared transaction {prepared['gid']!r} of {prepared['prepared']:%Y-%m-%d %H:%M} keeps its locks"
        )
        yield Finding("fault", "transactions", message, f"rollback prepared '{prepared['gid']}'")
        rows.append(prepared)
    if not rows:
        yield Finding("ok", "transactions", "none is open that holds terminals up")


async def _tables(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    well = True
    for row in await _rows(
        connection,
        """select s.relname, s.n_live_tup as live, s.n_dead_tup as dead, age(c.relfrozenxid) as age,
                  greatest(s.last_vacuum, s.last_autovacuum) as vacuumed,
                  current_setting('autovacuum_freeze_max_age')::bigint as most
           from pg_stat_user_tables as s join pg_class as c on c.oid = s.relid
           where s.schemaname = 'pos' order by s.relname""",
    ):
        table = f"pos.{row['relname']}"
        when = f"last {row['vacuumed']:%Y-%m-%d %H:%M}" if row["vacuumed"] else "never"
        if row["dead"] > max(DEAD_ROWS, DEAD_SHARE * row["live"]):
            well = False
            message = (
                f"{table} holds {row['dead']:,} dead rows beside {row['live']:,} (vacuumed: {when}): reads get slower"
            )
            mend = f"vacuum (analyze) {table}, and look for what keeps autovacuum from it: old transactions, settings"
            yield Finding("fault", "vacuum", message, mend)
        elif row["age"] > 2 * row["most"]:
            well = False
            message = f"{table} was not frozen for {row['age']:,} transactions (vacuumed: {when})"
            yield Finding("fault", "vacuum", message, f"vacuum (freeze) {table}")
    if well:
        yield Finding("ok", "vacuum", "the tables are vacuumed")


async def _settings_of_server(connection: _Connection, settings: Settings) -> AsyncIterator[Finding]:
    [row] = await _rows(
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
            yield Finding(
                "fault", "server settings", f"{name} is off: {why}", f"alter system set {name} = on, and reload"
            )
    longest = max(settings.lock_ms, settings.statement_ms)
    if row["deadlock_ms"] <= longest:
        well = False
        message = (
            f"deadlock_timeout is {row['deadlock_ms']:.0f} ms, and the relay waits up to {longest} ms: in a deadlock a \
person's statement is the one that fails"
        )
        mend = "alter system set deadlock_timeout = '1s', and reload; or lower RELAY_LOCK_MS and RELAY_STATEMENT_MS"
        yield Finding("fault", "server settings", message, mend)
    if well:
        yield Finding("ok", "server settings", "a commit is on disk, autovacuum is on, deadlock_timeout fits")


async def _timeouts(connection: _Connection, _settings: Settings) -> AsyncIterator[Finding]:
    [row] = await _rows(
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


async def _room(connection: _Connection, settings: Settings) -> AsyncIterator[Finding]:
    [row] = await _rows(
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
