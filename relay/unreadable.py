"""What the database does not let be read: a right is lacking, a function is gone, a page is damaged.

A read that is refused is asked again until it is answered, or nobody would know that it can be read again: who is not
served may not ask a second time.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from .answers import SHORTAGE
from .exchange import Asked, is_refusal
from .logs import fields
from .pools import AWAY

log = logging.getLogger("relay.unreadable")

# Classes of SQLSTATE (PostgreSQL manual, appendix A) that are no matter of the moment, and none of what was asked for:
# the schema, or the rights, are not what they were; files; a fault of a function, or of the server.
LASTING = frozenset({"42", "3F", "58", "P0", "XX"})
SURE_SECONDS = 1.0  # for which it is refused again: a function that is replaced this moment is no fault
FUNCTION = re.compile(r"PL/(?:pgSQL.*?([\w.]+)\()?", re.ASCII)  # in a context, whatever language the server speaks
REPEATABLE = re.compile(r"\bpos\.((?:find|read)_\w+|snapshot|checklist)\(")  # what changes nothing


def is_lasting(error: BaseException | None) -> bool:
    """Whether the server goes on, and refused what it will refuse the next time too."""
    return isinstance(error, psycopg.Error) and is_refusal(error) and (error.sqlstate or "")[:2] in LASTING


def refuses_all(error: psycopg.Error) -> bool:
    """Whether a call is refused whoever makes it: the database is away, or does not let the call itself through.

    What a function of others refuses, such as a DBA's trigger at the commit, is a matter of its rows, whatever it says:
    a server that it asks may be away, and ours is not. Only of a shortage everybody has a part.
    """
    context = error.diag.context or ""
    functions = FUNCTION.findall(context)  # ours are named with their schema: their search_path is pinned
    if not all(name.startswith("pos.") for name in functions):
        return (error.sqlstate or "").startswith(SHORTAGE)
    return isinstance(error, AWAY) or (is_lasting(error) and (bool(functions) or not context))


def reason(error: BaseException | None) -> str:
    """Why the server refuses, and in which of our functions."""
    if not isinstance(error, psycopg.Error):
        return str(error)
    said = error.diag.message_primary or type(error).__name__
    outermost = (error.diag.context or "").splitlines()[-1:]
    return f"{said} (in {outermost[0]})" if outermost else said


@dataclass(slots=True)
class _Refused:
    asked: Asked
    name: str | None  # of the function that may be asked again
    why: str
    since: float
    last: float
    said: bool = False

    @property
    def is_sure(self) -> bool:
        """Whether it was refused for so long that it will be the next time too."""
        return self.last - self.since > SURE_SECONDS


class Unreadable:
    """The reads of one relay that are refused now, by statement: of those that are alike the one that was first."""

    def __init__(self) -> None:
        self._refused: dict[str, _Refused] = {}

    @property
    def complaints(self) -> list[str]:
        """Which functions cannot be read, each with the reason."""
        return [f"pos.{name}: {one.why}" for name, one in self._repeatable() if one.is_sure]

    @property
    def again(self) -> list[Asked]:
        """What is to be asked again."""
        return [one.asked for _, one in self._repeatable()]

    def _repeatable(self) -> Iterator[tuple[str, _Refused]]:
        return ((one.name, one) for one in self._refused.values() if one.name)

    def note(self, asked: Asked, error: BaseException | None) -> None:
        """A read failed; it counts where that lasts."""
        if not isinstance(error, psycopg.Error) or not is_lasting(error):
            return
        now = time.monotonic()
        if (known := self._refused.get(asked[0])) is None:
            found = REPEATABLE.search(asked[0])
            known = self._refused[asked[0]] = _Refused(asked, found and found[1], reason(error), now, now)
        known.last = now
        if known.is_sure and not known.said:
            known.said = True
            what = fields(sqlstate=error.sqlstate, read=" ".join(asked[0].split()))
            log.error("the database refuses a read: %s", known.why, extra=what)

    def answered(self, asked: Asked) -> None:
        """A read succeeded. Of one that may be asked again only the very same counts: others are spared the damage."""
        known = self._refused.get(asked[0])
        if known is not None and (known.name is None or known.asked[1] == asked[1]):
            del self._refused[asked[0]]
            if known.said:
                log.info("the database answers that read again", extra=fields(read=" ".join(asked[0].split())))
