"""The web app's users as its sessions see them, their passwords opened, and what became of them meanwhile."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from .appdata import AppData, UserRow
from .errors import DatabaseUnavailable
from .logs import fields
from .vault import Vault

log = logging.getLogger("relay.staff")

User = dict[str, object]


@dataclass(frozen=True)
class Staff:
    """The users of a restaurant by id, as they were at a count of their changes.

    `readable` is False where a password cannot be opened: then nobody is sent the users, for none could log in.
    """

    count: int
    complete: bool
    users: dict[str, User]
    versions: dict[str, tuple[int, str]]  # of each row, and who wrote it
    readable: bool = True

    @cached_property
    def text(self) -> str | None:
        """All users as JSON text; None where there are none to send."""
        return json.dumps(list(self.users.values()), ensure_ascii=False) if self.users and self.readable else None


async def read_staff(data: AppData, vault: Vault, restaurant_id: int) -> Staff:
    """The users of a restaurant; a password that stands readable in the database is sealed, where there is a secret.

    Raises DatabaseUnavailable, UnknownRestaurant.
    """
    rows = await data.read_staff(restaurant_id)
    versions = {row.id: (row.version, row.updated_by) for row in rows.users}
    try:
        users = {row.id: _opened(row, vault, restaurant_id) for row in rows.users}
    except ValueError as error:
        log.error("the users cannot be sent: %s", error, extra=fields(restaurant=restaurant_id))
        return Staff(rows.count, rows.complete, {}, versions, readable=False)
    for row in rows.users:
        if row.password is not None and vault.leaves_open(row.password):
            sealed = vault.seal(row.password, restaurant_id, row.id)
            with suppress(DatabaseUnavailable):  # somebody holds the row; the next reading tries again
                await data.seal_password(restaurant_id, row.id, row.password, sealed)
    return Staff(rows.count, rows.complete, users, versions)


def _opened(row: UserRow, vault: Vault, restaurant_id: int) -> User:
    user: User = json.loads(row.data)
    if row.password is not None:
        user["password"] = vault.open(row.password, restaurant_id, row.id)
    return user


def changes_between(old: Staff, new: Staff) -> Iterator[tuple[str, User, str]]:
    """What became of the users: action, the user, and the client id that did it."""
    if not (old.readable and new.readable):
        return
    for user_id, user in new.users.items():
        by = new.versions[user_id][1]
        if user_id not in old.users:
            yield "add", user, by
        elif user != old.users[user_id]:
            yield "update", user, by
    for user_id in old.users.keys() - new.users.keys():
        yield "delete", {"id": user_id}, "server"
