"""What relay and database answered and hold, beside what the model says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, LiteralString, TypeVar

from psycopg import Connection

from tests.model.restaurant import Asked, Change, Held, Reply, Restaurant, Row, exact

T = TypeVar("T")
Heard = tuple[dict[str, list[Reply]], list[str]]  # by the id that was answered; and what came without one

STATE: LiteralString = """
select h.revision, h.floor, h.cleared_revision, r.settings::text, r.settings_version,
  (select coalesce(json_object_agg(t.id, json_build_array(t.version, t.created_by, pos.row_of(t),
     t.number, t.seats, t.status, t.order_id, t.reservation_time, t.customer, t.order_items,
     t.order_total)), '{}')::text
   from pos.tables as t where t.restaurant_id = r.restaurant_id),
  (select coalesce(json_object_agg(m.id, json_build_array(m.version, m.created_by, pos.row_of(m),
     m.name, m.price, m.category, m.description, m.image)), '{}')::text
   from pos.menu_items as m where m.restaurant_id = r.restaurant_id),
  (select coalesce(json_object_agg(c.name, json_build_array(c.version, c.created_by, null)), '{}')::text
   from pos.categories as c where c.restaurant_id = r.restaurant_id),
  (select coalesce(json_object_agg(o.id, json_build_array(o.version, o.created_by, pos.row_of(o),
     o.table_number, o.customer_name, o.order_date, o.status, o.total, o.items, o.revision)), '{}')::text
   from pos.order_history as o where o.restaurant_id = r.restaurant_id),
  (select coalesce(json_agg(json_build_array(m.client_id, m.mutation_id, m.revision)), '[]')::text
   from pos.mutations as m where m.restaurant_id = r.restaurant_id),
  (select coalesce(json_agg(json_build_array(g.kind, g.id, g.version)), '[]')::text
   from pos.tombstones as g where g.restaurant_id = r.restaurant_id)
from pos.restaurants as r join pos.heads as h using (restaurant_id) where r.restaurant_id = %s
"""
KINDS = {"tables": "tables", "menu": "menu_items", "categories": "categories", "orders": "order_history"}
# What a row without an action means.
WITHOUT_ACTION = {"UPDATE_TABLE": ("update",), "UPDATE_MENU": ("update_item",), "UPDATE_ORDER": ("add",)}
COLUMNS = {
    "tables": ("number", "seats", "status", "orderId", "reservationTime", "customer", "orderItems", "orderTotal"),
    "menu": ("name", "price", "category", "description", "image"),
    "categories": (),
    "orders": ("tableNumber", "customerName", "orderDate", "status", "total", "items"),
}


class Differs(AssertionError):
    """The relay and the model do not agree."""


def compare(sql: Connection[Any], restaurant_id: int, model: Restaurant) -> None:
    """Every row that SQL shows, hidden ones too, is the model's, column by column. Raises Differs."""
    [row] = sql.execute(STATE, (restaurant_id,)).fetchall()
    _same("revision, floor, cleared", row[:3], [model.head, model.floor, model.cleared])
    _same("settings", [parsed(row[3]), row[4]], [model.settings, model.settings_version])
    for kind, text in zip(KINDS, row[5:9], strict=True):
        _same(kind, parsed(text), {key: _columns(kind, held) for key, held in model.rows[kind].items()})
    ledger = sorted([client, id, reply[1]["revision"]] for (client, id), (_, reply) in model.ledger.items())
    _same("the ledger", sorted(parsed(row[9])), ledger)
    graves = sorted([KINDS[kind], key, version] for kind, dead in model.graves.items() for key, version in dead.items())
    _same("tombstones", sorted(parsed(row[10])), graves)


def _columns(kind: str, held: Held) -> list[Any]:
    columns = [held.row.get(column) for column in COLUMNS[kind]]
    if kind == "tables":
        columns[3] = columns[3] or None
    shown = None if kind == "categories" else held.shown
    return [held.version, held.maker, shown, *columns, *([held.revision] if kind == "orders" else [])]


def _same(what: str, found: object, due: object) -> None:
    if exact(found) != exact(due):
        raise Differs(f"{what} in SQL:\n   {exact(found)}\nin the model:\n   {exact(due)}")


def log_after(sql: Connection[Any], restaurant_id: int, revision: int) -> list[Change]:
    """The changes after a revision. Raises Differs if there is a hole."""
    rows = sql.execute(
        "select revision, type, action, data::text, client_id from pos.sync_log"
        " where restaurant_id = %s and revision > %s order by revision",
        (restaurant_id, revision),
    ).fetchall()
    if [row[0] for row in rows] != [*range(revision + 1, revision + 1 + len(rows))]:
        raise Differs(f"the log goes on after {revision} with {[row[0] for row in rows]}")
    return [Change(row[1], row[2], parsed(row[3]), row[4]) for row in rows]


def changed(due: Sequence[Change], log: Sequence[Change]) -> list[str]:
    """How the log is not as the model says, for people; empty where it is."""
    if exact(due) == exact(log):
        return []
    return [
        *("the model's changes:", *(f"   {exact(change)}" for change in due)),
        *("the database's changes:", *(f"   {exact(change)}" for change in log)),
    ]


def is_change(message: Row, change: Change) -> bool:
    """Whether a message that a terminal applied says what stands in the log."""
    data = change.data if change.type == "UPDATE_SETTINGS" else {"action": change.action, "data": change.data}
    return exact([message["type"], message["data"], message["clientId"]]) == exact([change.type, data, change.client])


def answered(due: Sequence[Heard], heard: Sequence[Heard]) -> list[str]:
    """How answers are not as the model says, for people; empty where they are."""
    found = []
    for model, relay in zip(due, heard, strict=True):
        for ref in sorted(model[0].keys() | relay[0].keys()):
            wanted, got = exact(model[0].get(ref, [])), exact(relay[0].get(ref, []))
            if wanted != got:
                found.append(f"to {ref} the model answers {wanted}\n   and the relay {got}")
        if sorted(model[1]) != sorted(relay[1]):
            found.append(f"without an id the model answers {sorted(model[1])}\n   and the relay {sorted(relay[1])}")
    return found


def file(heard: Heard, ref: str | None, reply: Reply) -> None:
    """Put an answer where it can be compared: those without an id may come in any order."""
    if ref is None:
        heard[1].append(exact(reply))
    else:
        heard[0].setdefault(ref, []).append(reply)


def interleavings(queues: list[list[T]]) -> Iterable[list[T]]:
    """Every order in which queues can have been served, each one's own order kept."""
    if not any(queues):
        yield []
    for number, queue in enumerate(queues):
        if queue:
            rest = [one[1:] if place == number else one for place, one in enumerate(queues)]
            for order in interleavings(rest):
                yield [queue[0], *order]


def text_of(asked: Asked) -> str:
    """A mutation as it goes over the wire."""
    data: Row = asked.body
    if asked.type == "UPDATE_SETTINGS":
        data = {"action": "update", "data": data} if asked.bare else data
    elif asked.type.startswith("UPDATE_"):
        action = {} if asked.bare and asked.action in WITHOUT_ACTION[asked.type] else {"action": asked.action}
        data = {**action, **(data if asked.bare else {"data": data})}
    envelope = {"id": asked.id, "ifVersion": asked.if_version}
    envelope = {name: value for name, value in envelope.items() if value is not None}
    return exact({"type": asked.type, "data": data, "clientId": asked.client, **envelope})


def parsed(text: str) -> Any:
    """JSON with its digits."""
    return json.loads(text, parse_float=Decimal)
