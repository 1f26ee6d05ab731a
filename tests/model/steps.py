"""What may happen in a restaurant, as dice have it. Ids are few, so that everything meets everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from tests.model.by_hand import Statement
from tests.model.restaurant import Restaurant, Row

TERMINALS = 3
RELAYS = 2


@dataclass(frozen=True)
class Wish:
    """A mutation before it has an id and knows a version.

    `version` is so much above the one that its row has now, `bare` puts the row directly into `data`.
    """

    type: str
    action: str | None
    body: Row
    named: bool = True
    version: int | None = None
    fault: tuple[str, str] | None = None
    bare: bool = False


@dataclass(frozen=True)
class Again:
    """The mutation with an id that was sent so many before, once more; `other`: with the same id and another body."""

    back: int
    other: bool = False


@dataclass(frozen=True)
class Serve:
    """Guests of the open order that comes `at` this place move to another table, or pay where they sit (`to`: None).

    `wanted`: the terminal calls the order by the id that it was first given, if that was replaced.
    """

    at: int
    to: int | None
    wanted: bool
    named: bool


Step = Wish | Again | Serve


@dataclass(frozen=True)
class Send:
    """What terminals send at the same moment: each its own mutations, one after the other without waiting."""

    by: Sequence[tuple[int, Sequence[Step]]]


@dataclass(frozen=True)
class Type:
    """A DBA's transaction."""

    statements: Sequence[Statement]
    commit: bool


@dataclass(frozen=True)
class Reconnect:
    """A terminal's connection is cut, and it comes to a relay with a cursor.

    The cursor is `held`, `none`, `ahead`, `elsewhere` (of another epoch), or `old`: what it held `back` events ago.
    """

    terminal: int
    relay: int
    cursor: str
    back: int


@dataclass(frozen=True)
class Prune:
    """All of the log, the ledger or the tombstones is old and is let go."""

    what: str


Event = Send | Type | Reconnect | Prune
Pool = Sequence[Any]
Pools = Mapping[str, Pool]

TABLES = ["t1", "t2", "t3"]
NUMBERS = [1, 2, 3, 4, Decimal("4.0")]
ORDERS = ["X-1", "X-2", "X-009", "tea"]
TEA: Row = {"id": "tea", "name": "Tea", "price": 500, "quantity": 2}
RICE: Row = {"id": "rice", "name": "Rice", "price": Decimal("1.50")}
GIFT: Row = {"id": "gift", "price": "ask"}
LINES: Pool = [[], [TEA], [TEA], [RICE], [TEA, RICE], [GIFT, TEA], '[{"id": "rice", "name": "Rice", "price": 1.50}]']
ITEMS: Pool = [TEA, RICE, {"id": "gift"}, {"id": "tea", "quantity": 3}, {"id": "rice", "price": 2, "note": None}]
TOTALS = [500, Decimal("2.50"), Decimal("2.5"), Decimal("1E+2"), 0]
# The first three are one moment, and it is the one of by_hand.CREATED.
CREATED = ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000+00:00", 1767323045000, "2026-01-02T09:00:00Z", None]
NOTES: Pools = {"note": ["", "window", None, ["x", {"y": Decimal("1.0")}]], "version": [7], "revision": [1]}

A_TABLE: Pools = {"id": TABLES, "number": NUMBERS, "seats": [2, 4], "status": ["available", "occupied"]}
AN_ORDER: Pools = {
    "id": ORDERS,
    "tableNumber": [1, 2, 3, None],
    "customerName": ["Mya", None],
    "orderDate": ["2026-01-02"],
    "status": ["pending", "completed", "completed"],
    "total": TOTALS,
    "items": LINES,
}
A_DISH: Pools = {"name": ["Tea", "မုန့်ဟင်းခါး"], "price": TOTALS, "category": ["Soups"], "description": [""]}
DISHES = {"id": ["d1", "d2"]}

# (how often, type, actions, what is in the body, what may be in it)
WISHES: Sequence[tuple[int, str, Sequence[str], Pools, Pools]] = [
    (4, "UPDATE_TABLE", ["add", "add", "update"], A_TABLE,
     {"orderId": ORDERS, "orderItems": LINES, "customer": [None, {"name": "Ma Ma"}], **NOTES}),
    (2, "UPDATE_TABLE", ["update", "add"], {"id": TABLES},
     {"orderId": [*ORDERS, "", None], "orderItems": [*LINES, None], "orderTotal": TOTALS, "number": NUMBERS,
      "seats": [2, 6], "status": ["available", "reserved"], "reservationTime": ["19:30", None], **NOTES}),
    # To have orders move, meet, and be edited late: a table with an order, and no more said.
    (4, "UPDATE_TABLE", ["update", "update", "add"], {"id": TABLES, "orderId": ORDERS, "orderItems": LINES}, {}),
    (4, "UPDATE_TABLE", ["add_items", "add_items", "update_item", "void_item"],
     {"id": TABLES, "items": [[one] for one in ITEMS] + [[TEA, two] for two in ITEMS]}, {"orderId": [*ORDERS, ""]}),
    (1, "UPDATE_TABLE", ["delete"], {"id": TABLES}, {}),
    (5, "UPDATE_ORDER", ["add", "add", "add", "update"], AN_ORDER, {"createdAt": CREATED, **NOTES}),
    (3, "UPDATE_ORDER", ["update", "void", "add"], {"id": ORDERS},
     {"status": ["pending", "completed", "void"], "total": TOTALS, "createdAt": CREATED, "tableNumber": [1, 2, None],
      **NOTES}),
    (1, "UPDATE_ORDER", ["clear"], {}, {}),
    (2, "UPDATE_MENU", ["add_item", "update_item"], {**DISHES, **A_DISH}, {"image": [None, "data:,x"], **NOTES}),
    (1, "UPDATE_MENU", ["add_item", "update_item"], DISHES, {**A_DISH, **NOTES}),
    (1, "UPDATE_MENU", ["delete_item"], DISHES, {}),
    (1, "UPDATE_MENU", ["add_category", "add_category", "delete_category"], {"name": ["Soups", "Tea"]}, {}),
    (1, "UPDATE_SETTINGS", ["update"], {}, {"taxRate": TOTALS, "theme": ["dark", "light"], "note": [[1]]}),
    (1, "NEXT_ORDER_ID", [""], {}, {}),
    (1, "MESSAGE", [""], {"text": ["bell"]}, {"to": ["one", "two", "nobody"]}),
]  # fmt: skip
FAULTS: Sequence[tuple[str, str, Row, str, str]] = [
    ("UPDATE_TABLE", "update", {"seats": 4}, "VALIDATION", "id"),
    ("UPDATE_TABLE", "add", {"id": "t1", "number": -1, "seats": 4, "status": "available"}, "VALIDATION", "number"),
    ("UPDATE_TABLE", "add", {"id": "t1", "number": 1, "seats": 4, "status": "on fire"}, "VALIDATION", "status"),
    ("UPDATE_TABLE", "update", {"id": "t1", "orderItems": "{}"}, "VALIDATION", "orderItems"),
    ("UPDATE_TABLE", "add_items", {"id": "t1", "items": []}, "VALIDATION", "items"),
    ("UPDATE_TABLE", "add_items", {"id": "t1", "items": [{"price": 1}]}, "VALIDATION", "items.0.id"),
    ("UPDATE_TABLE", "remove", {"id": "t1"}, "UNKNOWN_ACTION", "data.action"),
    ("UPDATE_MENU", "update_item", {"id": "d1", "price": "5"}, "VALIDATION", "price"),
    ("UPDATE_MENU", "add_category", {"name": ""}, "VALIDATION", "name"),
    ("UPDATE_ORDER", "add", {"id": "X-1", "createdAt": True}, "VALIDATION", "createdAt"),
    ("UPDATE_ORDER", "delete", {"id": "X-1"}, "UNKNOWN_ACTION", "data.action"),
    ("UPDATE_USER", "update", {"id": "1"}, "UNKNOWN_TYPE", "type"),
]
WEIGHTS = [wish[0] for wish in WISHES]

FROM = [1, 2, 3, 4]
PRICES = [Decimal("1.50"), Decimal(2)]
STATEMENTS: Mapping[str, Sequence[Pool]] = {
    "seats": [[2, 5], FROM],
    "renumber": [[1, -1]],
    "status": [["occupied", "reserved"], TABLES],
    "note": [["a", "b"], FROM],
    "empty": [FROM],
    "open": [ORDERS, TABLES],
    "new table": [TABLES, FROM, [3]],
    "drop table": [TABLES],
    "drop tables": [[3, 4]],
    "dearer": [PRICES],
    "new dish": [["d1", "d2"], PRICES],
    "drop dishes": [],
    "new category": [["Soups", "Tea"]],
    "drop categories": [],
    "new order": [ORDERS, [1, 2, None], ["pending", "completed"], PRICES],
    "totals": [PRICES],
    "finish": [["completed", "void"]],
    "set": [["dark", "red"]],
    "drop orders": [],
    "rename": [],
}


def history(dice: Random, events: int) -> list[Event]:
    """What happens in one restaurant."""
    return [_event(dice) for _ in range(events)]


def _event(dice: Random) -> Event:
    match dice.choices(["one", "two", "type", "reconnect", "prune"], [10, 3, 4, 3, 1])[0]:
        case "one":
            return Send([(dice.randrange(TERMINALS), [_step(dice) for _ in range(dice.randint(1, 12))])])
        case "two":
            return Send([(who, [_step(dice) for _ in range(dice.randint(1, 2))]) for who in range(2)])
        case "type":
            return Type([_statement(dice) for _ in range(dice.randint(1, 3))], dice.random() < 0.7)
        case "reconnect":
            cursor = dice.choice(["held", "old", "old", "none", "ahead", "elsewhere"])
            return Reconnect(dice.randrange(TERMINALS), dice.randrange(RELAYS), cursor, dice.randint(1, 6))
    return Prune(dice.choice(["log", "mutations", "tombstones"]))


def _step(dice: Random) -> Step:
    luck = dice.random()
    if luck < 0.1:
        return Again(dice.randrange(8), dice.random() < 0.3)
    if luck < 0.15:
        type_, action, body, code, field = dice.choice(FAULTS)
        return Wish(type_, action, body, dice.random() < 0.5, None, (code, field))
    if luck < 0.25:
        return Serve(dice.randrange(3), dice.choice([0, 1, None]), dice.random() < 0.6, dice.random() < 0.5)
    _, type_, actions, required, optional = dice.choices(WISHES, WEIGHTS)[0]
    body = {name: dice.choice(pool) for name, pool in required.items()}
    body |= {name: dice.choice(pool) for name, pool in optional.items() if dice.random() < 0.4}
    version = dice.choice([0, 0, -1, 1]) if dice.random() < 0.3 else None
    return Wish(type_, dice.choice(actions), body, dice.random() < 0.6, version, bare=dice.random() < 0.15)


def _statement(dice: Random) -> Statement:
    name, pools = dice.choice([*STATEMENTS.items()])
    return Statement(name, tuple(dice.choice(pool) for pool in pools))


def served(step: Serve, client: str, shop: Restaurant) -> Wish | None:
    """What a terminal sends for guests who move or pay; nothing where nobody sits."""
    tables = shop.rows["tables"]
    seated = [held.row for held in tables.values() if held.row.get("orderId")]
    if not seated:
        return None
    row = seated[step.at % len(seated)]
    names = [one.wanted for one in shop.replaced if (one.given, one.client) == (row["orderId"], client)]
    order_id, lines = (names if step.wanted and names else [row["orderId"]])[0], row.get("orderItems") or []
    others = [id for id in tables if id != row["id"]]
    if step.to is not None and others:
        body = {"id": others[step.to % len(others)], "orderId": order_id, "orderItems": lines, "status": "occupied"}
        return Wish("UPDATE_TABLE", "update", body, step.named)
    sale = {"id": order_id, "tableNumber": row["number"], "items": lines, "total": 1, "status": "completed"}
    return Wish("UPDATE_ORDER", "add", {**sale, "customerName": None, "orderDate": None}, step.named)
