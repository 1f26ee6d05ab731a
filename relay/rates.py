"""How fast terminals may speak: what each, and each restaurant, has taken of its messages and bytes a second."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Protocol

from . import metrics
from .errors import ComeBack, Refusal
from .settings import Settings

log = logging.getLogger("relay.rates")

AT_ONCE_SECONDS = 10.0  # of a rate, that may be taken at once
REFUSED_SECONDS = 0.01  # what a refused message costs beside: whoever is refused faster than that for long is closed
ROUNDING = 1e-6

TOO_FAST = "messages come faster than RELAY_{}_MESSAGES or RELAY_{}_BYTES allow; send this one again in {} s"
GOES_ON = "messages come much faster than is allowed, and still do after RATE_LIMITED"


class Taker(Protocol):
    """Who takes of a rate: until when what it took keeps it busy, as in time.monotonic()."""

    busy_until: float


class Speaker(Taker, Protocol):
    """A terminal: `refused_until` is the same of the messages that were refused; 0.0: none was."""

    refused_until: float


class Rates:
    """The rates of one relay's terminals and restaurants.

    A message takes a time of whoever sends it: a second divided by the messages, or by the bytes, that a second may
    have, whichever is longer. Nobody may be busy for more than AT_ONCE_SECONDS ahead.
    """

    def __init__(self, settings: Settings) -> None:
        self._terminal = _seconds(settings.terminal_messages), _seconds(settings.terminal_bytes)
        self._restaurant = _seconds(settings.restaurant_messages), _seconds(settings.restaurant_bytes)

    def take(self, terminal: Taker, restaurant: Taker | None, text: str | bytes, now: float) -> float:
        """Take what a message needs, and return 0.0; or take nothing, and return the seconds until it can be had."""
        # Done for every message of every terminal.
        size = len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())
        ahead = now + AT_ONCE_SECONDS + ROUNDING
        each, a_byte = self._terminal
        begins = max(terminal.busy_until, now)
        ends = begins + max(each, size * a_byte)
        if ends > ahead and begins > now:  # one that is larger than all that may be taken at once must get through too
            return ends - ahead
        if restaurant is not None:
            each, a_byte = self._restaurant
            begins = max(restaurant.busy_until, now)
            all_end = begins + max(each, size * a_byte)
            if all_end > ahead and begins > now:
                return all_end - ahead
            restaurant.busy_until = all_end
        terminal.busy_until = ends
        return 0.0

    def refuse(
        self, terminal: Speaker, text: str | bytes, wait: float, now: float, speaker: Mapping[str, object] | None = None
    ) -> Refusal:
        """The refusal of a message that `take` makes wait; the `speaker` (logs.fields) is logged with the first one.

        Raises ComeBack where the terminal was told so for long.
        """
        each, a_byte = self._terminal
        owed = max(terminal.refused_until, now) + max(REFUSED_SECONDS, len(text) * a_byte) - now
        if owed > AT_ONCE_SECONDS:
            metrics.LIMITED.labels("flood").inc()
            log.warning("a flood is cut off", extra=speaker)
            raise ComeBack(GOES_ON, AT_ONCE_SECONDS)
        metrics.LIMITED.labels("rate").inc()
        if not terminal.refused_until:
            log.info("a terminal is limited", extra=speaker)
        terminal.refused_until = now + owed
        # Each is told a later time than the one before: all that were refused do not come back at once.
        turns = owed * max(1.0, each / REFUSED_SECONDS)
        after = math.ceil(min(max(1.0, wait, turns), AT_ONCE_SECONDS))
        whose = "TERMINAL" if terminal.busy_until - now > AT_ONCE_SECONDS / 2 else "RESTAURANT"
        return Refusal("RATE_LIMITED", TOO_FAST.format(whose, whose, after), details={"retryAfter": str(after)})


def _seconds(a_second: int) -> float:
    return 1 / a_second if a_second else 0.0
