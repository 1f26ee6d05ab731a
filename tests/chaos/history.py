"""What terminals applied, compared with the log; also where the log's history was another one meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

import psycopg

from tests.terminals import Row

LOG = """
    select l.revision, l.type, l.action, l.data::text, l.client_id
    from pos.find_restaurant(%s) as r join pos.sync_log as l using (restaurant_id)
"""
HEADS = "select r.slug, h.revision from pos.heads as h join pos.restaurants as r using (restaurant_id)"


class Applied(Protocol):
    """A terminal, or many that were sent the same."""

    @property
    def client_id(self) -> str: ...

    @property
    def applied(self) -> list[tuple[str, int, Row]]:
        """(epoch, revision, message), in the order they were applied."""


@dataclass
class History:
    """Which epochs there were: of those that are over, up to which revision of each restaurant they live on."""

    over: dict[str, dict[str, int]] = field(default_factory=dict)

    def follows(self, conninfo: str, slug: str, terminals: Sequence[Applied]) -> int:
        """What terminals applied is what the log holds, each revision once and in order; how many changes that were.

        What they applied of a history that is over, and that the log has not taken over, is the same for all of them.
        """
        log = _log(conninfo, slug)
        gone: dict[tuple[str, int], Any] = {}
        applied_in_all = 0
        for one in terminals:
            reached: dict[str, int] = {}
            before, changes = "", one.applied
            applied_in_all += len(changes)
            for epoch, revision, message in changes:
                assert epoch == before or epoch not in reached, f"{one.client_id} went back to epoch {epoch}"
                before = epoch
                last = reached.get(epoch, 0)
                assert revision > last, f"{one.client_id} applied {revision} after {last}"
                reached[epoch] = revision
                applied = _said(message)
                lives_on = epoch not in self.over or revision <= self.over[epoch][slug]
                expected = log[revision] if lives_on else gone.setdefault((epoch, revision), applied)
                assert applied == expected, (one.client_id, epoch, revision, applied, expected)
        return applied_in_all


def _said(message: Row) -> tuple[str, str, Row, str]:
    data = message["data"]
    action, row = ("update", data) if message["type"] == "UPDATE_SETTINGS" else (data["action"], data["data"])
    return message["type"], action, row, message["clientId"]


def _log(conninfo: str, slug: str) -> dict[int, Any]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(LOG, (slug,)).fetchall()
    return {row[0]: (row[1], row[2], json.loads(row[3], parse_float=Decimal), row[4]) for row in rows}


def epoch_of(conninfo: str) -> str:
    with psycopg.connect(conninfo) as connection:
        (epoch,) = connection.execute("select pos.epoch()").fetchone() or ("",)
    return str(epoch)


def heads_of(conninfo: str) -> dict[str, int]:
    """Each restaurant's newest revision; a standby can be asked, too."""
    with psycopg.connect(conninfo) as connection:
        return dict(connection.execute(HEADS).fetchall())
