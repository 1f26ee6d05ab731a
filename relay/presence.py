"""One instance's part in roll calls: it says that it is here and which terminals it has, and closes some if asked."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import uuid
from collections import OrderedDict
from contextlib import suppress
from typing import Any, LiteralString, NamedTuple

import psycopg

from . import __version__
from .auth import NOBODY
from .board import Board, name_of, seen
from .connection import POLICY
from .connections import Connections
from .database import QUICK_SECONDS, Database
from .errors import DatabaseUnavailable
from .logs import fields
from .parts import Leaving
from .session import State

log = logging.getLogger("relay.presence")

NOTE_SECONDS = 5.0  # between two notes; the database counts a relay as silent after three
LOOK_SECONDS = 0.2  # at least, from one look at the calls to the next: whoever may connect may ring
FORGET_SECONDS = 0.5  # at the end, for the database to hear of it
TURN = 200  # terminals that are looked at before others have their turn
COME_BACK_SECONDS = 1.0  # that a terminal which is to come back is told to wait
KEPT = 100  # answers that the database has not heard yet: a kick is not done again for that
KICKED = "closed by hand; start this terminal again when whoever runs the relay says so"
COME_BACK = "closed by hand"


class _Call(NamedTuple):
    """A row of pos.open_calls; what is None is not asked for."""

    call_id: uuid.UUID
    kind: str
    restaurant_id: int | None
    client_id: str | None
    terminal: str | None
    come_back: bool

    def means(self, connection: Leaving) -> bool:
        """Whether a terminal is one of those that it is about; one whose restaurant is not known yet never is."""
        session = connection.session
        return (
            session.restaurant_id != 0
            and session.state is not State.CLOSED
            and self.restaurant_id in (None, session.restaurant_id)
            and self.client_id in (None, session.client_id)
            and self.terminal in (None, name_of(session))
        )


class Presence:
    """Answers the roll calls of one instance; `port` is where it serves, once that is known."""

    def __init__(self, database: Database, connections: Connections, board: Board, instance_id: str) -> None:
        self.instance_id = instance_id
        self.port = 0
        self._host = socket.gethostname()
        self._database = database
        self._connections = connections
        self._board = board
        self._rung = asyncio.Event()
        self._answers: OrderedDict[uuid.UUID, str] = OrderedDict()

    @property
    def name(self) -> str:
        """This instance's, for people."""
        return f"{self._host}:{self.port}"

    def ring(self) -> None:
        """Somebody calls the roll, perhaps."""
        self._rung.set()

    async def run(self) -> None:
        """Note that this instance is here, and answer, until cancelled; then note that it is gone."""
        try:
            while True:
                self._rung.clear()
                try:
                    await self._attend()
                except DatabaseUnavailable:
                    pass  # the next note says it again
                except Exception:
                    log.exception("a roll call was not answered")  # no terminal waits for it
                await asyncio.sleep(LOOK_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(NOTE_SECONDS - LOOK_SECONDS):
                        await self._rung.wait()
        finally:
            # Where it is not let go the others see it fall silent: that is no fault to end with.
            with suppress(TimeoutError, DatabaseUnavailable, psycopg.Error):
                async with asyncio.timeout(FORGET_SECONDS):
                    await self._ask("select pos.forget_instance(%s)", self.instance_id)

    async def _attend(self) -> None:
        note = "select pos.note_instance(%s, %s, %s, %s)"
        [(called,)] = await self._ask(note, self.instance_id, self._host, self.port, __version__)
        if not called:
            return
        rows = await self._ask(
            "select call_id, kind, restaurant_id, client_id, terminal, come_back from pos.open_calls(%s)",
            self.instance_id,
        )
        for call in (_Call(*row) for row in rows):
            if call.call_id not in self._answers:
                self._answers[call.call_id] = json.dumps(await self._answer(call), ensure_ascii=False)
                if len(self._answers) > KEPT:
                    self._answers.popitem(last=False)
            answer = self._answers[call.call_id]
            await self._ask("select pos.answer_call(%s, %s, %s::jsonb)", call.call_id, self.instance_id, answer)
            del self._answers[call.call_id]  # of 20,000 terminals it has megabytes

    async def _ask(self, query: LiteralString, *parameters: object) -> list[Any]:
        return await self._database.read(query, parameters, QUICK_SECONDS, live=True)

    async def _answer(self, call: _Call) -> list[dict[str, object]] | dict[str, object]:
        if call.kind == "board":
            return await self._board.here(call.restaurant_id)
        found, meant = [], []
        for number, connection in enumerate(list(self._connections.open), 1):
            if call.means(connection):
                session = connection.session
                found.append(seen(session, self._connections.hub.rooms.get(session.restaurant_id)))
                meant.append(connection)
            if number % TURN == 0:
                await asyncio.sleep(0)
        if call.kind == "kick":
            await asyncio.gather(*(_kick(one, come_back=call.come_back) for one in meant))
            if meant:
                log.info("terminals are closed by hand", extra=fields(terminals=len(meant)))
        return found


async def _kick(connection: Leaving, *, come_back: bool) -> None:
    if come_back:
        await connection.leave(COME_BACK_SECONDS, COME_BACK)
    else:
        connection.session.role = NOBODY  # what it has sent and is not read yet counts no more
        connection.session.close(POLICY, KICKED)
