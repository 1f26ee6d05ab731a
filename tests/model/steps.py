"""What may happen in a restaurant, as hypothesis draws it. Ids are few, so that everything meets everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tests.model.by_hand import Statement
from tests.model.restaurant import Row

TERMINALS = 3
RELAYS = 2

Strategy = st.SearchStrategy


@dataclass(frozen=True)
class Wish:
    """A mutation before it has an id and knows a version. `version`: so much above the one its row has now."""

    type: str
    action: str | None
    body: Row
    named: bool = True
    version: int | None = None
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Again:
    """The mutation with an id that was sent so many before, once more; `other`: with the same id and another body."""

    back: int
    other: bool = False


@dataclass(frozen=True)
class Cursor:
    """What a terminal that connects holds: 'held', 'none', 'ahead', 'elsewhere', or what it held `back` syncs ago."""

    kind: str
    back: int = 0


Step = Wish | Again
one_of, just, sampled = st.one_of, st.just, st.sampled_from

TABLES = sampled(["t1", "t2", "t3"])
NUMBERS = sampled([1, 2, 3, 4, Decimal("4.0")])
ORDERS = sampled(["X-1", "X-2", "X-009", "tea"])
TEA: Row = {"id": "tea", "name": "Tea", "price": 500, "quantity": 2}
RICE: Row = {"id": "rice", "name": "Rice", "price": Decimal("1.50")}
GIFT: Row = {"id": "gift", "price": "ask"}
LINES = sampled([[], [TEA], [TEA], [RICE], [TEA, RICE], [GIFT, TEA], '[{"id": "rice", "name": "Rice", "price": 1.50}]'])
TOTALS = sampled([500, Decimal("2.50"), Decimal("2.5"), Decimal("1E+2"), 0])
CREATED = sampled(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000+00:00", 1767323045000, "2026-01-02T09:00:00Z", None])
FREE = {"note": sampled(["", "window", None, ["x", {"y": Decimal("1.0")}]]), "version": just(7), "revision": just(1)}
FAULTS: list[tuple[str, str, Row, str, str]] = [
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
]


def body(required: dict[str, Strategy[Any]], **optional: Strategy[Any]) -> Strategy[Row]:
    return st.fixed_dictionaries(required, optional=optional)


def wishes(type_: str, actions: Sequence[str], bodies: Strategy[Row]) -> Strategy[Wish]:
    versions = sampled([None, None, None, 0, 0, -1, 1])
    named = sampled([True, True, False])
    return st.builds(Wish, just(type_), sampled(actions), bodies, named, versions)


def _whole_table() -> Strategy[Row]:
    return body(
        {"id": TABLES, "number": NUMBERS, "seats": sampled([2, 4]), "status": sampled(["available", "occupied"])},
        orderId=ORDERS, orderItems=LINES, customer=sampled([None, {"name": "Ma Ma"}]), **FREE,
    )  # fmt: skip


def _part_of_a_table() -> Strategy[Row]:
    return body(
        {"id": TABLES},
        orderId=one_of(ORDERS, sampled(["", None])), orderItems=one_of(LINES, just(None)), orderTotal=TOTALS,
        status=sampled(["available", "occupied", "reserved"]), number=NUMBERS, seats=sampled([2, 6]),
        reservationTime=sampled(["19:30", None]), **FREE,
    )  # fmt: skip


def _seated() -> Strategy[Row]:
    """A table with an order, and no more said: the way to have orders move, meet, and be edited late."""
    return st.fixed_dictionaries({"id": TABLES, "orderId": ORDERS, "orderItems": LINES})


def _line_bodies() -> Strategy[Row]:
    line = sampled([TEA, RICE, {"id": "gift"}, {"id": "tea", "quantity": 3}, {"id": "rice", "price": 2, "note": None}])
    return body({"id": TABLES, "items": st.lists(line, min_size=1, max_size=2)}, orderId=one_of(ORDERS, just("")))


def _whole_order() -> Strategy[Row]:
    return body(
        {
            "id": ORDERS, "tableNumber": sampled([1, 2, 3, None]), "customerName": sampled(["Mya", None]),
            "orderDate": just("2026-01-02"), "status": sampled(["pending", "completed", "completed"]),
            "total": TOTALS, "items": LINES,
        },
        createdAt=CREATED, **FREE,
    )  # fmt: skip


def _part_of_an_order() -> Strategy[Row]:
    return body(
        {"id": ORDERS},
        status=sampled(["pending", "completed", "void"]), total=TOTALS, createdAt=CREATED,
        tableNumber=sampled([1, 2, None]), **FREE,
    )  # fmt: skip


def _dishes() -> Strategy[Row]:
    fields = {"name": sampled(["Tea", "မုန့်ဟင်းခါး"]), "price": TOTALS, "category": just("Soups"), "description": just("")}
    optional = {"image": sampled([None, "data:,x"]), **FREE}
    ids = {"id": sampled(["d1", "d2"])}
    return one_of(body(ids | fields, **optional), body(ids, **fields, **optional))


WISHES: Strategy[Wish] = one_of(
    wishes("UPDATE_TABLE", ["add", "add", "update"], _whole_table()),
    wishes("UPDATE_TABLE", ["update", "update", "add"], one_of(_part_of_a_table(), _seated(), _seated())),
    wishes("UPDATE_TABLE", ["add_items", "add_items", "update_item", "void_item"], _line_bodies()),
    wishes("UPDATE_TABLE", ["delete"], body({"id": TABLES})),
    wishes("UPDATE_ORDER", ["add", "add", "add", "update"], _whole_order()),
    wishes("UPDATE_ORDER", ["update", "void", "add"], _part_of_an_order()),
    wishes("UPDATE_ORDER", ["clear"], just({})),
    wishes("UPDATE_MENU", ["add_item", "update_item"], _dishes()),
    wishes("UPDATE_MENU", ["delete_item"], body({"id": sampled(["d1", "d2"])})),
    wishes("UPDATE_MENU", ["add_category", "add_category", "delete_category"], body({"name": sampled(["Soups", "Tea"])})),
    wishes("UPDATE_SETTINGS", ["update"], body({}, taxRate=TOTALS, theme=sampled(["dark", "light"]), note=just([1]))),
    wishes("NEXT_ORDER_ID", [""], just({})),
    wishes("MESSAGE", [""], body({"text": just("bell")}, to=sampled(["one", "two", "nobody"]))),
    st.builds(lambda f, named: Wish(f[0], f[1], f[2], named, None, (f[3], f[4])), sampled(FAULTS), st.booleans()),
)  # fmt: skip
STEPS: Strategy[Step] = one_of(WISHES, WISHES, WISHES, WISHES, st.builds(Again, st.integers(0, 8), sampled([False, False, True])))

SMALL = st.integers(1, 4)
PRICES = sampled([Decimal("1.50"), Decimal(2)])
STATEMENTS: Strategy[Statement] = one_of(
    *(
        st.builds(Statement, just(name), st.tuples(*arguments))
        for name, *arguments in (
            ("seats", sampled([2, 5]), SMALL), ("renumber", sampled([1, -1])),
            ("status", sampled(["occupied", "reserved"]), TABLES), ("note", sampled(["a", "b"]), SMALL),
            ("empty", SMALL), ("new table", TABLES, SMALL, just(3)), ("drop table", TABLES), ("drop tables", SMALL),
            ("dearer", PRICES), ("new dish", sampled(["d1", "d2"]), PRICES), ("drop dishes",),
            ("new category", sampled(["Soups", "Tea"])), ("drop categories",),
            ("new order", ORDERS, sampled([1, 2, None]), sampled(["pending", "completed"]), PRICES),
            ("totals", PRICES), ("finish", sampled(["completed", "void"])), ("set", sampled(["dark", "red"])),
            ("drop orders",), ("rename",),
        )
    ),
    st.builds(lambda order, table: Statement("open", (order, table, order)), ORDERS, TABLES),
)  # fmt: skip
CURSORS: Strategy[Cursor] = st.builds(
    Cursor, sampled(["held", "old", "old", "none", "ahead", "elsewhere"]), st.integers(1, 6)
)


# Histories


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
    """A terminal's connection is cut, and it comes to a relay with a cursor."""

    terminal: int
    relay: int
    cursor: Cursor


@dataclass(frozen=True)
class Prune:
    """All of the log, the ledger or the tombstones is old and is let go."""

    what: str


Event = Send | Type | Reconnect | Prune
WHO = st.integers(0, TERMINALS - 1)
_sends = st.builds(lambda who, steps: Send([(who, steps)]), WHO, st.lists(STEPS, min_size=1, max_size=10))
_two_send = st.builds(
    lambda first, second: Send([(0, first), (1, second)]),
    st.lists(STEPS, min_size=1, max_size=2),
    st.lists(STEPS, min_size=1, max_size=2),
)
EVENTS: Strategy[Event] = one_of(
    _sends, _sends, _sends, _sends, _two_send, _two_send,
    st.builds(Type, st.lists(STATEMENTS, min_size=1, max_size=3), sampled([True, True, False])),
    st.builds(Reconnect, WHO, st.integers(0, RELAYS - 1), CURSORS),
    st.builds(Prune, sampled(["log", "mutations", "tombstones"])),
)  # fmt: skip


@st.composite
def histories(draw: st.DrawFn, most: int) -> list[Event]:
    """What happens in one restaurant. Most are as long as they may be, and all can be cut short anywhere."""
    found: list[Event] = []
    while len(found) < most and draw(sampled([0, *[1] * 300])):
        found.append(draw(EVENTS))
    return found
