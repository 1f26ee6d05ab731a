"""What a terminal makes of a handshake that failed."""

from __future__ import annotations

import random

from websockets.exceptions import InvalidStatus

LOST, POLICY, COME_BACK = 1006, 1008, 1013  # close codes (RFC 6455, section 7.4.1, and the IANA registry)
REFUSED = (401, 403)  # status codes of a handshake after which trying again changes nothing


def close_of(error: Exception) -> tuple[int, str]:
    """A connection that could not be opened, as the close code and reason it amounts to."""
    if isinstance(error, InvalidStatus):
        status, headers = error.response.status_code, error.response.headers
        if status in REFUSED:
            said = error.response.body.decode(errors="replace")
            return POLICY, f"the relay refuses the connection ({status})" + (f": {said}" if said else "")
        if (seconds := headers.get("Retry-After", "")).isdigit():
            # Not to the second: a thousand that were told the same would come back in step.
            after = int(seconds) + random.random()  # noqa: S311 - spreads load, keeps no secret
            return COME_BACK, f"the relay is busy ({status}); retry after {after:.1f} s"
    return LOST, str(error) or "the relay does not answer"
