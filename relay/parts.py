"""What all connections of one instance share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .admission import Admission
from .auth import Identity
from .checksums import Checksums
from .database import Database
from .gate import Gate
from .hub import Hub, Room
from .rates import Rates
from .session import Profile, Session
from .settings import Settings
from .slugs import Slugs
from .syncer import Syncer
from .writer import Writer


class Leaving(Protocol):
    """A connection."""

    session: Session

    async def leave(self, delay: float, why: str = ...) -> None:
        """Answer what is soon answered, and send the terminal away for so many seconds, saying why."""


class Parts:
    """What all connections of one instance share."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        writer: Writer,
        syncer: Syncer,
        checksums: Checksums,
        settings: Settings,
        gate: Gate | None = None,
        profile_of: Callable[[Session, str | None], Profile | None] = lambda _session, _wanted: None,
    ) -> None:
        self.database = database
        self.hub = hub
        self.writer = writer
        self.syncer = syncer
        self.checksums = checksums
        self.settings = settings
        self.gate = gate  # None: authentication is off
        self.profile_of = profile_of  # of a session that has named itself; beside it what `?profile=` says
        self.slugs = Slugs(database, hub)
        self.rates = Rates(settings)
        self.admission = Admission(settings)
        self.open: set[Leaving] = set()
        self.back = asyncio.Event()  # set, and replaced, when the database is there again
        self.emptied = asyncio.Event()

    def room_of(self, identity: Identity) -> Room | None:
        """The room of a token's restaurant, where that is known without asking the database for its slug."""
        if identity.restaurant_id:
            return self.hub.open(identity.restaurant_id, identity.slug)
        return self.slugs.known(identity.slug)

    def close(self, connection: Leaving) -> None:
        """A connection is over."""
        self.open.discard(connection)
        if not self.open:
            self.emptied.set()
