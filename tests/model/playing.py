"""Plays a history on real relays and on the model, and compares the two after every event."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

import psycopg
from psycopg import Connection

from tests.model.by_hand import Impossible, Statement
from tests.model.comparing import (
    Differs,
    Heard,
    answered,
    changed,
    compare,
    file,
    interleavings,
    is_change,
    log_after,
    text_of,
)
from tests.model.restaurant import Asked, Change, Restaurant, Row, exact
from tests.model.rules import apply
from tests.model.steps import Again, Event, Prune, Reconnect, Send, Serve, Step, Type, served
from tests.terminals import Terminal, follows_the_log
from tests.waiting import until

NAMES = ("one", "two", "three")
HELD = ("epoch", "revision", "tables", "menu", "categories", "settings", "orders")
KINDS = {"UPDATE_TABLE": "tables", "UPDATE_ORDER": "orders", "UPDATE_MENU": "menu"}
FOR_PEOPLE = ("message", "retryable")  # in an ERROR; the second is looked at apart
AGE: dict[str, LiteralString] = {
    "log": "update pos.sync_log set created_at = now() - interval '10 days' where restaurant_id = %s",
    "mutations": "update pos.mutations set created_at = now() - interval '10 days' where restaurant_id = %s",
    "tombstones": "update pos.tombstones set deleted_at = now() - interval '10 days' where restaurant_id = %s",
}


@dataclass
class Till:
    """A terminal, what it held after earlier events, and what must have been passed on to it."""

    terminal: Terminal
    memory: list[Terminal] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    checked: int = 0  # so many of the changes it applied were found in the log


class Play:
    """One history in a restaurant of its own."""

    def __init__(self, sql: Connection[Any], urls: Sequence[str], slug: str) -> None:
        [row] = sql.execute(
            "insert into pos.restaurants (slug, name) values (%s, 'R') returning restaurant_id", (slug,)
        ).fetchall()
        self.mutations = 0
        self.met: Counter[str] = Counter()  # the answers, and rules that leave none
        self._restaurant_id: int = row[0]
        self._sql, self._slug = sql, slug
        self._urls = [f"{url}?restaurant={slug}" for url in urls]
        self._tills = [Till(Terminal(self._urls[n % len(urls)], name)) for n, name in enumerate(NAMES)]
        self._model = Restaurant()
        self._sent: list[Asked] = []  # with an id
        self._numbers = itertools.count(1)
        self._story: list[str] = []

    async def play(self, history: Iterable[Event]) -> None:
        """Let it all happen. Raises Differs with the story so far."""
        try:
            for till in self._tills:
                await till.terminal.connect()
            for event in history:
                await self._happen(event)
            if self._model.floor == 1:
                follows_the_log(self._sql.info.dsn, *(till.terminal for till in self._tills), slug=self._slug)
        except (AssertionError, TimeoutError) as error:
            raise Differs("\n".join([*self._story, str(error) or repr(error)])) from None
        finally:
            await asyncio.gather(*(till.terminal.cut() for till in self._tills))

    async def _happen(self, event: Event) -> None:
        passed_on: list[tuple[str, Row]] = []
        match event:
            case Send():
                passed_on = await self._send(event)
            case Type():
                self._type(event)
            case Reconnect():
                await self._reconnect(event)
            case Prune():
                self._prune(event.what)
        await self._agree(passed_on)

    # Mutations

    async def _send(self, event: Send) -> list[tuple[str, Row]]:
        """Each sender sends its mutations at once and in order, all senders at the same time."""
        senders = [(self._tills[who].terminal, self._mutations(who, steps)) for who, steps in event.by]
        together = len(senders) > 1
        self._story += [f"{text_of(one)}{' at once' if together else ''}" for _, sent in senders for one in sent]
        heard = await asyncio.gather(*(self._tell(terminal, sent) for terminal, sent in senders))
        log = log_after(self._sql, self._restaurant_id, self._model.head)
        trouble: list[str] = []
        met: list[str] = []
        # What was sent at once may have been done in any order: in one of them all must be as the model says.
        for order in interleavings([[(place, one) for one in sent] for place, (_, sent) in enumerate(senders)]):
            after = self._model.fork()
            due: list[Heard] = [({}, []) for _ in senders]
            met = []
            for place, one in order:
                reply = apply(after, one)
                met.append(f"{reply[1].get('code', 'ACK')} {reply[1].get('field', '')}".strip())
                if one.id is not None or reply[0] == "ERROR" or one.type == "NEXT_ORDER_ID":
                    file(due[place], one.id, reply)
            trouble = answered(due, heard) + changed(after.log[self._model.head :], log)
            if not trouble:
                break
        if trouble:
            raise Differs("\n".join(trouble))
        self.mutations += sum(len(sent) for _, sent in senders)
        self.met.update(met)
        self.met["order ids replaced"] += len(after.replaced) - len(self._model.replaced)
        self.met["guests moved"] += after.moves - self._model.moves
        passed_on = after.messages[len(self._model.messages) :]
        self._model = after
        return passed_on

    def _mutations(self, who: int, steps: Sequence[Step]) -> list[Asked]:
        """What a terminal sends: wishes get their ids and versions now."""
        found = []
        for step in steps:
            if isinstance(step, Again):
                if self._sent:
                    first = self._sent[-1 - step.back % len(self._sent)]
                    found.append(replace(first, body={**first.body, "other": step.back}) if step.other else first)
                continue
            wish = served(step, NAMES[who], self._model) if isinstance(step, Serve) else step
            if wish is not None:
                id = f"m{next(self._numbers)}" if wish.named else None
                version = None if wish.version is None else max(0, self._version(wish.type, wish.body) + wish.version)
                found.append(Asked(NAMES[who], wish.type, wish.action, wish.body, id, version, wish.fault, wish.bare))
                self._sent += found[-1:] if id is not None else []
        return found

    def _version(self, type_: str, body: Row) -> int:
        if type_ == "UPDATE_SETTINGS":
            return self._model.settings_version
        kind = KINDS.get(type_, "tables") if "id" in body else "categories"
        held = self._model.rows[kind].get(body.get("id") or body.get("name", ""))
        return held.version if held else 0

    async def _tell(self, terminal: Terminal, sent: Sequence[Asked]) -> Heard:
        """Send mutations in one go, and return what was answered to them."""
        before = len(terminal.received)
        for one in sent:
            await terminal.send_text(text_of(one))
        await terminal.sync()
        heard: Heard = ({}, [])
        for found in terminal.received[before:]:
            if found["type"] in ("ACK", "ERROR"):
                if found["data"].get("retryable"):
                    raise Differs(f"{terminal.client_id} was told {found}")
                data = {name: value for name, value in found["data"].items() if name not in FOR_PEOPLE}
                file(heard, found.get("ref"), (found["type"], data))
        return heard

    # What is no mutation

    def _type(self, event: Type) -> None:
        """A DBA's transaction."""
        self._story += [f"psql: {one.told(self._restaurant_id)}" for one in event.statements]
        self._story.append(f"psql: {'commit' if event.commit else 'rollback'}")
        refusal = ""
        try:
            with self._sql.transaction():
                for statement in event.statements:
                    self._sql.execute(statement.sql, (*statement.arguments, self._restaurant_id))
                if not event.commit:
                    raise psycopg.Rollback
        except psycopg.Error as error:
            if not isinstance(error, psycopg.IntegrityError) and not (error.sqlstate or "").startswith("RL"):
                raise
            refusal = str(error)
        log = log_after(self._sql, self._restaurant_id, self._model.head)
        after = self._typed(event.statements, log)
        if (after is None) != bool(refusal):
            raise Differs(f"it is {'im' * (after is None)}possible, and PostgreSQL says {refusal!r}")
        if after is None or not event.commit:
            after = self._model
        if trouble := changed(after.log[self._model.head :], log):
            raise Differs("\n".join(trouble))
        self._model = after

    def _typed(self, statements: Sequence[Statement], log: list[Change]) -> Restaurant | None:
        """The model after a transaction; a statement's rows are in the log as PostgreSQL met them."""
        after = self._model.fork()
        try:
            for statement in statements:
                rest = log[after.head - self._model.head :]
                places = {
                    str(change.data.get("id") or change.data.get("name")): place
                    for place, change in reversed([*enumerate(rest)])
                }
                statement.apply(after, lambda key, places=places: places.get(key, 0))  # type: ignore[misc]
        except Impossible:
            return None
        return after

    async def _reconnect(self, event: Reconnect) -> None:
        """Cut a terminal's connection; it comes back to a relay with a cursor, and is answered by that."""
        till = self._tills[event.terminal]
        self._story.append(f"{till.terminal.client_id} comes to relay {event.relay}, its cursor: {event.cursor}")
        await till.terminal.cut()
        held = till.terminal
        if event.cursor == "old" and till.memory:
            held = till.memory[-min(event.back, len(till.memory))]
        new = _as_it_stands(held, self._urls[event.relay])
        due = {"changes"}
        if event.cursor == "none":
            new.epoch, due = None, {"first-sync"}
        elif event.cursor == "ahead":
            new.revision, due = self._model.head + event.back, {"ahead"}
        elif event.cursor == "elsewhere":
            new.epoch, due = "elsewhere", {"epoch-changed"}
        elif new.revision + 1 < self._model.floor:
            due = {"changes", "too-old"}  # what the database has let go of, a relay may still have in its window
        asked = new.revision
        till.terminal, till.checked = new, 0
        till.messages.clear()
        await new.connect()
        [response] = [message["data"] for message in new.received if message["type"] == "SYNC_RESPONSE"]
        mode, start = response.get("reason", response["mode"]), response.get("from", asked)
        # A snapshot may be one that was read before: what followed it comes as changes.
        if mode not in due or start != asked or response["revision"] > self._model.head:
            raise Differs(f"at {self._model.head} it is answered with {mode} from {start} to {response['revision']}")

    def _prune(self, what: str) -> None:
        """Let upkeep take everything of a kind, after it has grown old."""
        self._story.append(f"{what} is pruned")
        self._sql.execute(AGE[what], (self._restaurant_id,))
        self._sql.execute("select pos.prune('7 days', 1000000)")
        self._sql.execute("select pos.prune_log(%s - 1, '7 days', 1000000, 1000000)", (self._restaurant_id,))
        # The newest change stays. Of today again, or the pruning of another play would take it later.
        self._sql.execute("update pos.sync_log set created_at = now() where restaurant_id = %s", (self._restaurant_id,))
        model = self._model
        match what:
            case "log":
                model.floor = max(model.head, 1)
            case "mutations":
                model.ledger.clear()
            case "tombstones":
                model.graves = {kind: {} for kind in model.graves}

    # What must hold after every event

    async def _agree(self, passed_on: Iterable[tuple[str, Row]]) -> None:
        """The model, SQL and every terminal have the same state, field by field."""
        compare(self._sql, self._restaurant_id, self._model)
        due = exact(self._model.state)
        for sender, body in passed_on:
            for till in self._tills:
                if till.terminal.client_id != sender and body.get("to") in (None, till.terminal.client_id):
                    till.messages.append(f"{sender}: {exact(body)}")
        for till in self._tills:
            one = till.terminal
            await one.reaches(self._model.head)
            if one.faults or one.revision != self._model.head:
                raise Differs(f"{one.client_id} has {one.revision} and complains: {one.faults}")
            if exact(one.state) != due:
                raise Differs(f"{one.client_id} shows\n   {exact(one.state)}\nand not\n   {due}")
            for _, revision, message in one.applied[till.checked :]:
                if not is_change(message, self._model.log[revision - 1]):
                    raise Differs(f"{one.client_id} applied {message}")
            till.checked = len(one.applied)
            await until(lambda: len(_passed_on(one)) >= len(till.messages), what=f"{till.messages}")  # noqa: B023
            # Sorted by their senders only: those of two that spoke at once may come in either order.
            if sorted(_passed_on(one), key=_sender) != sorted(till.messages, key=_sender):
                raise Differs(f"{one.client_id} was passed on {_passed_on(one)}, not {till.messages}")
            till.memory.append(_as_it_stands(one, one.url))


def _passed_on(terminal: Terminal) -> list[str]:
    return [f"{m['clientId']}: {exact(m['data'])}" for m in terminal.received if m["type"] == "MESSAGE"]


def _sender(passed_on: str) -> str:
    return passed_on.partition(":")[0]


def _as_it_stands(terminal: Terminal, url: str) -> Terminal:
    """A terminal of the same name that holds the same, and is not connected."""
    copy = Terminal(url, terminal.client_id)
    for name in HELD:
        setattr(copy, name, deepcopy(getattr(terminal, name)))
    return copy
