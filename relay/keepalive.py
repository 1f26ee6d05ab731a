"""Notices peers that are gone: one clock pings all sockets in turns, and ends those that did not answer."""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

TURNS = 64  # into which an interval is divided, so that ten thousand are not pinged at the same moment


class Pinged(Protocol):
    """What is kept alive."""

    def ping(self, payload: bytes) -> bool:
        """Send a ping, unless the last one was not answered: then end, and return False."""


class Keepalive:
    """Pings each of its members once an interval, the first time an interval after it was added.

    A timer, a payload and a callback for each of them would be most of what an idle terminal costs.
    """

    def __init__(self, seconds: float) -> None:
        self._pause = seconds / TURNS
        self._turns: list[set[Pinged]] = [set() for _ in range(TURNS)]
        self._turn = 0  # whose members were pinged last
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Pinged) -> int:
        """Ping a member from now on; the turn that `discard` wants to know."""
        self._turns[self._turn].add(member)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._next)
        return self._turn

    def discard(self, member: Pinged, turn: int) -> None:
        """Ping it no more."""
        self._turns[turn].discard(member)

    def _next(self) -> None:
        self._turn = (self._turn + 1) % TURNS
        payload = secrets.token_bytes(4)  # so that an answer to an earlier ping is none to this one
        for member in tuple(self._turns[self._turn]):
            if not member.ping(payload):
                self._turns[self._turn].discard(member)
        self._timer = None
        if any(self._turns):
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._next)
