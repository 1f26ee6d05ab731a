"""Which web pages may talk to the relay: the Origin of a request against the allow-list (RFC 6454)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1"})


def is_allowed(origin: str | None, host: str, allowed: Sequence[str] | None) -> bool:
    """Whether a page of this `origin` may come in; `host` is the request's Host header.

    With an allow-list, what it names exactly. Without one (None), pages of this machine at any port, and the relay's
    own. A missing origin is no browser's and passes; `null` never does.
    """
    if origin is None:
        return True
    if allowed is not None:
        return origin in allowed
    try:
        parts = urlsplit(origin)
        name = parts.hostname
        parts.port  # noqa: B018 - raises ValueError for what is no port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or name is None or origin != f"{parts.scheme}://{parts.netloc}":
        return False
    if name in LOOPBACK:
        return "@" not in parts.netloc
    # By address only: a name that points here could be anybody's (DNS rebinding). Names go into RELAY_ORIGINS.
    return parts.netloc == host and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
