"""Rows of the log as terminals receive them."""

from __future__ import annotations

from . import protocol
from .frames import encode
from .logrows import ChangeRow
from .window import Change


def encoded(row: ChangeRow) -> Change:
    """A change as the frames that all terminals receive."""
    text = protocol.change(
        row.type, row.action, row.data, client_id=row.client_id, timestamp=row.milliseconds, revision=row.revision
    )
    return Change(row.revision, encode(text), row.type, row.action, row.row_id, row.client_id)
