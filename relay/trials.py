"""Tries what serving terminals takes, of a restaurant that there is not: a relay at which nobody asks finds out too."""

from __future__ import annotations

import time
from typing import LiteralString

from .database import QUICK_SECONDS, Database
from .errors import DatabaseUnavailable
from .unreadable import is_lasting, reason

TRY_SECONDS = 6.0  # between two trials, while they succeed
SURE = 2  # refused so often in a row, it is no function that was just being replaced

# What a terminal is not served without. (grants.sql has all that a relay calls.)
NEEDED = (
    "apply", "changes_after", "checklist", "epoch", "find_restaurant", "find_terminals", "meet_terminal", "prove",
    "read_changes", "read_heads", "read_lists", "read_messages", "read_orders", "read_staff", "read_terminals",
    "snapshot",
)  # fmt: skip
# A function that lends its owner's rights has none to lend where the owner is another one than the schema's.
RIGHTS: LiteralString = """
    select 'pos.' || w.name || case
        when count(p.oid) = 0 then ' is gone'
        when not bool_or(has_function_privilege(p.oid, 'execute')) then ' may not be called by ' || current_user
        else ' belongs to ' || min(pg_get_userbyid(p.proowner)) || ', and the schema to ' || pg_get_userbyid(n.nspowner)
      end
    from pg_catalog.pg_namespace as n
    cross join unnest(%s::text[]) with ordinality as w (name, place)
    left join pg_catalog.pg_proc as p on p.pronamespace = n.oid and p.proname = w.name
    where n.nspname = 'pos'
    group by w.name, w.place, n.nspowner
    having not coalesce(bool_or(has_function_privilege(p.oid, 'execute')
        and (not p.prosecdef or pg_has_role(p.proowner, n.nspowner, 'usage'))), false)
    order by w.place"""
# And the tables: what these functions read is looked at when they are called, whether or not there is a row.
READS: LiteralString = """
    select (select count(*) from pos.snapshot(0, 0)), (select count(*) from pos.changes_after(0, 0, 0, 0)),
           (select count(*) from pos.read_messages('{0}', '{0}')), (select count(*) from pos.read_staff(0)),
           (select count(*) from pos.find_terminals('{}'))"""


class Trials:
    """Those of one relay."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._refused = 0  # in a row
        self._why = ""
        self._next = 0.0

    @property
    def complaint(self) -> str | None:
        """What is refused, and why; None where nothing is, or nobody answers."""
        return self._why if self._refused >= SURE else None

    async def run_due(self) -> None:
        """Try, where it is time to."""
        if not self._refused and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TRY_SECONDS
        try:
            lacking = [why for (why,) in await self._database.read(RIGHTS, (list(NEEDED),), QUICK_SECONDS, live=True)]
            if not lacking:
                await self._database.read(READS, (), QUICK_SECONDS, live=True)
        except DatabaseUnavailable as error:
            # Of one that does not answer nothing is known; the listener says so.
            lacking = [reason(error.__cause__)] if is_lasting(error.__cause__) else []
        self._refused = self._refused + 1 if lacking else 0
        self._why = lacking[0] + (f", and {len(lacking) - 1} more" if len(lacking) > 1 else "") if lacking else ""
