"""A terminal that gives nothing up: it repeats what is not answered, and keeps a queue while it is away."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import psycopg
import websockets

from tests.terminals import Row, Terminal
from tests.waiting import until


class Mutation(NamedTuple):
    """What a terminal asks for, under the id it keeps however often it asks."""

    id: str
    type: str
    data: Row


class PatientTerminal(Terminal):
    """A terminal that repeats what is not answered, by its id and to any relay, and keeps a queue while it is away."""

    def __init__(self, url: str, client_id: str) -> None:
        super().__init__(url, client_id)
        self.away = False
        self.queue: list[Mutation] = []
        self.done: list[tuple[Mutation, Row]] = []  # each with its ACK's data
        self._numbers = itertools.count(1)

    async def do(self, type_: str, data: Row) -> Row:
        """Have something done and return its ACK's data; while away, queue it and return nothing."""
        mutation = Mutation(f"{self.client_id}-{next(self._numbers)}", type_, data)
        if self.away:
            self.queue.append(mutation)
            return {}
        return await self.deliver(mutation)

    async def update(self, type_: str, action: str, row: object, **_: Any) -> Row:
        return await self.do(type_, {"action": action, "data": row})

    async def deliver(self, mutation: Mutation, within: float = 20.0) -> Row:
        """Ask until it is acknowledged, and return the ACK's data; a refusal fails the test."""

        async def ask_once() -> Row:
            try:
                answer = await self.ask(mutation.type, mutation.data, id=mutation.id)
            except websockets.ConnectionClosed:
                return {}
            assert answer["type"] == "ACK" or answer["data"]["retryable"], (mutation, answer)
            ack: Row = answer["data"] if answer["type"] == "ACK" else {}
            return ack

        ack = await until(ask_once, within, f"an ACK of {mutation.id}")
        self.done.append((mutation, ack))
        return ack

    async def leave(self) -> None:
        """Be cut off; from now on everything is queued."""
        self.away = True
        await self.cut()

    async def come_back(self, url: str) -> None:
        """Connect to any relay, resume from the cursor, and send what has gathered."""
        await self.cut()
        self.url = url
        await self.connect()
        while self.queue:
            await self.deliver(self.queue.pop(0))
        self.away = False

    async def repeat_everything(self) -> None:
        """Send once more what was acknowledged; each mutation gets its first answer."""
        for mutation, ack in [*self.done]:
            assert await self.deliver(mutation) == ack, mutation


def acknowledged_in_database(conninfo: str, *found: PatientTerminal) -> None:
    """What was acknowledged stands in the ledger, with the revision of its ACK."""
    with psycopg.connect(conninfo) as connection:
        ledger = connection.execute("select client_id, mutation_id, revision from pos.mutations").fetchall()
    for one in found:
        assert {(one.client_id, mutation.id, ack["revision"]) for mutation, ack in one.done} <= set(ledger)
