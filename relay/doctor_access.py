"""What `relay doctor` looks at in who may come in: authentication, and what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg

from .errors import SettingsError
from .findings import Connection, Finding, rows_of
from .settings import Settings, is_loopback

NAME = "authentication"


async def authentication(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    """Whether those come in who should, and nobody else."""
    if settings.auth == "off":
        yield _open(settings)
    elif settings.auth == "token":
        with suppress(psycopg.errors.InsufficientPrivilege):  # the grants say that
            yield await _tokens(connection)
    else:
        yield _keys(settings)


def _open(settings: Settings) -> Finding:
    if is_loopback(settings.host):
        return Finding("ok", NAME, f"off, and only this machine reaches {settings.host}")
    message = f"off, and whoever reaches {settings.host} may change everything"
    mend = (
        "set RELAY_AUTH=token and enrol the terminals (relay terminal add); or HOST=127.0.0.1, behind a proxy that asks"
    )
    return Finding("advice", NAME, message, mend)


async def _tokens(connection: Connection) -> Finding:
    [row] = await rows_of(
        connection,
        "select count(*)::int as enrolled from pos.read_terminals(array(select h.restaurant_id from pos.heads as h))",
    )
    if not row["enrolled"]:
        return Finding(
            "fault",
            NAME,
            "RELAY_AUTH is token and nobody is enrolled: nobody can come in",
            "relay terminal add --name NAME",
        )
    return Finding("ok", NAME, f"by token, {row['enrolled']} enrolled")


def _keys(settings: Settings) -> Finding:
    from . import jwts

    try:
        keys = jwts.read(settings.jwt_key)
    except SettingsError as error:
        return Finding(
            "fault", NAME, str(error), f"set RELAY_JWT_KEY to a file that the relay may read, with {jwts.ALLOWED}"
        )
    return Finding("ok", NAME, f"by signed token, {len(keys)} {'key' if len(keys) == 1 else 'keys'}")
