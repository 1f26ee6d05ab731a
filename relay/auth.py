"""Who a terminal is and what it may do: decided here, without I/O (PROTOCOL.md, section 5)."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

from .errors import Unauthorized

Role = Literal["terminal", "manager", "display"]
ROLES: tuple[Role, ...] = ("terminal", "manager", "display")

# What each role may say; whatever is in neither set is a manager's. sql/terminals.sql says the same of mutations.
READS = frozenset({"CLIENT_CONNECTED", "CLIENT_DISCONNECTED", "HEARTBEAT", "SYNC_REQUEST", "USER_SYNC"})
TABLES_AND_ORDERS = frozenset(
    {
        "UPDATE_TABLE",
        "UPDATE_ORDER",
        "NEXT_ORDER_ID",
        "MESSAGE",
        "USER_LOGIN",
        "USER_LOGOUT",
        "SESSION_UPDATE",
        "SESSION_SYNC",
        "REFRESH_SESSIONS",
    }
)
ALLOWED: Mapping[str, frozenset[str]] = {"terminal": READS | TABLES_AND_ORDERS, "display": READS}
NOBODY = "nobody"  # of a session that is being closed: it may say nothing any more

PREFIX = "minipos_"  # so that people, and programs that look for leaked secrets, know what they have found
TOKEN = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
TOKEN_BYTES = 32
MOST_CHARACTERS = 4096  # of a token of either kind; a signed one with a few claims has 300

SUBPROTOCOL = "minipos"  # offered beside the token's, so that this is answered and not the token
SUBPROTOCOL_TOKEN = "minipos.token."  # noqa: S105 - what a token stands behind
_NAMES_IN_URLS = frozenset({"token", "access_token", "auth", "authorization", "jwt", "bearer"})

# As reasons of a close frame these have 123 bytes at most (RFC 6455, section 5.5).
HOW_TO_SHOW = "show a token: in CLIENT_CONNECTED, as subprotocol minipos.token.<token>, or as Authorization: Bearer"
IN_URL = "URLs stand in logs: replace the token in this one, and show it in CLIENT_CONNECTED or Authorization: Bearer"
NOT_KNOWN = "this token is not known here; perhaps it was revoked or replaced"


def may(role: str, type_: str) -> bool:
    """Whether a session of this role may send this message."""
    return role == "manager" or type_ in ALLOWED.get(role, ())


def sees_users(role: str | None) -> bool:
    """Whether an app session of this role is sent the app's users, their passwords readable; None: no authentication.

    Whoever works there logs in with them. A display only shows, and is often where guests can reach it.
    """
    return role is None or role in ("terminal", "manager")


def why_not(role: str, type_: str) -> str:
    """The sentence that refuses a message to a session that may not send it."""
    if role == NOBODY:
        return "this terminal is shut out"
    return f"{type_} needs the role {' or '.join(able for able in ROLES if may(able, type_))}; this is a {role}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token stands for.

    `restaurant_id` is 0 where the token names only the `slug`. `mark` is what it was let in by: the hash of an enrolled
    token, or the fingerprint of the key that signed it. `counted` is the restaurant's count of such changes as of the
    reading (pos.heads.staff), `expires` a time as in time.time().
    """

    slug: str
    role: str
    name: str
    mark: bytes = field(repr=False)
    restaurant_id: int = 0
    counted: int = -1
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows: a token, if any, the restaurant and profile it asks for, the subprotocol to answer with.

    `fault` says why it is turned away whatever the token is, where there are tokens at all.
    """

    token: str | None = field(default=None, repr=False)
    slug: str | None = None
    profile: str | None = None
    subprotocol: str | None = None
    fault: str | None = None
    address: str = ""  # of the peer


def shown(
    headers: Iterable[tuple[bytes, bytes]], subprotocols: Iterable[str], query: bytes, peer: Sequence[Any] | None = None
) -> Shown:
    """What a request or handshake shows; `headers` have lower-case names, and `peer` is (host, port), as in ASGI.

    Of two tokens the subprotocol's counts, which is the terminal's own: the header may be its proxy's.
    """
    offered = list(subprotocols)
    given = [one.removeprefix(SUBPROTOCOL_TOKEN) for one in offered if one.startswith(SUBPROTOCOL_TOKEN)]
    bearers = [
        value.decode("latin-1").strip()[len("bearer ") :].strip()
        for name, value in headers
        if name == b"authorization" and value.strip().lower().startswith(b"bearer ")
    ]
    parameters = parse_qsl(query.decode("latin-1"))
    asked = dict(reversed(parameters))  # of two values the first counts
    chosen = SUBPROTOCOL if SUBPROTOCOL in offered else SUBPROTOCOL_TOKEN + given[0] if given else None
    fault = None
    if any(name.lower() in _NAMES_IN_URLS or TOKEN.search(value) for name, value in parameters):
        fault = IN_URL
    elif len(set(given)) > 1 or len(set(bearers)) > 1:
        fault = "two tokens are shown; show one"
    token = next(iter([*given, *bearers]), None)
    return Shown(token, asked.get("restaurant"), asked.get("profile"), chosen, fault, str(peer[0]) if peer else "")


def check_restaurant(identity: Identity, wanted: str | None) -> None:
    """Raise Unauthorized where the URL names a restaurant that is not the token's."""
    if wanted is not None and wanted != identity.slug:
        raise Unauthorized("this token is another restaurant's")


def new_token() -> str:
    """A token of 256 random bits, as it is given to a terminal; only its digest is stored."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """The SHA-256 of an enrolled token. Raises Unauthorized for what cannot be one.

    No salt, and no slow hash: there is nothing to guess in 256 random bits. It is looked up by the hash, so that no
    comparison takes longer the nearer a guess comes.
    """
    if not TOKEN.fullmatch(token):
        raise Unauthorized("this is no token that a relay has given out")
    return hashlib.sha256(token.encode()).digest()
