"""Says who is about to change something, so that a row of the log need not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from .exchange import Asked
from .protocol import Actor, Mutation

NOTED_SECONDS = 600.0  # a note holds so long; pos.history_of looks a quarter of an hour back
MOST = 20_000  # actors remembered here

Key = tuple[int, str, Actor]  # of a restaurant, under a client id


class Actors:
    """The actors that the database knows of, under their client ids."""

    def __init__(self) -> None:
        self._noted: dict[Key, float] = {}

    def unknown(self, mutations: Iterable[Mutation]) -> list[Key]:
        """Whose mutations these are, without those that were noted lately."""
        now = time.monotonic()
        found = {(m.restaurant_id, m.client_id, m.actor) for m in mutations}
        return [one for one in found if now - self._noted.get(one, -NOTED_SECONDS) >= NOTED_SECONDS]

    def know(self, noted: Sequence[Key]) -> None:
        """Remember that these are noted now."""
        now = time.monotonic()
        if len(self._noted) + len(noted) > MOST:
            self._noted = {one: at for one, at in self._noted.items() if now - at < NOTED_SECONDS}
        self._noted.update(dict.fromkeys(noted, now))


def note_of(actors: Sequence[Key]) -> Asked | None:
    """The statement that notes them; None where there is nobody."""
    if not actors:
        return None
    return (
        "select pos.note_actors(%s, %s, %s, %s, %s)",
        (
            [restaurant_id for restaurant_id, _, _ in actors],
            [client_id for _, client_id, _ in actors],
            [actor.terminal for _, _, actor in actors],
            [actor.role for _, _, actor in actors],
            [actor.address for _, _, actor in actors],
        ),
    )
