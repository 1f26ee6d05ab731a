"""Plays a history on real relays and on the model, and compares the two after every step."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import Connection

from tests.model.by_hand import Impossible, Statement
from tests.model.restaurant import Asked, Change, Reply, Restaurant, Row, exact
from tests.model.steps import Again, Event, Prune, Reconnect, Send, Step, Type
from tests.terminals import Terminal
from tests.waiting import until

NAMES = ("one", "two", "three")
IGNORED = ("message", "retryable")  # words for people, and what is looked at apart
OLD = "interval '10 days'"

T = TypeVar("T")
Sent = tuple[Terminal, list[Asked]]
Heard = tuple[dict[str, list[Reply]], list[str]]  # by the id that was answered; and what came without one


class Differs(AssertionError):
    """The relay and the model do not agree."""


@dataclass
class Till:
    """A terminal's connection, its number of messages that were looked at, and states it once held."""

    terminal: Terminal
    memory: list[Terminal] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)  # what it must have been passed on


class Play:
    """One history in a restaurant of its own."""

    def __init__(self, sql: Connection[Any], urls: Sequence[str], slug: str) -> None:
        self.sql, self.slug = sql, slug
        self.urls = [f"{url}?restaurant={slug}" for url in urls]
        [row] = sql.execute(
            "insert into pos.restaurants (slug, name) values (%s, 'R') returning restaurant_id", (slug,)
        ).fetchall()
        self.restaurant_id: int = row[0]
        self.model = Restaurant()
        self.sent: list[Asked] = []  # with an id
        self.mutations = 0
        self.story: list[str] = []
        self.tills: list[Till] = []
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        for number, name in enumerate(NAMES):
            till = Till(Terminal(self.urls[number % len(self.urls)], name))
            self.tills.append(till)
            await till.terminal.connect()

    async def close(self) -> None:
        await asyncio.gather(*(till.terminal.cut() for till in self.tills))

    async def play(self, history: Iterable[Event]) -> None:
        """Let it all happen. Raises AssertionError with the story so far where relay and model differ."""
        try:
            await self.open()
            for event in history:
                match event:
                    case Send(by):
                        await self.mutations_of(*by)
                    case Type(statements, commit):
                        await self.by_hand(statements, commit)
                    case Reconnect():
                        await self.reconnect(event)
                    case Prune(what):
                        await self.prune(what)
        except (AssertionError, TimeoutError) as error:
            raise Differs("\n".join(["", *self.story, f"{error!r}" if isinstance(error, TimeoutError) else f"{error}"])) from None
        finally:
            await self.close()

    # Steps

    async def mutations_of(self, *senders: tuple[int, Sequence[Step]]) -> None:
        """Each sender sends its mutations at once and in order, all senders at the same time."""
        sent: list[Sent] = []
        for number, steps in senders:
            terminal = self.tills[number].terminal
            asked = [one for step in steps if (one := self._asked(terminal, step)) is not None]
            sent.append((terminal, asked))
        self.story += [f"{told(one)}" for _, some in sent for one in some]
        heard = await asyncio.gather(*(self._tell(terminal, asked) for terminal, asked in sent))
        log = self._log(self.model.head)
        trouble: list[str] = []
        for order in interleavings([[(number, one) for one in asked] for number, (_, asked) in enumerate(sent)]):
            after = self.model.fork()
            due: list[Heard] = [({}, []) for _ in sent]
            for number, one in order:
                _file(due[number], one, after.apply(one))
            trouble = differences(due, heard, after.log[self.model.head :], log)
            if not trouble:
                break
        if trouble:
            raise Differs("\n".join(trouble))
        self.mutations += sum(len(asked) for _, asked in sent)
        new_messages = after.messages[len(self.model.messages) :]
        self.model = after
        await self.agree(new_messages)

    async def by_hand(self, statements: Sequence[Statement], commit: bool) -> None:
        """A transaction of a DBA."""
        refusal = ""
        self.story += [f"SQL: {one.sql % (*map(repr, one.arguments), self.restaurant_id)}" for one in statements]
        self.story.append("SQL: commit" if commit else "SQL: rollback")
        try:
            with self.sql.transaction():
                for statement in statements:
                    self.sql.execute(statement.sql, (*statement.arguments, self.restaurant_id))
                if not commit:
                    raise psycopg.Rollback
        except (psycopg.errors.IntegrityError, psycopg.errors.RaiseException) as error:
            refusal = str(error)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("RL"):
                raise
            refusal = str(error)
        log = self._log(self.model.head)
        after, done = self.model.fork(), True
        try:
            for statement in statements:
                rest = log[after.head - self.model.head :]
                places = {_key(change): place for place, change in reversed([*enumerate(rest)])}
                statement.apply(after, lambda key, places=places: places.get(key, 0))  # type: ignore[misc]
        except Impossible:
            done = False
        if done != (not refusal):
            raise Differs(f"{[*statements]} {'is possible' if done else 'is impossible'}, and SQL says {refusal!r}")
        if done and commit:
            trouble = differences([], [], after.log[self.model.head :], log)
            if trouble:
                raise Differs("\n".join([f"by hand {[*statements]}", *trouble]))
            self.model = after
        elif log:
            raise Differs(f"{log} in the log after a rollback")
        await self.agree()

    async def reconnect(self, event: Reconnect) -> None:
        """Cut a terminal's connection; it comes back to another relay with a cursor."""
        till, cursor, back = self.tills[event.terminal], event.cursor, event.back
        self.story.append(f"{till.terminal.client_id} reconnects to relay {event.relay}, cursor {cursor} {back}")
        await till.terminal.cut()
        till.messages.clear()
        held = till.terminal
        if cursor == "old" and till.memory:
            held = till.memory[-min(back, len(till.memory))]
        new = Terminal(self.urls[event.relay], held.client_id)
        for name in ("epoch", "revision", "tables", "menu", "categories", "settings", "orders"):
            setattr(new, name, deepcopy(getattr(held, name)))
        due: tuple[set[str], int] = ({"changes"}, new.revision)
        if cursor == "none":
            new.epoch, due = None, ({"first-sync"}, 0)
        elif cursor == "ahead":
            new.revision, due = self.model.head + back, ({"ahead"}, 0)
        elif cursor == "elsewhere":
            new.epoch, due = "elsewhere", ({"epoch-changed"}, 0)
        elif new.revision + 1 < self.model.floor:
            # What the database has let go of, a relay may still have in its window.
            due = ({"changes", "too-old"}, new.revision)
        till.terminal = new
        await new.connect()
        [response] = [message["data"] for message in new.received if message["type"] == "SYNC_RESPONSE"]
        mode = response.get("reason", response["mode"])
        # A snapshot may be one that was read before: what followed it comes as changes.
        if mode not in due[0] or response["revision"] > self.model.head or response.get("from", due[1]) != due[1]:
            raise Differs(f"{cursor} was answered with {mode} from {response.get('from')} to {response['revision']}")
        await self.agree()

    async def prune(self, what: str) -> None:
        """Let upkeep take everything of a kind that is old, after it has grown old."""
        age: dict[str, LiteralString] = {
            "log": "update pos.sync_log set created_at = now() - interval '10 days' where restaurant_id = %s",
            "mutations": "update pos.mutations set created_at = now() - interval '10 days' where restaurant_id = %s",
            "tombstones": "update pos.tombstones set deleted_at = now() - interval '10 days' where restaurant_id = %s",
        }
        self.story.append(f"pruned: {what}")
        self.sql.execute(age[what], (self.restaurant_id,))
        self.sql.execute("select pos.prune('7 days', '7 days', 1000000)")
        if what == "log":
            self.model.old = self.model.head
        elif what == "mutations":
            self.model.ledger.clear()
        else:
            self.model.graves = {kind: {} for kind in self.model.graves}
        # Each prunes all that is old, but the newest change stays.
        self.model.floor = max(self.model.floor, min(self.model.old + 1, self.model.head))
        await self.agree()

    # Telling and hearing

    def _asked(self, terminal: Terminal, step: Step) -> Asked | None:
        if isinstance(step, Again):
            if not self.sent:
                return None
            first = self.sent[-1 - step.back % len(self.sent)]
            return replace(first, body={**first.body, "other": step.back}) if step.other else first
        id = f"m{next(self._numbers)}" if step.named else None
        kind = {"UPDATE_TABLE": "tables", "UPDATE_ORDER": "orders", "UPDATE_MENU": "menu"}.get(step.type, "")
        if str(step.action).endswith("_category"):
            kind = "categories"
        version = None
        if step.version is not None and step.type.startswith("UPDATE_"):
            held = self.model.rows.get(kind, {}).get(step.body.get("id") or step.body.get("name", ""))
            now = held.version if held else 0 if kind else self.model.settings_version
            version = max(0, now + step.version)
        asked = Asked(terminal.client_id, step.type, step.action, step.body, id, version, step.fault)
        if id is not None:
            self.sent.append(asked)
        return asked

    async def _tell(self, terminal: Terminal, asked: Sequence[Asked]) -> Heard:
        """Send mutations in one go, and what was answered to them."""
        before = len(terminal.received)
        for one in asked:
            await terminal.send_text(message(one))
        await terminal.sync()
        heard: Heard = ({}, [])
        for found in terminal.received[before:]:
            if found["type"] in ("ACK", "ERROR"):
                if found["type"] == "ERROR" and found["data"]["retryable"]:
                    raise Differs(f"{terminal.client_id} was told {found}")
                data = {key: value for key, value in found["data"].items() if key not in IGNORED}
                _file_under(heard, found.get("ref"), (found["type"], data))
        return heard

    # Comparing

    async def agree(self, messages: Iterable[tuple[str, str | None, str]] = ()) -> None:
        """The model, SQL and every terminal have the same state, field by field."""
        from tests.model.comparing import compare

        compare(self.sql, self.restaurant_id, self.model)
        due = exact(self.model.state)
        for sender, to, text in messages:
            for till in self.tills:
                if till.terminal.client_id != sender and to in (None, till.terminal.client_id):
                    till.messages.append(f"{sender}: {text}")
        for till in self.tills:
            one = till.terminal
            await one.reaches(self.model.head)
            if one.faults:
                raise Differs(f"{one.client_id}: {one.faults}")
            if exact(one.state) != due or one.revision != self.model.head:
                raise Differs(f"{one.client_id} shows {exact(one.state)}\nand not {due}")
            wrong = [entry for entry in one.applied if not self._is_in_the_log(entry[1], entry[2])]
            if wrong:
                raise Differs(f"{one.client_id} applied {wrong}")
            await until(lambda: _passed_on(one) >= till.messages, what=f"{till.messages} at {one.client_id}")  # noqa: B023
            if _passed_on(one) != till.messages:
                raise Differs(f"{one.client_id} was passed on {_passed_on(one)}, not {till.messages}")
            one.applied.clear()
            if not till.memory or till.memory[-1].revision != one.revision:
                till.memory.append(_as_it_stands(one))

    def _is_in_the_log(self, revision: int, found: Row) -> bool:
        change = self.model.log[revision - 1]
        data = change.data if change.type == "UPDATE_SETTINGS" else {"action": change.action, "data": change.data}
        return (found["type"], exact(found["data"]), found["clientId"]) == (change.type, exact(data), change.client)

    def _log(self, after: int) -> list[Change]:
        rows = self.sql.execute(
            "select revision, type, action, data::text, client_id from pos.sync_log"
            " where restaurant_id = %s and revision > %s order by revision",
            (self.restaurant_id, after),
        ).fetchall()
        if [row[0] for row in rows] != [*range(after + 1, after + 1 + len(rows))]:
            raise Differs(f"the log goes on after {after} with {[row[0] for row in rows]}")
        return [Change(row[1], row[2], json.loads(row[3], parse_float=Decimal), row[4]) for row in rows]


def interleavings(queues: list[list[T]]) -> Iterable[list[T]]:
    """Every order in which queues can have been served, each one's own order kept."""
    if not any(queues):
        yield []
    for number, queue in enumerate(queues):
        if queue:
            rest = [one[1:] if place == number else one for place, one in enumerate(queues)]
            for order in interleavings(rest):
                yield [queue[0], *order]


def differences(due: Sequence[Heard], heard: Sequence[Heard], expected: list[Change], log: list[Change]) -> list[str]:
    """What is not as the model says, for people; empty where nothing is."""
    found = []
    for model, relay in zip(due, heard, strict=True):
        for ref in sorted(model[0].keys() | relay[0].keys()):
            wanted, got = model[0].get(ref, []), relay[0].get(ref, [])
            if exact(wanted) != exact(got):
                found.append(f"to {ref} the model answers {exact(wanted)}\n   and the relay {exact(got)}")
        if sorted(model[1]) != sorted(relay[1]):
            found.append(f"without an id the model answers {sorted(model[1])}\n   and the relay {sorted(relay[1])}")
    if exact(expected) != exact(log):
        found.append("the model's changes:\n" + "\n".join(f"   {exact(change)}" for change in expected))
        found.append("the relay's changes:\n" + "\n".join(f"   {exact(change)}" for change in log))
    return found


def _file(heard: Heard, asked: Asked, reply: Reply) -> None:
    if asked.id is not None or reply[0] == "ERROR" or asked.type == "NEXT_ORDER_ID":
        _file_under(heard, asked.id, reply)


def _file_under(heard: Heard, ref: str | None, reply: Reply) -> None:
    if ref is None:
        heard[1].append(exact(reply))
    else:
        heard[0].setdefault(ref, []).append(reply)


def _passed_on(terminal: Terminal) -> list[str]:
    return [f"{m['clientId']}: {exact(m['data'])}" for m in terminal.received if m["type"] == "MESSAGE"]


def _key(change: Change) -> str:
    row: Row = change.data
    return str(row.get("id") or row.get("name"))


def _as_it_stands(terminal: Terminal) -> Terminal:
    copy = Terminal(terminal.url, terminal.client_id)
    for name in ("epoch", "revision", "tables", "menu", "categories", "settings", "orders"):
        setattr(copy, name, deepcopy(getattr(terminal, name)))
    return copy


def message(asked: Asked) -> str:
    """A mutation's text on the wire."""
    data: Row = asked.body
    if asked.type.startswith("UPDATE_") and asked.type != "UPDATE_SETTINGS":
        data = {"action": asked.action, "data": asked.body}
    envelope = {"type": asked.type, "data": data, "clientId": asked.client, "id": asked.id, "ifVersion": asked.if_version}
    return exact({key: value for key, value in envelope.items() if value is not None})


def told(asked: Asked) -> str:
    return f"{asked.client}: {message(asked)}"
