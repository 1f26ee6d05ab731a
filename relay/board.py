"""What /board shows of this instance: how it is, who is connected and how far behind, and the ways of recent changes.

Values that json can write; times are milliseconds since 1970. A restaurant's manager is shown that restaurant's alone.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from . import __version__
from .connections import Connections
from .health import Health
from .hub import Room
from .listener import Listener
from .session import Session, State
from .ways import SECONDS, Trail, Way, Ways

TERMINALS = 200  # that are named, those furthest behind first; the others are counted
CHANGES = 100  # whose ways are shown
TURN = 200  # terminals that are looked at before others have their turn


class Board:
    """One relay's."""

    def __init__(self, connections: Connections, listener: Listener, health: Health, ways: Ways) -> None:
        self._connections = connections
        self._listener = listener
        self._health = health
        self._ways = ways
        self._started = time.time()

    async def here(self, restaurant_id: int | None) -> dict[str, Any]:
        """This instance, with what belongs to one restaurant, or to all (None)."""
        hub, listener = self._connections.hub, self._listener
        rooms = [room for i, room in hub.rooms.items() if restaurant_id in (None, i)]
        crowd = await _look_at(rooms)
        trails = {i: trail for i, trail in self._ways.trails.items() if restaurant_id in (None, i) and trail.slug}
        silent = listener.silent_seconds
        return {
            "at": _ms(time.time()),
            "version": __version__,
            "startedAt": _ms(self._started),
            "status": self._health.status,
            "problems": [problem.message for problem in self._health.problems()],
            "draining": self._connections.draining,
            "silentSeconds": None if silent is None else round(silent, 1),
            "lag": listener.lag,
            "queueUsage": listener.queue_usage,
            "pending": self._connections.writer.pending,
            "lagging": crowd.lagging,
            "waitingBytes": crowd.waiting_bytes,
            "terminalCount": len(crowd.places),
            # Two sockets may have one client id.
            "terminals": [{"id": f"{id(one):x}", **seen(one, hub.rooms.get(one.restaurant_id))} for one in crowd.worst],
            "restaurants": [
                {"slug": room.slug, "head": room.head, "terminals": len(room.sessions)} for room in rooms if room.window
            ],
            "seconds": _seconds(trails.values()),
            **_changes(trails, crowd),
        }


class _Crowd:
    """What one look at every terminal found: `places` are (lagging, behind, bytes waiting, number, session) of each."""

    def __init__(self) -> None:
        self.places: list[tuple[bool, int, int, int, Session]] = []
        self.cursors: dict[int, list[int]] = {}  # of the live ones, by restaurant
        self.lagging = self.waiting_bytes = 0

    @property
    def worst(self) -> list[Session]:
        """Those furthest behind first, TERMINALS at most."""
        return [place[-1] for place in heapq.nlargest(TERMINALS, self.places)]

    def add(self, room: Room, session: Session) -> None:
        """Look at a terminal."""
        is_live, lagging, waiting = session.state is State.LIVE, session.lagging, session.waiting_bytes
        behind = room.head - session.cursor if is_live else 0
        self.places.append((lagging, behind, waiting, len(self.places), session))
        self.lagging += lagging
        self.waiting_bytes += waiting
        if is_live:
            self.cursors.setdefault(room.restaurant_id, []).append(session.cursor)


async def _look_at(rooms: Iterable[Room]) -> _Crowd:
    crowd = _Crowd()
    for room in rooms:
        for session in list(room.sessions):
            crowd.add(room, session)
            if len(crowd.places) % TURN == 0:
                await asyncio.sleep(0)
    for cursors in crowd.cursors.values():
        cursors.sort()
    return crowd


def _changes(trails: dict[int, Trail], crowd: _Crowd) -> dict[str, Any]:
    written = ((way.reading.written, way.revision, i, way) for i, trail in trails.items() for way in trail.ways)
    sent = ((one.committed, revision, i) for i, trail in trails.items() for revision, one in trail.sent.items())
    return {
        "ways": [
            _way(trails[i], way, bisect_left(crowd.cursors.get(i, ()), way.revision))
            for _, _, i, way in heapq.nlargest(CHANGES, written)
        ],
        "sent": [_sent(trails[i], revision) for _, revision, i in heapq.nlargest(CHANGES, sent)],
    }


def seen(session: Session, room: Room | None) -> dict[str, object]:
    """A terminal as people are shown it; `revision` and `behind` are None until it is sent changes."""
    is_live = room is not None and session.state is State.LIVE and session.epoch == room.epoch
    since = datetime.fromtimestamp(time.time() - (time.monotonic() - session.since), UTC)
    return {
        "restaurant": room.slug if room else "",
        "clientId": session.client_id,
        "name": name_of(session),
        "role": session.actor.role,
        "address": session.actor.address,
        "profile": session.profile.name if session.profile else "core",
        "connectedAt": since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "state": session.state.name.lower(),
        "revision": session.cursor if is_live else None,
        "behind": max(0, room.head - session.cursor) if room and is_live else None,
        "waitingBytes": session.waiting_bytes,
        "lagging": session.lagging,
    }


def name_of(session: Session) -> str:
    """The name that a terminal was enrolled under, or, where authentication is off, the one that it gives itself."""
    return session.actor.terminal or session.name


def _way(trail: Trail, way: Way, missing: int) -> dict[str, Any]:
    reading = way.reading
    return {
        "restaurant": trail.slug,
        "revision": way.revision,
        "type": way.type,
        "action": way.action,
        "rowId": way.row_id,
        "clientId": way.client_id,
        "given": _ms(way.given),
        "heard": _ms(reading.heard),
        "read": _ms(reading.read),
        "written": _ms(reading.written),
        "terminals": reading.terminals,
        "missing": missing,
    }


def _sent(trail: Trail, revision: int) -> dict[str, Any]:
    sent = trail.sent[revision]
    return {
        "restaurant": trail.slug,
        "revision": revision,
        "clientId": sent.client_id,
        "received": _ms(sent.received),
        "begun": _ms(sent.begun),
        "committed": _ms(sent.committed),
    }


def _seconds(trails: Iterable[Trail]) -> list[list[float]]:
    """Of each of the last seconds in which changes were written: when, how many, and how many ms, mean and most."""
    since = int(time.time()) - SECONDS
    found: dict[int, tuple[int, float, float]] = {}
    for trail in trails:
        for second, changes, seconds, slowest in trail.seconds:
            if second >= since:
                before = found.get(second, (0, 0.0, 0.0))
                found[second] = (before[0] + changes, before[1] + seconds, max(before[2], slowest))
    return [
        [second, changes, round(seconds / changes * 1000, 1), round(slowest * 1000, 1)]
        for second, (changes, seconds, slowest) in sorted(found.items())
    ]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
