"""The error tree.

RelayError
    SettingsError        the environment asks for something that cannot be
    SchemaError          the database's schema is not the one this relay speaks to
        NotAllowed       the role that is connected as may not do what was asked
    EmbeddedError        the embedded PostgreSQL cannot be started or stopped
    DatabaseUnavailable  the database cannot be reached or does not answer in time
        OnlyStandby      the servers that can be reached are standbys
    Deaf                 a LISTEN connection does not hear what it rings itself
    UnknownRestaurant    no restaurant has this slug
    BackupError          an export cannot be imported
    TerminalError        a terminal cannot be enrolled, revoked or given another token
    Unauthorized         what a terminal shows does not say who it is, or not any more
    ComeBack             there is no room for a connection now, or it asks too much; it may come back later
    Refusal              what a terminal asked for is not done; it is told so in an ERROR

Errors carry fields; the sentence is built once, here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Code = Literal[
    "INVALID_MESSAGE",
    "TOO_LARGE",
    "UNKNOWN_TYPE",
    "UNKNOWN_ACTION",
    "VALIDATION",
    "CONFLICT",
    "GONE",
    "ORDER_ID_TAKEN",
    "FORBIDDEN",
    "RATE_LIMITED",
    "BUSY",
    "UNAVAILABLE",
    "INTERNAL",
]
REASON_BYTES = 123  # the most that a close frame holds beside its code (RFC 6455, section 5.5)
# What PostgreSQL and libpq say to those who are not let in. libpq gives no SQLSTATE when a connection fails.
REFUSED = re.compile(
    r'(role|database) ".*" does not exist|authentication failed|not permitted to log in|pg_hba\.conf'
    r"|no password supplied|permission denied for database"
)
LET_IN = "set DATABASE_URL or the DB_ variables to a role, a password and a database that PostgreSQL lets in"
RETRYABLE: frozenset[Code] = frozenset({"BUSY", "UNAVAILABLE", "RATE_LIMITED"})


class RelayError(Exception):
    """Anything the relay itself has to say is wrong."""


class SettingsError(RelayError):
    """The environment asks for something that cannot be; `problems` names every fault found."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class SchemaError(RelayError):
    """The database's schema is missing, too old or too new; the sentence names the command to run."""


class NotAllowed(SchemaError):
    """The role that is connected as may not do what was asked (SQLSTATE 42501); the sentence says which role may."""

    def __init__(self, role: str, why: str) -> None:
        super().__init__(
            f"the role {role} may not do this ({why}): in DATABASE_URL connect as pos_relay (serve, doctor, prune), as "
            "a member of pos_admin (terminals, kick, prune, restaurant list) or of pos_owner (restaurant add, import, "
            "seed, schema); without these roles, as the owner of the schema, or of the database where there is none"
        )


class EmbeddedError(RelayError):
    """The embedded PostgreSQL cannot be started or stopped; the sentence says what to do."""


class DatabaseUnavailable(RelayError):
    """The database cannot be reached or did not answer in time. Where it was `sent`, a write may have happened."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent

    @property
    def refused(self) -> bool:
        """Whether PostgreSQL is there, and lets nobody in with this role, password and database."""
        return REFUSED.search(str(self)) is not None


class OnlyStandby(DatabaseUnavailable):
    """The servers that can be reached are standbys; the sentence says how to name the primary in `variable`."""

    def __init__(self, variable: str) -> None:
        super().__init__(
            f"{variable} leads to a standby only, which takes no changes and cannot LISTEN; name the primary, or all "
            "hosts (host=a,b), of which the relay takes the one that is the primary",
            sent=False,
        )


class LockedOut(RelayError):
    """A batch gave way to other transactions (SQLSTATE 55P03, 57014, 40P01, 40001); nothing of it was applied."""


class BatchFailed(RelayError):
    """A batch was refused for something in it, by its commit perhaps; nothing of it was applied."""


class Deaf(RelayError):
    """A LISTEN connection did not hear what this relay notified itself of; the sentence says why that may be."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__(
            "LISTEN goes through a pooler that does not keep it (transaction mode); "
            "set LISTEN_DATABASE_URL to a direct connection to PostgreSQL"
            if pooled
            else "its own notification did not come back: the network swallows what the server says, or "
            "LISTEN_DATABASE_URL leads to another database than DATABASE_URL"
        )
        self.pooled = pooled


class BackupError(RelayError):
    """An export cannot be imported; the sentence says where it is wrong, and that nothing was changed."""


class TerminalError(RelayError):
    """A terminal cannot be enrolled, revoked or given another token; the sentence says why."""


class Unauthorized(RelayError):
    """What a terminal shows does not say who it is, or not any more.

    The sentence is told as the reason of a close frame. It never holds what was shown.
    """


class UnknownRestaurant(RelayError):
    """No restaurant has this slug."""

    def __init__(self, slug: str) -> None:
        super().__init__(f"there is no restaurant {slug!r}")
        self.slug = slug


class ComeBack(RelayError):
    """A connection is given up for now; the sentence, which is told in its close frame, ends with the delay to keep."""

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(f"{why}; retry after {seconds:g} s")


class Refusal(RelayError):
    """What a terminal asked for is not done, and it is told so in an ERROR (PROTOCOL, section 3).

    `field` is the path of the offending field (`data.price`, `data.items.2.id`), `details` further keys of
    the ERROR's data as JSON text by key (`current`, `suggestedId`), `ref` the id of the message that is refused
    where the message could not be read any further, `type` its type.
    """

    def __init__(
        self, code: Code, message: str, *, field: str | None = None, details: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.field = field
        self.details = details or {}
        self.ref: str | None = None
        self.type: str | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same message may succeed later, unchanged."""
        return self.code in RETRYABLE


def close_reason(error: RelayError) -> str:
    """What a close frame can say of an error."""
    return str(error).encode()[:REASON_BYTES].decode(errors="ignore")
