"""A restaurant as SQL shows it: the API's functions, its log and rows, and what must hold of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

Row = dict[str, Any]

NEW_TABLE: Row = {"id": "t", "number": 40, "seats": 4, "status": "available"}
NEW_DISH: Row = {"id": "d", "name": "Tea", "price": 500, "category": "Beverage", "description": ""}
NEW_ORDER: Row = {
    "id": "POS-01022026-001",
    "tableNumber": 4,
    "customerName": "Ma Ma",
    "orderDate": "2026-01-02",
    "status": "pending",
    "total": 500,
    "items": [{"id": "1", "name": "Tea", "price": 500, "quantity": 1}],
    "createdAt": "2026-01-02T03:04:05.678Z",
}

KINDS: Sequence[tuple[str, LiteralString]] = (
    ("UPDATE_TABLE", "tables"),
    ("UPDATE_MENU", "menu_items"),
    ("UPDATE_ORDER", "order_history"),
)
ENDS = ("delete", "delete_item", "delete_category")


class Answer(NamedTuple):
    """A pos.result."""

    code: str
    message: str | None
    field: str | None
    revision: int | None
    version: int | None
    details: Row | None


class Change(NamedTuple):
    """A row of sync_log; `text` is its data as JSON text."""

    revision: int
    type: str
    action: str
    row_id: str | None
    version: int | None
    text: str
    client_id: str

    @property
    def data(self) -> Row:
        return cast(Row, parsed(self.text))


@dataclass(frozen=True)
class Mutation:
    """What a terminal asks for. The body may be given as JSON text."""

    type: str
    action: str | None
    body: Row | str
    client: str = "t1"
    id: str | None = None
    if_version: int | None = None
    restaurant_id: int = 1
    role: str | None = None

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass
class Shop:
    """A restaurant and a connection of its own."""

    conninfo: str
    restaurant_id: int = 1
    autocommit: bool = True
    connection: Connection[TupleRow] = field(init=False)

    def __post_init__(self) -> None:
        self.connection = psycopg.connect(self.conninfo, autocommit=self.autocommit)

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def again(self, *, autocommit: bool = True) -> Shop:
        """The same restaurant on another connection."""
        return Shop(self.conninfo, self.restaurant_id, autocommit)

    def open(self, slug: str) -> Shop:
        """Another restaurant, made here, on another connection."""
        return Shop(self.conninfo, add_restaurant(self.connection, slug))

    # SQL

    def sql(self, query: LiteralString, *parameters: object) -> list[TupleRow]:
        cursor = self.connection.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, query: LiteralString, *parameters: object) -> Any:
        """The first column of the only row."""
        [row] = self.sql(query, *parameters)
        return row[0]

    # The API

    def mutate(self, mutation: Mutation) -> Answer:
        [row] = self.sql(
            """select code, message, field, revision, version, details::text
               from pos.mutate(%s, %s, %s, %s, %s, %s::jsonb, %s)""",
            self.restaurant_id,
            mutation.client,
            mutation.id,
            mutation.type,
            mutation.action,
            mutation.text,
            mutation.if_version,
        )
        return _answer(row)

    def table(self, action: str, body: Row | str, client: str = "t1", **options: Any) -> Answer:
        return self.mutate(Mutation("UPDATE_TABLE", action, body, client, **options))

    def dish(self, action: str, body: Row | str, client: str = "t1", **options: Any) -> Answer:
        return self.mutate(Mutation("UPDATE_MENU", action, body, client, **options))

    def order(self, action: str, body: Row | str, client: str = "t1", **options: Any) -> Answer:
        return self.mutate(Mutation("UPDATE_ORDER", action, body, client, **options))

    def settings(self, body: Row | str, client: str = "t1", **options: Any) -> Answer:
        return self.mutate(Mutation("UPDATE_SETTINGS", "update", body, client, **options))

    def message(self, body: Row | str, client: str = "t1", **options: Any) -> Answer:
        return self.mutate(Mutation("MESSAGE", None, body, client, **options))

    def next_order_id(self, client: str = "t1", **options: Any) -> str:
        answer = self.mutate(Mutation("NEXT_ORDER_ID", None, {}, client, **options))
        assert answer.code == "OK", answer
        assert answer.details is not None
        return str(answer.details["orderId"])

    def apply(
        self, mutations: Sequence[Mutation], batch_id: uuid.UUID | None = None, *, isolate: bool = False
    ) -> list[Answer]:
        rows = self.sql(
            """select code, message, field, revision, version, details::text
               from pos.apply(%s, %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                              %s::bigint[], %s, %s::text[])""",
            batch_id or uuid.uuid4(),
            [m.restaurant_id for m in mutations],
            [m.client for m in mutations],
            [m.id for m in mutations],
            [m.type for m in mutations],
            [m.action for m in mutations],
            [m.text for m in mutations],
            [m.if_version for m in mutations],
            isolate,
            [m.role for m in mutations],
        )
        return [_answer(row) for row in rows]

    # What is there

    @property
    def head(self) -> int:
        return int(self.one("select revision from pos.heads where restaurant_id = %s", self.restaurant_id))

    def log(self, after: int = 0) -> list[Change]:
        rows = self.sql(
            """select revision, type, action, row_id, version, data::text, client_id
               from pos.sync_log where restaurant_id = %s and revision > %s order by revision""",
            self.restaurant_id,
            after,
        )
        return [Change(*row) for row in rows]

    def rows(self, table: LiteralString) -> dict[str, str]:
        """The JSON text of every row of a table as the terminals see it, by id."""
        query: LiteralString = "select id, pos.row_of(t)::text from pos." + table + " as t where restaurant_id = %s"
        return dict(self.sql(query, self.restaurant_id))

    def row(self, table: LiteralString, id: str) -> Row:
        return cast(Row, parsed(self.rows(table)[id]))

    def snapshot(self, orders: int = 1000) -> Row:
        [row] = self.sql(
            """select epoch, revision, tables, menu_items, categories, settings, orders
               from pos.snapshot(%s, %s)""",
            self.restaurant_id,
            orders,
        )
        names = ("tables", "menu_items", "categories", "settings", "orders")
        return {"epoch": row[0], "revision": row[1]} | dict(zip(names, map(parsed, row[2:]), strict=True))

    def check(self) -> None:
        """The log is whole, versions count, and the last image of every row is the row."""
        log = self.log()
        assert [change.revision for change in log] == list(range(1, self.head + 1)), "a hole in the log"
        for type_, table in KINDS:
            changes = [
                c for c in log if c.type == type_ and c.row_id is not None and not c.action.endswith("_category")
            ]
            last = {change.row_id: change for change in changes}
            assert {k: c.text for k, c in last.items() if c.action not in ENDS} == self.rows(table), table
            for row_id in last:
                versions = [c.version for c in changes if c.row_id == row_id]
                assert versions == list(range(1, len(versions) + 1)), f"versions of {table} {row_id}"
        categories = {c.row_id: c.action for c in log if c.action.endswith("_category")}
        names = self.sql("select name from pos.categories where restaurant_id = %s", self.restaurant_id)
        assert {n for n, action in categories.items() if action not in ENDS} == {n for (n,) in names}
        settings = [c.text for c in log if c.type == "UPDATE_SETTINGS"]
        held = self.one("select settings::text from pos.restaurants where restaurant_id = %s", self.restaurant_id)
        assert settings[-1:] in ([], [held])


def add_restaurant(connection: Connection[TupleRow], slug: str) -> int:
    row = connection.execute(
        "insert into pos.restaurants (slug, name) values (%s, 'A restaurant') returning restaurant_id", (slug,)
    ).fetchone()
    assert row
    return int(row[0])


def parsed(text: str) -> Any:
    """JSON with its digits."""
    return json.loads(text, parse_float=Decimal)


def codes(answers: Iterable[Answer]) -> list[str]:
    return [answer.code for answer in answers]


def waiting(shop: Shop) -> int:
    """How many sessions wait for a lock in this database."""
    return int(
        shop.one(
            """select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'"""
        )
    )


@contextmanager
def doorbell(conninfo: str) -> Iterator[Bell]:
    """An ear on the relays' doorbell."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("listen pos_doorbell")
        yield Bell(connection)


class Bell:
    """What a listener hears."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection

    def rings(self) -> list[int]:
        """The restaurants that rang since the last call."""
        # What was committed before a query is delivered with its answer.
        self._connection.execute("select 1")
        return [int(notify.payload) for notify in self._connection.notifies(timeout=0)]


def _answer(row: TupleRow) -> Answer:
    return Answer._make((*row[:5], None if row[5] is None else parsed(row[5])))
