"""What `relay doctor` looks at in the connections: where each setting leads, and what is heard and read there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from . import pools, schema
from .errors import DatabaseUnavailable, Deaf
from .findings import Connection, Finding, rows_of
from .listener import PROOF_GRACE
from .settings import Settings, is_loopback
from .versions import complaint

CHANNEL = "pos_doctor"
READ_SECONDS = 10  # for what is asked of a standby, and to connect to it


def connected(connection: Connection) -> Finding:
    """Where the connection has led to, and whether that version will do."""
    info = connection.info
    version = ".".join(map(str, divmod(info.server_version, 10_000)))
    if said := complaint(info.server_version):
        return Finding(
            "fault", "version", said, "install the newest minor version: it needs a restart and nothing else"
        )
    where = f"PostgreSQL {version} at {info.host}:{info.port}, database {info.dbname}, as {info.user}"
    return Finding("ok", "connection", where)


async def encryption(connection: Connection, _settings: Settings) -> AsyncIterator[Finding]:
    """Whether others on the network could read along, or stand in the database's place."""
    host = connection.info.host
    if host.startswith("/") or is_loopback(host):
        yield Finding("ok", "encryption", f"nobody else is on the way to {host}")
        return
    modes = [option.val for option in connection.pgconn.info if option.keyword == b"sslmode"]
    mend = "end DATABASE_URL with ?sslmode=verify-full&sslrootcert=/path/to/ca.pem"
    if not connection.pgconn.ssl_in_use:
        message = f"the way to {host} is not encrypted: whoever is on it reads every change, and the app's users"
        yield Finding("advice", "encryption", message, f"{mend}, and switch ssl on in PostgreSQL")
    elif modes != [b"verify-full"]:
        message = f"the way to {host} is encrypted, and nobody looks whether that is who answers"
        yield Finding("advice", "encryption", message, mend)
    else:
        yield Finding("ok", "encryption", f"the way to {host} is encrypted, and its certificate is right")


async def listen(settings: Settings) -> Finding:
    """Whether a notification is heard on the address that is listened on."""
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


async def standby(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    """Whether READ_DATABASE_URL, where it is set, leads to a standby of this very database that keeps up."""
    if not settings.read_conninfo:
        return
    try:
        found = await AsyncConnection[DictRow].connect(
            settings.read_conninfo, autocommit=True, connect_timeout=READ_SECONDS, row_factory=dict_row
        )
        async with found as copy:
            await copy.execute("select set_config('statement_timeout', %s, false)", (f"{READ_SECONDS}s",))
            yield await _standing(connection, copy)
    except psycopg.Error as error:
        message = f"READ_DATABASE_URL is of no use, the primary is read: {' '.join(str(error).split())}"
        mend = "start that standby, let the relay's role in, or unset READ_DATABASE_URL"
        yield Finding("fault", "standby", message, mend)


async def _standing(connection: Connection, copy: Any) -> Finding:
    [row] = await rows_of(
        copy,
        """select pg_is_in_recovery() as follows, pg_is_in_recovery() and pg_is_wal_replay_paused() as paused,
                  extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::int as seconds""",
    )
    if not row["follows"]:
        message = "READ_DATABASE_URL leads to a server that is no standby: it is not read from"
        return Finding("fault", "standby", message, "name a standby in READ_DATABASE_URL, or unset it")
    if row["paused"]:
        message = "the standby of READ_DATABASE_URL has stopped replaying, so it is of no use"
        return Finding("fault", "standby", message, "select pg_wal_replay_resume() there")
    for seen in await rows_of(
        copy,
        """select s.restaurant_id, s.revision, s.mark from pos.heads as h
           cross join lateral pos.standing(h.restaurant_id, 1) as s where s.mark is not null
           order by s.revision desc limit 1""",
    ):
        [here] = await rows_of(
            connection, "select pos.mark_at(%s, %s) as mark", seen["restaurant_id"], seen["revision"]
        )
        if here["mark"] != seen["mark"]:
            message = "the standby of READ_DATABASE_URL has another history than DATABASE_URL: it is never believed"
            mend = "name a standby of the primary that DATABASE_URL leads to, and its database"
            return Finding("fault", "standby", message, mend)
    return Finding("ok", "standby", "READ_DATABASE_URL leads to a standby with the primary's history")
