"""What `relay doctor` looks at in the tables: who holds their rows, and whether they are vacuumed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .findings import Connection, Finding, rows_of
from .settings import Settings

OPEN_SECONDS = 5.0  # a transaction that has held rows of terminals so long holds terminals up
DEAD_ROWS, DEAD_SHARE = 50_000, 0.5  # of a table, before it counts as not vacuumed


async def transactions(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Open transactions that hold terminals up."""
    rows = await rows_of(
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
    for prepared in await rows_of(
        connection, "select gid, prepared from pg_prepared_xacts where database = current_database() order by prepared"
    ):
        message = (
            f"the prepared transaction {prepared['gid']!r} of {prepared['prepared']:%Y-%m-%d %H:%M} keeps its locks"
        )
        yield Finding("fault", "transactions", message, f"rollback prepared '{prepared['gid']}'")
        rows.append(prepared)
    if not rows:
        yield Finding("ok", "transactions", "none is open that holds terminals up")


async def tables(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Tables that autovacuum does not get to, or may not."""
    well = True
    for row in await rows_of(
        connection,
        """select c.relname, case s.relkind when 't' then 'toast.' else '' end || o.option_name as option
           from pg_class as c join pg_class as s on s.oid in (c.oid, c.reltoastrelid)
           cross join pg_options_to_table(s.reloptions) as o
           where c.relnamespace = 'pos'::regnamespace and c.relkind = 'r'
             and case o.option_name when 'autovacuum_enabled' then not o.option_value::boolean end
           order by c.relname, option""",
    ):
        well = False
        table = f"pos.{row['relname']}"
        message = f"{table} has {row['option']} off: it grows without end, and reads get slower"
        yield Finding("fault", "vacuum", message, f"alter table {table} reset ({row['option']})")
    for row in await rows_of(
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
