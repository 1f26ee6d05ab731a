"""`relay doctor`: looks at why a change may not arrive, or will not one day, one thing after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

from psycopg.rows import dict_row

from . import doctor_access, doctor_reach, doctor_schema, doctor_server, doctor_tables, schema
from .errors import LET_IN, DatabaseUnavailable, NotAllowed, OnlyStandby, SchemaError
from .findings import Finding, Look
from .settings import Settings

EXAMINE_SECONDS = 30.0  # for all that is asked of one connection


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything, as the role that the relay connects as. A database that is away is a finding too."""
    try:
        async with schema.connected(settings.conninfo, EXAMINE_SECONDS) as connection:
            connection.row_factory = dict_row  # type: ignore[assignment]
            yield doctor_reach.connected(connection)
            installed = await schema.installed_version(settings.conninfo)
            yield doctor_schema.version(installed)
            looks: list[Look] = [
                doctor_reach.encryption,
                doctor_server.queue,
                doctor_server.settings_of_server,
                doctor_server.timeouts,
                doctor_server.room,
            ]
            if installed == schema.VERSION:
                looks = [
                    doctor_schema.triggers,
                    doctor_schema.grants,
                    doctor_schema.owners,
                    doctor_schema.roles,
                    doctor_access.authentication,
                    doctor_tables.tables,
                    doctor_tables.transactions,
                    *looks,
                    doctor_reach.standby,
                ]
            yield await doctor_server.clock(connection)
            for look in looks:
                async for finding in look(connection, settings):
                    yield finding
        yield await doctor_reach.listen(settings)
    except OnlyStandby as error:
        yield Finding("fault", "connection", str(error), "name the primary in DATABASE_URL")
    except DatabaseUnavailable as error:
        mend = LET_IN if error.refused else f"start PostgreSQL, or {settings.elsewhere()}"
        yield Finding("fault", "connection", f"the database cannot be reached: {' '.join(str(error).split())}", mend)
    except NotAllowed as error:
        yield Finding("fault", "schema", str(error), "run it as the relay's role, or as the schema's owner")
    except SchemaError as error:
        yield Finding("fault", "schema", str(error), schema.HOW_TO_APPLY)
