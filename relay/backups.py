"""The app's export: read, checked as a whole, and imported in one transaction (PROTOCOL.md, section 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from . import appmessages, bodies, restaurants, schema, strictjson
from .bodies import Spec
from .errors import BackupError, Refusal
from .vault import Vault

VERSION = "1."  # what the version of an export begins with
SECONDS = 600.0  # for one import

Step = Callable[[int, str], None]
_DONE = re.compile(r"([0-9]+) sales are done")  # pos.import_orders

# By list: what a row must have, and what may be in it.
_ROWS: Mapping[str, tuple[tuple[str, ...], Spec]] = {
    "tables": (("id", "number", "seats", "status"), bodies.TABLE["add"]),
    "menuItems": (("id", "name", "price", "category", "description"), bodies.MENU["add_item"]),
    "orderHistory": (
        ("id", "tableNumber", "customerName", "orderDate", "status", "total", "items"),
        bodies.ORDER["add"],
    ),
    "users": (("id", "username"), appmessages.USER),
}


@dataclass(frozen=True, slots=True)
class Backup:
    """An export that is whole: its JSON text, and its users apart."""

    text: str
    users: list[dict[str, Any]]
    orders: int = 0  # how many there are


@dataclass(frozen=True, slots=True)
class Imported:
    """How many changes an import made, by list, and how many sales were kept as they are here."""

    changes: Mapping[str, int]
    kept: int


def read(path: Path) -> Backup:
    """Read an export and check all of it. Raises BackupError, which says where it is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BackupError(f"{path} is not UTF-8 text: it is damaged at byte {error.start}") from error
    try:
        backup = strictjson.parse(text)
        _check(backup)
    except Refusal as refusal:
        place = f"{refusal.field}: " if refusal.field and refusal.field not in refusal.message else ""
        raise BackupError(f"{path}: {place}{refusal.message}") from refusal
    assert isinstance(backup, dict)
    return Backup(text, backup["users"], len(backup["orderHistory"]))


def _check(backup: object) -> None:
    if not isinstance(backup, dict) or not isinstance(backup.get("version"), str):
        raise _fault("this is no export of the MiniPOS app: it has no version")
    if not backup["version"].startswith(VERSION):
        raise _fault(f"the export has version {backup['version']!r}; this relay knows {VERSION}x")
    settings, categories = backup.get("settings"), backup.get("categories")
    if not isinstance(settings, dict):
        raise _fault("settings must be an object")
    bodies.check(bodies.SETTINGS, settings, "settings.")
    if missing := sorted(appmessages.SETTINGS - settings.keys()):
        raise _fault(f"settings.{missing[0]} is required")
    if not isinstance(categories, list):
        raise _fault("categories must be an array")
    for index, name in enumerate(categories):
        bodies.text(1, 200)(f"categories.{index}", name)
    _check_unique("categories", categories)
    for name, (needed, spec) in _ROWS.items():
        rows = backup.get(name)
        bodies.lines(spec)(name, rows)
        assert isinstance(rows, list)
        for index, row in enumerate(rows):
            for field in needed:
                if field not in row:
                    raise _fault(f"{name}.{index}.{field} is required")
        _check_unique(f"{name}.*.id", [row["id"] for row in rows])


def _check_unique(what: str, values: list[Any]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise _fault(f"{what}: {value!r} is there twice")
        seen.add(value)


def _fault(sentence: str) -> Refusal:
    return Refusal("VALIDATION", sentence)


async def load(
    conninfo: str, slug: str, backup: Backup, vault: Vault, *, replace: bool, step: Step | None = None
) -> Imported:
    """Import an export into a restaurant, all of it or nothing.

    One that is not marked complete is filled: what is there already is newer and stays. One that is, has other data
    and no `replace`: BackupError. Raises UnknownRestaurant, DatabaseUnavailable. `step` hears how many sales are done.
    """
    async with schema.connected(conninfo, SECONDS) as connection:
        restaurant_id = await restaurants.find(connection, slug)
        users = _sealed(backup, vault, restaurant_id)
        try:
            async with connection.transaction():
                await _listen(connection, step)
                cursor = await connection.execute(
                    "select list, changes from pos.import_backup(%s, %s::jsonb, %s::jsonb, %s)",
                    (restaurant_id, backup.text, json.dumps(users, ensure_ascii=False), replace),
                )
                changes = dict(await cursor.fetchall())
        except psycopg.Error as error:
            if connection.closed or isinstance(error, psycopg.errors.InsufficientPrivilege):
                raise
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise BackupError(f"nothing was imported: {error.diag.message_primary or error}{hint}") from error
    return Imported(changes, changes.pop("kept"))


async def _listen(connection: AsyncConnection[TupleRow], step: Step | None) -> None:
    """Hear from pos.import_orders how far it is, for this transaction."""
    if step is None:
        return

    def heard(said: psycopg.errors.Diagnostic) -> None:
        if told := _DONE.fullmatch(said.message_primary or ""):
            step(int(told[1]), "")

    connection.add_notice_handler(heard)
    await connection.execute("set local client_min_messages = debug1")


def _sealed(backup: Backup, vault: Vault, restaurant_id: int) -> list[dict[str, Any]]:
    return [
        {**user, "password": vault.seal(user["password"], restaurant_id, user["id"])} if user.get("password") else user
        for user in backup.users
    ]
