"""A database in which a DBA has run roles.sql, and who may log in to it."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import make_conninfo

from relay import schema

ROLES = ("pos_owner", "pos_relay", "pos_admin", "pos_reader")


def install_roles(conninfo: str) -> None:
    """Run roles.sql as the connection's user."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(schema.script("roles.sql").encode())


def as_role(conninfo: str, role: str) -> str:
    """The same database, for another user (the tests' clusters trust everybody)."""
    return make_conninfo(conninfo, user=role)
