"""Roll calls, for people: which terminals are connected to which relay, or close some, by way of the database alone."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from . import restaurants, schema
from .errors import RelayError, TerminalError

SECONDS = 10.0  # for all of it
ANSWER_SECONDS = 2.0  # for every relay that is not silent to answer
POLL_SECONDS = 0.05

# Each relay listens on one connection, whatever its version is (pools.listening).
LISTENING: LiteralString = """
    select count(*) from pg_catalog.pg_stat_activity as a
    where a.datname = current_database() and a.application_name = 'relay listen'"""

Terminal = dict[str, Any]  # as pos.call_answers.terminals has it; `instance` says where it is connected


@dataclass(frozen=True)
class Wanted:
    """Which terminals are meant; None: whatever it is. `instance` is the id of a relay or its HOST:PORT."""

    restaurant: str | None = None
    client_id: str | None = None
    terminal: str | None = None
    instance: str | None = None


@dataclass(frozen=True)
class Instance:
    """A relay: `silent` where it has not said for 15 seconds that it is here, `answered` whether it did this call."""

    instance_id: str
    host: str
    port: int
    version: str
    started_at: datetime
    seen_at: datetime
    silent: bool
    answered: bool

    @property
    def name(self) -> str:
        """For people, and for `Wanted.instance`."""
        return f"{self.host}:{self.port}"

    @property
    def missing(self) -> bool:
        """Whether it is alive by what it says, and did not answer."""
        return not self.answered and not self.silent


@dataclass
class Roll:
    """What the relays answered: every relay of the database, and the terminals that are meant."""

    instances: list[Instance] = field(default_factory=list)
    terminals: list[Terminal] = field(default_factory=list)
    strangers: int = 0  # relays that listen and keep no roll: those of schema version 2 know of none


async def call(conninfo: str, wanted: Wanted) -> Roll:
    """Which terminals are connected, by restaurant, name and client id.

    Raises UnknownRestaurant, RelayError where there is no such relay, DatabaseUnavailable.
    """
    return await _ask(conninfo, "list", wanted, come_back=False)


async def kick(conninfo: str, wanted: Wanted, *, come_back: bool) -> Roll:
    """Close the terminals of a client id or a name, on every relay; those that were closed.

    They stay away until a person starts them again (1008); with `come_back` they connect again at once (1012). Raises
    TerminalError where several restaurants have such a terminal and none is named, else as `call` does.
    """
    if wanted.restaurant is None:
        found = await call(conninfo, wanted)
        slugs = sorted({one["restaurant"] for one in found.terminals})
        if not slugs:
            return found
        if len(slugs) > 1:
            raise TerminalError(f"several restaurants have such a terminal: {', '.join(slugs)}; name --restaurant")
        wanted = replace(wanted, restaurant=slugs[0])
    return await _ask(conninfo, "kick", wanted, come_back=come_back)


async def _ask(conninfo: str, kind: str, wanted: Wanted, *, come_back: bool) -> Roll:
    async with schema.connected(conninfo, SECONDS) as connection:
        restaurant_id = None if wanted.restaurant is None else await restaurants.find(connection, wanted.restaurant)
        query: LiteralString = "select pos.call_terminals(%s, %s, %s, %s, %s, %s)"
        parameters = (kind, restaurant_id, wanted.client_id, wanted.terminal, wanted.instance, come_back)
        try:
            [(call_id,)] = await _rows(connection, query, parameters)
        except psycopg.Error as error:
            if (error.sqlstate or "").startswith("RL"):
                raise RelayError(f"{error.diag.message_primary}. {error.diag.message_hint}") from None
            raise
        roll = await _gather(connection, call_id)
        if wanted.instance is None:
            [(listening,)] = await _rows(connection, LISTENING, ())
            roll.strangers = max(0, listening - len(roll.instances))
        return roll


async def _gather(connection: AsyncConnection[TupleRow], call_id: uuid.UUID) -> Roll:
    roll, known = Roll(), set[str]()
    until = time.monotonic() + ANSWER_SECONDS
    while True:
        rows = await _rows(
            connection,
            """select instance_id, host, port, version, started_at, seen_at, silent, answered, terminals
               from pos.read_call(%s, %s)""",
            (call_id, list(known)),
        )
        roll.instances = [Instance(*row[:-1]) for row in rows]
        for instance, terminals in zip(roll.instances, (row[-1] for row in rows), strict=True):
            if terminals is not None:
                known.add(instance.instance_id)
                roll.terminals += [{**one, "instance": instance.name} for one in terminals]
        if not any(one.missing for one in roll.instances) or time.monotonic() > until:
            roll.terminals.sort(key=lambda one: (one["restaurant"], one["name"], one["clientId"]))
            return roll
        await asyncio.sleep(POLL_SECONDS)


async def _rows(
    connection: AsyncConnection[TupleRow], query: LiteralString, parameters: Sequence[object]
) -> list[TupleRow]:
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall()
