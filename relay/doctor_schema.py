"""What `relay doctor` looks at in the schema: its version, its triggers, and who may do what."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from . import schema
from .findings import Connection, Finding, rows_of
from .settings import Settings

RELAY = "pos_relay"  # the role that sql/roles.sql makes for relays
FEW = 5  # rights that a relay's role may lack; who lacks more is somebody else


def version(installed: int | None) -> Finding:
    """Which version is installed."""
    if installed == schema.VERSION:
        return Finding("ok", "schema", f"version {installed} is installed")
    if installed is not None and installed > schema.VERSION:
        message = f"the schema has version {installed}, this relay speaks {schema.VERSION}"
        return Finding("fault", "schema", message, "use a newer relay")
    message = f"the schema has version {installed}" if installed else "there is no schema"
    return Finding("fault", "schema", f"{message}, this relay needs {schema.VERSION}", schema.HOW_TO_APPLY)


async def triggers(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Whether every trigger is there and enabled."""
    pattern = r"create (?:or replace |constraint )trigger (\w+)[^;]*? on pos\.(\w+)"
    wanted = {(table, name) for name, table in re.findall(pattern, schema.script())}
    found = {
        (row["table"], row["name"]): row["enabled"]
        for row in await rows_of(
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


async def grants(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Whether the role may call what a relay calls."""
    # The script says what a relay calls. Where it connects as an owner without roles, the functions do the rest as it.
    named = re.search(r"v_relay constant text\[\] := array\[(.*?)\]", schema.script(), flags=re.DOTALL)
    called = re.findall(r"'(\w+)'", named[1]) if named else []
    missing = await rows_of(
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
    [here] = await rows_of(
        connection, "select pg_get_userbyid(nspowner) = 'pos_owner' as roles from pg_namespace where nspname = 'pos'"
    )
    if here["roles"] and user != RELAY and len(missing) > FEW:
        message = f"{user} is not the relay's role, {RELAY}: it lacks {len(missing)} rights"
        yield Finding("fault", "grants", message, "run relay doctor with the relay's settings")
        return
    for row in missing:
        mend = f'grant {row["right"]} to "{user}", or let the relay connect as the owner of the schema'
        if here["roles"] and user == RELAY:
            mend = "psql -d DATABASE -f sql/roles.sql"
        yield Finding("fault", "grants", f"the role {user} lacks {row['right']}", mend)
    if not missing:
        yield Finding("ok", "grants", f"the role {user} may do what the relay does")


async def owners(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Whether whoever owns the schema owns what is in it: functions act as their owner."""
    strangers = await rows_of(
        connection,
        """select o.kind, o.name, pg_get_userbyid(o.owner) as owner, pg_get_userbyid(n.nspowner) as right_one,
                  quote_ident(pg_get_userbyid(n.nspowner)) as quoted
           from (
             select 'table' as kind, c.oid::regclass::text as name, c.relowner as owner, c.relnamespace as schema
             from pg_class as c where c.relkind in ('r', 'p')
             union all
             select 'function', p.oid::regprocedure::text, p.proowner, p.pronamespace
             from pg_proc as p where p.prokind = 'f'
           ) as o join pg_namespace as n on n.oid = o.schema
           where n.nspname = 'pos' and o.owner <> n.nspowner
           order by o.kind, o.name""",
    )
    for row in strangers:
        message = (
            f"the {row['kind']} {row['name']} belongs to {row['owner']}, and the schema to {row['right_one']}: "
            "what the relay asks of it can fail for want of rights"
        )
        mend = f"alter {row['kind']} {row['name']} owner to {row['quoted']}"
        yield Finding("fault", "owners", message, mend)
    if not strangers:
        yield Finding("ok", "owners", "the tables and functions belong to the schema's owner")


async def roles(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Whether the role may do no more than that."""
    [row] = await rows_of(
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
