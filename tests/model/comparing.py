"""SQL's side of the comparison: every row field by field, hidden ones too, with what stands beside them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, LiteralString

from psycopg import Connection

from tests.model.restaurant import Held, Restaurant, Row, exact

STATE: LiteralString = """
select h.revision, h.floor, h.cleared_revision, r.settings::text, r.settings_version,
  (select coalesce(json_object_agg(t.id, json_build_array(t.version, t.created_by, pos.row_of(t),
     t.number, t.seats, t.status, t.order_id, t.reservation_time, t.customer, t.order_items, t.order_total)), '{}')::text
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
   from pos.mutations as m where m.restaurant_id = r.restaurant_id)
from pos.restaurants as r join pos.heads as h using (restaurant_id) where r.restaurant_id = %s
"""
TOMBSTONES: LiteralString = "select * from pos.tombstones where restaurant_id = %s"
COLUMNS = {
    "tables": ("number", "seats", "status", "orderId", "reservationTime", "customer", "orderItems", "orderTotal"),
    "menu": ("name", "price", "category", "description", "image"),
    "categories": (),
    "orders": ("tableNumber", "customerName", "orderDate", "status", "total", "items"),
}


def compare(sql: Connection[Any], restaurant_id: int, model: Restaurant) -> None:
    """Everything that the database holds of a restaurant is what the model holds. AssertionError says what is not."""
    [row] = sql.execute(STATE, (restaurant_id,)).fetchall()
    assert row[:3] == (model.head, model.floor, model.cleared), f"revision, floor, cleared: {row[:3]}"
    _same("settings", [_parsed(row[3]), row[4]], [model.settings, model.settings_version])
    for kind, text in zip(("tables", "menu", "categories", "orders"), row[5:9], strict=True):
        due = {key: _line(kind, held) for key, held in model.rows[kind].items()}
        _same(kind, _parsed(text), due)
    ledger = sorted([client, id, reply[1]["revision"]] for (client, id), (_, reply) in model.ledger.items())
    _same("the ledger", sorted(_parsed(row[9])), ledger)


def _line(kind: str, held: Held) -> list[Any]:
    columns = [held.row.get(column) for column in COLUMNS[kind]]
    if kind == "tables" and columns[3] == "":
        columns[3] = None
    shown = None if kind == "categories" else held.shown
    return [held.version, held.maker, shown, *columns, *([held.revision] if kind == "orders" else [])]


def _same(what: str, found: object, due: object) -> None:
    assert exact(found) == exact(due), f"{what} in SQL:\n   {exact(found)}\nin the model:\n   {exact(due)}"


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


assert Row
