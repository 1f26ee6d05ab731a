"""A restaurant by PROTOCOL.md, in plain Python: the second opinion on what a relay and its database do."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, Self

Row = dict[str, Any]
Reply = tuple[str, Row]  # "ACK" or "ERROR", and its data without the words for people

KINDS = {
    "tables": ("UPDATE_TABLE", "add", "update", "delete"),
    "menu": ("UPDATE_MENU", "add_item", "update_item", "delete_item"),
    "categories": ("UPDATE_MENU", "add_category", "add_category", "delete_category"),
    "orders": ("UPDATE_ORDER", "add", "update", ""),
}
NEVER_STORED = {"version", "revision", "action"}
WHOLE = {"number", "seats", "tableNumber"}
ARRAYS = {"orderItems", "items"}


def exact(value: object) -> str:
    """Text that is equal for equal values, digit for digit: 5 is not 5.0, and 1e2 is 100."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{exact(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(exact, value)) + "]"
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value)


class Refused(Exception):
    """What an ERROR says."""

    def __init__(self, code: str, field: str, **details: object) -> None:
        self.data: Row = {"code": code, "field": field, **details}


@dataclass(frozen=True)
class Held:
    """A row that is there."""

    row: Row  # without its version
    version: int
    revision: int  # of its last change
    maker: str  # the clientId that made it

    @property
    def shown(self) -> Row:
        return {**self.row, "version": self.version}


class Change(NamedTuple):
    """A row of the log; `data` is the row as terminals see it."""

    type: str
    action: str
    data: Row
    client: str


@dataclass(frozen=True)
class Asked:
    """A mutation. `fault` is what a body that nobody could accept is answered with; `bare` is a short form."""

    client: str
    type: str
    action: str | None
    body: Row
    id: str | None = None
    if_version: int | None = None
    fault: tuple[str, str] | None = None
    bare: bool = False

    @property
    def meaning(self) -> str:
        """Equal for what is the same message, whatever the order of its keys."""
        body = {} if self.action == "clear" or self.type == "NEXT_ORDER_ID" else stored(self.body)
        return exact([self.type, self.action, body, self.if_version])


def stored(body: Row) -> Row:
    return {key: value for key, value in body.items() if key not in NEVER_STORED}


def written(body: Row) -> Row:
    """A body's fields as a row holds them."""
    row = stored(body)
    for key in row.keys() & WHOLE:
        row[key] = None if row[key] is None else int(row[key])
    for key in row.keys() & ARRAYS:
        if isinstance(row[key], str):
            row[key] = json.loads(row[key], parse_float=Decimal)
    return row


class Restaurant:
    """What is there and what happened. `fork` is for trying out what may have happened."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Held]] = {kind: {} for kind in KINDS}
        self.graves: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}  # the versions of what was deleted
        self.settings: Row = {}
        self.settings_version = 0
        self.cleared = 0
        self.log: list[Change] = []
        self.floor = 1  # the oldest revision that is kept
        self.ledger: dict[tuple[str, str], tuple[str, Reply]] = {}
        self.messages: list[tuple[str, Row]] = []  # from whom, and what
        # Order ids: those that were ever given or seen, on which tables, and instead of which others.
        self.known: set[str] = set()
        self.carried: dict[str, dict[str, str]] = {}  # order id, table id: who put it there first
        self.replaced: list[Replaced] = []
        self.counters: dict[str, int] = {}
        self.moves = 0  # of guests who took their order to another table

    def fork(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update((name, _copied(value)) for name, value in self.__dict__.items())
        return other

    @property
    def head(self) -> int:
        return len(self.log)

    @property
    def state(self) -> Row:
        """What terminals show, in the form of tests.terminals.Terminal.state."""
        return {
            "tables": {id: held.shown for id, held in self.rows["tables"].items()},
            "menu": {id: held.shown for id, held in self.rows["menu"].items()},
            "categories": sorted(self.rows["categories"]),
            "settings": self.settings,
            "orders": {id: held.shown for id, held in self.rows["orders"].items() if held.revision > self.cleared},
        }

    def set_settings(self, settings: Row, client: str) -> None:
        if exact(settings) != exact(self.settings):
            self.settings = settings
            self.settings_version += 1
            self.log.append(Change("UPDATE_SETTINGS", "update", settings, client))

    def check_version(self, asked: Asked, held: Held | None) -> None:
        if asked.if_version is not None and asked.if_version != (held.version if held else 0):
            raise Refused("CONFLICT", "ifVersion", current=held.shown if held else None)

    # Rows

    def put(self, kind: str, key: str, row: Row, client: str) -> Row:
        """Make a row be so, and return the data of its ACK; the same again is no change."""
        held = self.rows[kind].get(key)
        if held is not None and exact(held.row) == exact(row):
            return {"revision": self.head, "version": held.version}
        version = (held.version if held else self.graves[kind].pop(key, 0)) + 1
        type_, add, update, _ = KINDS[kind]
        data = row if kind == "categories" else {**row, "version": version}
        self.log.append(Change(type_, update if held else add, data, client))
        self.rows[kind][key] = Held(row, version, self.head, held.maker if held else client)
        if kind == "orders":
            self.known.add(key)
        elif order_id := row.get("orderId"):
            self.known.add(order_id)
            self.carried.setdefault(order_id, {}).setdefault(key, client)
        return {"revision": self.head, "version": version}

    def delete(self, kind: str, key: str, asked: Asked) -> Row:
        held = self.rows[kind].get(key)
        if held is None:
            return {"revision": self.head}
        self.check_version(asked, held)
        return self.bury(kind, key, asked.client)

    def bury(self, kind: str, key: str, client: str) -> Row:
        version = self.rows[kind].pop(key).version + 1
        self.graves[kind][key] = version
        data = {"name": key} if kind == "categories" else {"id": key, "version": version}
        self.log.append(Change(KINDS[kind][0], KINDS[kind][3], data, client))
        return {"revision": self.head, "version": version}

    # Order ids

    def next_free(self, wanted: str) -> str:
        """The next order id of the same form that nobody has, had, or was told of."""
        stem, digits = re.fullmatch(r"(.*?)(\d*)", wanted).groups()  # type: ignore[union-attr]
        return self._count(stem, int(digits), len(digits)) if digits else self._count(f"{stem}-", 1, 1)

    def replace(self, wanted: str, client: str, table: str | None) -> str:
        """Give a terminal another id than the one it wants, and remember it."""
        given = self.next_free(wanted)
        self.replaced.append(Replaced(wanted, given, client, table))
        return given

    def replacements(self, wanted: str) -> list[Replaced]:
        """What was given instead of an id, the newest first."""
        return [one for one in reversed(self.replaced) if one.wanted == wanted]

    def claimed(self, order_id: str, client: str) -> bool:
        """Whether a terminal was the first to put an order on a table."""
        return client in self.carried.get(order_id, {}).values()

    def next_order_id(self) -> str:
        return self._count(datetime.now(UTC).strftime("POS-%m%d%Y-"), 0, 3)

    def _count(self, stem: str, after: int, width: int) -> str:
        """An id above every one of this stem that was given before."""
        start = max(self.counters.get(stem, 0), after) + 1
        number = next(n for n in itertools.count(start) if f"{stem}{n:0{width}}" not in self.known)
        self.counters[stem] = number
        self.known.add(f"{stem}{number:0{width}}")
        return f"{stem}{number:0{width}}"


class Replaced(NamedTuple):
    """An order id that was given instead of a wanted one."""

    wanted: str
    given: str
    client: str
    table: str | None


def whole(body: Row, held: Held | None, required: Iterable[str], kept: Iterable[str] = ()) -> Row:
    """The row that a body makes: what is required, or `kept`, stays where it is not given, the rest goes."""
    row = written(body)
    for field in (*required, *kept):
        if field not in row and held is not None and field in held.row:
            row[field] = held.row[field]
    for field in required:
        if field not in row:
            raise Refused("VALIDATION", field)
    return row


def _copied(value: object) -> object:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return value.copy() if isinstance(value, (list, set)) else value
