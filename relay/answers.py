"""What a mutation came to in the database, and what its sender is told of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import Code, Refusal

log = logging.getLogger("relay.answers")

SHORTAGE = "53"  # the class of SQLSTATEs: of memory, space or connections (PostgreSQL manual, appendix A)
# What a SQLSTATE that escaped a mutation means to its sender.
BY_SQLSTATE: Mapping[str, tuple[Code, str]] = {
    "23505": ("CONFLICT", "another row has this value already"),
    "23514": ("VALIDATION", "a value is out of range"),
    "23502": ("VALIDATION", "a required value is missing"),
    "RL404": ("VALIDATION", "there is no such restaurant"),
    "RL403": ("FORBIDDEN", "this is not allowed"),
}


class Answer(msgspec.Struct, frozen=True):
    """What a mutation came to. `code` is OK, a code of PROTOCOL section 3, or LOCKED, APART, REPEATED (pos.apply)."""

    code: str
    message: str | None
    field: str | None
    revision: int | None
    version: int | None
    details: str | None

    @property
    def applied(self) -> bool:
        """Whether the mutation is committed."""
        return self.code in ("OK", "REPEATED")

    @property
    def short(self) -> bool:
        """Whether the database was short of memory or space for it."""
        return self.code.startswith(f"SQLSTATE {SHORTAGE}")

    def details_by_key(self) -> dict[str, str]:
        """The further keys of the answer, each with its JSON text."""
        return {key: json.dumps(value, ensure_ascii=False) for key, value in self.details_parsed().items()}

    def details_parsed(self) -> dict[str, Any]:
        """The further keys of the answer."""
        return dict(json.loads(self.details)) if self.details else {}

    def refusal(self) -> Refusal:
        """What the sender of a mutation that is not applied is told."""
        if self.code.startswith("SQLSTATE "):
            return self._sql_refusal(self.code.removeprefix("SQLSTATE "))
        return Refusal(self.code, self.message or self.code, field=self.field, details=self._current())  # type: ignore[arg-type]

    def _current(self) -> dict[str, str]:
        # The current row is passed on as text: its digits are not ours to rewrite.
        if self.details and self.details.startswith('{"current": '):
            return {"current": self.details[len('{"current": ') : -1]}
        return self.details_by_key()

    def _sql_refusal(self, state: str) -> Refusal:
        if state in BY_SQLSTATE:
            code, message = BY_SQLSTATE[state]
        elif state.startswith("22"):
            code, message = "VALIDATION", "a value cannot be stored"
        elif self.short:
            log.error("the database is short of something: SQLSTATE %s: %s", state, self.message)
            code, message = "BUSY", "the database is short of memory or space; try again"
        else:
            log.error("a mutation failed with SQLSTATE %s: %s", state, self.message)
            return Refusal("INTERNAL", "the mutation failed; the relay's log says why")
        return Refusal(code, message, field=_field_of(self.field))


def _field_of(constraint: str | None) -> str | None:
    """The field that a constraint is about: it is named for the table and its column."""
    first, *others = (constraint or "").removesuffix("_unique").removeprefix("menu_").removeprefix("order_").split("_")[
        1:
    ] or [""]
    return first + "".join(map(str.capitalize, others)) or None
