"""Who may come in: how many at a time from one address, of one terminal, of a restaurant and in all, and how fast.

The address is the one that a trusted proxy names, or the peer's own. One that stands for many is not counted: this
machine's, and a trusted proxy's that does not name whom it forwards for.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from . import metrics
from .errors import ComeBack
from .logs import fields
from .settings import Settings

log = logging.getLogger("relay.admission")

AT_ONCE_SECONDS = 5  # of the handshakes, that may come at once
ADDRESS_SECONDS = 10.0  # in which an address may connect ADDRESS_TIMES as often as it may be connected
ADDRESS_TIMES = 2
FULL_SECONDS, LATEST_SECONDS = 5, 10  # after which whoever is not let in should come back
SAID_SECONDS = 10.0  # between two log lines about one limit
ROUNDING = 1e-6
ADDRESS_CHARACTERS = 64  # of what a proxy names that is no address
LOCAL = ("127.0.0.1", "::1")
ANYBODY = ("*",)  # as a trusted proxy

BUSY = "too many terminals connect at once"
FULL = "this relay has as many connections as RELAY_CONNECTIONS allows"
ADDRESS_FULL = "this address has as many connections as RELAY_ADDRESS_CONNECTIONS allows"
RESTAURANT_FULL = "this restaurant has as many connections as RELAY_RESTAURANT_CONNECTIONS allows"
TERMINAL_FULL = "this client id has as many connections as RELAY_TERMINAL_CONNECTIONS allows"
PROXY = "where it is a proxy, name it in FORWARDED_ALLOW_IPS and let it send X-Forwarded-For"


class Closed(NamedTuple):
    """Somebody is not let in: why, and after how many seconds to come back."""

    why: str
    retry_after: int


class Admission:
    """The door of one relay. Times are those of time.monotonic()."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._busy_until = 0.0  # with the handshakes that were let in
        self._turned_away = 0  # since there was room for all
        self._uncounted = _Networks((*LOCAL, *(settings.proxies if settings.proxies != ANYBODY else ())))
        self._inside: Counter[str] = Counter()  # connections by place
        self._came: Counter[str] = Counter()  # of these and of those that left, who came lately
        self._counted_since = 0.0
        self._terminals: Counter[int] = Counter()
        self._said: dict[str, float] = {}  # when each limit was last spoken of

    def knock(self, address: str, connected: int, now: float) -> Closed | None:
        """Why a handshake is refused; None: it is let in, and counts as one."""
        most = self._settings
        if most.connections and connected >= most.connections:
            return self._close("relay", Closed(FULL, FULL_SECONDS), now)
        place = self.place(address) if most.address_connections else ""
        if place:
            if now - self._counted_since > ADDRESS_SECONDS:
                self._came, self._counted_since = Counter(), now
            inside, came = self._inside[place], self._came[place]
            if inside >= most.address_connections or came >= ADDRESS_TIMES * most.address_connections:
                return self._close("address", Closed(ADDRESS_FULL, FULL_SECONDS), now, f"{place}; {PROXY}")
        if most.handshakes:
            ends = max(self._busy_until, now) + 1 / most.handshakes
            if ends > now + AT_ONCE_SECONDS + ROUNDING:
                self._turned_away += 1
                after = min(LATEST_SECONDS, 1 + self._turned_away // most.handshakes)
                return self._close("handshakes", Closed(BUSY, after), now)
            if self._busy_until < now:
                self._turned_away = 0
            self._busy_until = ends
        if place:
            self._came[place] += 1
        return None

    def enter(self, address: str) -> str:
        """A connection was let in; what `leave` wants to know of it."""
        place = self.place(address)
        if place:
            self._inside[place] += 1
        return place

    def leave(self, place: str) -> None:
        """A connection of `enter` is over."""
        if place:
            _take_out(self._inside, place)

    def place(self, address: str) -> str:
        """What an address is counted as: nothing where it stands for many, a whole network in IPv6."""
        return "" if self._uncounted.has(address) else _place(address)

    def has_room(self, in_restaurant: int) -> bool:
        """Whether one more may enter a restaurant that has so many connections."""
        most = self._settings.restaurant_connections
        return not most or in_restaurant < most

    def turn_away(self, slug: str | None, now: float) -> Closed:
        """What whoever finds a restaurant full is told."""
        return self._close("restaurant", Closed(RESTAURANT_FULL, FULL_SECONDS), now, f"restaurant {slug or 'default'}")

    def introduce(self, slug: str | None, terminal: str, client_id: str, now: float) -> int:
        """A connection says whose it is; what `forget` wants to know. Raises ComeBack where there are too many."""
        known_as = hash((slug, terminal, client_id))  # a number is smaller than three texts
        most = self._settings.terminal_connections
        if most and self._terminals[known_as] >= most:
            whose = f"restaurant {slug or 'default'}"
            raise ComeBack(*self._close("terminal", Closed(TERMINAL_FULL, FULL_SECONDS), now, whose))
        self._terminals[known_as] += 1
        return known_as

    def forget(self, known_as: int) -> None:
        """A connection of `introduce` is over."""
        _take_out(self._terminals, known_as)

    def _close(self, limit: str, closed: Closed, now: float, whose: str = "") -> Closed:
        metrics.LIMITED.labels(limit).inc()
        # A storm of them must not become one of log lines.
        if now - self._said.get(limit, -SAID_SECONDS) >= SAID_SECONDS:
            self._said[limit] = now
            log.warning("connections are refused: %s", closed.why, extra=fields(whose=whose) if whose else None)
        return closed


class _Networks:
    """Addresses and networks."""

    def __init__(self, named: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(one) for one in named]

    def has(self, address: str) -> bool:
        """Whether an address is one of them, or there is none, as for a Unix socket."""
        found = _parsed(address)
        return not address or (found is not None and any(found in network for network in self._networks))


@lru_cache(4096)
def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _place(address: str) -> str:
    found = _parsed(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))  # what one household is given
    return str(found or address[:ADDRESS_CHARACTERS])


def _take_out(counted: Counter[Any], one: Any) -> None:
    counted[one] -= 1
    if counted[one] <= 0:
        del counted[one]
