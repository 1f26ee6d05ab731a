"""What a DBA does in psql, as SQL and as what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, LiteralString

from tests.model.restaurant import Held, Restaurant, Row
from tests.model.tables import table_with

DBA = "database"
CREATED = "2026-01-02T03:04:05.000Z"
# The first number a place in the log of the keys of a statement's rows: SQL promises no order within a statement.
Order = Callable[[str], int]
Do = Callable[..., None]


class Impossible(Exception):
    """The statement is against a constraint or a rule; nothing of its transaction happens."""


@dataclass(frozen=True)
class Statement:
    """One statement, from STATEMENTS, with its arguments. Each has the restaurant's id as its last one."""

    name: str
    arguments: Sequence[Any] = field(default=())

    @property
    def sql(self) -> LiteralString:
        return STATEMENTS[self.name][0]

    def told(self, restaurant_id: int) -> str:
        """The statement for people."""
        return self.sql % (*(repr(str(one)) for one in self.arguments), restaurant_id)

    def apply(self, shop: Restaurant, order: Order) -> None:
        """Do it to the model. Raises Impossible."""
        STATEMENTS[self.name][1](shop, order, *self.arguments)


def _change(shop: Restaurant, kind: str, order: Order, where: Callable[[Row], bool], new: Callable[[Row], Row]) -> None:
    chosen = [key for key, held in shop.rows[kind].items() if where(held.row)]
    for key in sorted(chosen, key=order):
        row = shop.rows[kind][key].row
        shop.put(kind, key, _without_new_nulls(row, new(row)), DBA)
    numbers = [held.row["number"] for held in shop.rows["tables"].values()]
    if len({*numbers}) < len(numbers):
        raise Impossible


def _without_new_nulls(old: Row, new: Row) -> Row:
    """A null in SQL is a field that is not there, unless a terminal had sent one."""
    merged = {**old, **new}
    return {key: old.get(key) if value is None else value for key, value in merged.items() if value is not None or
            (key in old and old[key] in (None, ""))}  # fmt: skip


def _make(shop: Restaurant, kind: str, row: Row) -> None:
    if row["id"] in shop.rows[kind]:
        raise Impossible
    shop.put(kind, row["id"], row, DBA)
    _change(shop, kind, lambda _: 0, lambda _: False, dict)


def _drop(shop: Restaurant, kind: str, order: Order, where: Callable[[str, Held], bool]) -> None:
    for key in sorted((key for key, held in shop.rows[kind].items() if where(key, held)), key=order):
        shop.bury(kind, key, DBA)


def _seats(shop: Restaurant, order: Order, seats: int, least: int) -> None:
    _change(shop, "tables", order, lambda row: row["number"] >= least, lambda _: {"seats": seats})


def _renumber(shop: Restaurant, order: Order, by: int) -> None:
    if any(held.row["number"] + by < 0 for held in shop.rows["tables"].values()):
        raise Impossible
    _change(shop, "tables", order, lambda _: True, lambda row: {"number": row["number"] + by})


def _status(shop: Restaurant, order: Order, status: str, key: str) -> None:
    _change(shop, "tables", order, lambda row: row["id"] == key, lambda _: {"status": status})


def _note(shop: Restaurant, order: Order, note: str, least: int) -> None:
    _change(shop, "tables", order, lambda row: row["number"] >= least, lambda _: {"note": note})


def _empty(shop: Restaurant, order: Order, least: int) -> None:
    gone = dict.fromkeys(("orderId", "orderItems", "orderTotal", "customer", "reservationTime"))
    _change(shop, "tables", order, lambda row: row["number"] >= least, lambda _: {**gone, "status": "available"})


def _open(shop: Restaurant, order: Order, order_id: str, key: str) -> None:
    if table_with(shop, order_id) is None:
        _change(shop, "tables", order, lambda row: row["id"] == key, lambda _: {"orderId": order_id})


def _new_table(shop: Restaurant, _: Order, key: str, number: int, seats: int) -> None:
    _make(shop, "tables", {"id": key, "number": number, "seats": seats, "status": "available"})


def _drop_table(shop: Restaurant, order: Order, key: str) -> None:
    _drop(shop, "tables", order, lambda id, _: id == key)


def _drop_tables(shop: Restaurant, order: Order, least: int) -> None:
    _drop(shop, "tables", order, lambda _, held: held.row["number"] >= least)


def _dearer(shop: Restaurant, order: Order, by: Decimal) -> None:
    _change(shop, "menu", order, lambda _: True, lambda row: {"price": row["price"] + by})


def _new_dish(shop: Restaurant, _: Order, key: str, price: Decimal) -> None:
    _make(shop, "menu", {"id": key, "name": "By hand", "price": price, "category": "", "description": ""})


def _drop_dishes(shop: Restaurant, order: Order) -> None:
    _drop(shop, "menu", order, lambda _, __: True)


def _new_category(shop: Restaurant, _: Order, name: str) -> None:
    if name in shop.rows["categories"]:
        raise Impossible
    shop.put("categories", name, {"name": name}, DBA)


def _drop_categories(shop: Restaurant, order: Order) -> None:
    _drop(shop, "categories", order, lambda _, __: True)


def _new_order(shop: Restaurant, _: Order, key: str, number: int | None, status: str, total: Decimal) -> None:
    said = dict.fromkeys(("createdAt", "orderDate"), CREATED)
    row: Row = {"id": key, "tableNumber": number, "customerName": None, "status": status, "total": total, "items": []}
    _make(shop, "orders", row | said)


def _totals(shop: Restaurant, order: Order, by: Decimal) -> None:
    _change(shop, "orders", order, lambda _: True, lambda row: {"total": row["total"] + by})


def _finish(shop: Restaurant, order: Order, status: str) -> None:
    _change(shop, "orders", order, lambda row: row["status"] == "pending", lambda _: {"status": status})


def _set(shop: Restaurant, _: Order, theme: str) -> None:
    shop.set_settings({**shop.settings, "theme": theme}, DBA)


def _drop_orders(shop: Restaurant, _: Order) -> None:
    if shop.rows["orders"]:
        raise Impossible


def _rename(shop: Restaurant, _: Order) -> None:
    if shop.rows["tables"]:
        raise Impossible


HERE = "restaurant_id = %s"
STATEMENTS: dict[str, tuple[LiteralString, Do]] = {
    "seats": ("update pos.tables set seats = %s where number >= %s and " + HERE, _seats),
    "renumber": ("update pos.tables set number = number + %s where " + HERE, _renumber),
    "status": ("update pos.tables set status = %s where id = %s and " + HERE, _status),
    "note": (
        "update pos.tables set extra = extra || jsonb_build_object('note', %s::text) where number >= %s and " + HERE,
        _note,
    ),
    "empty": (
        "update pos.tables set status = 'available', order_id = null, order_items = null, order_total = null,"
        " customer = null, reservation_time = null where number >= %s and " + HERE,
        _empty,
    ),
    "open": (
        "update pos.tables as t set order_id = o.id from (select %s::text as id) as o where t.id = %s and not exists"
        " (select from pos.tables as x where x.restaurant_id = t.restaurant_id and x.order_id = o.id) and " + HERE,
        _open,
    ),
    "new table": ("insert into pos.tables (id, number, seats, restaurant_id) values (%s, %s, %s, %s)", _new_table),
    "drop table": ("delete from pos.tables where id = %s and " + HERE, _drop_table),
    "drop tables": ("delete from pos.tables where number >= %s and " + HERE, _drop_tables),
    "dearer": ("update pos.menu_items set price = price + %s where " + HERE, _dearer),
    "new dish": (
        "insert into pos.menu_items (id, name, price, restaurant_id) values (%s, 'By hand', %s, %s)",
        _new_dish,
    ),
    "drop dishes": ("delete from pos.menu_items where " + HERE, _drop_dishes),
    "new category": ("insert into pos.categories (name, restaurant_id) values (%s, %s)", _new_category),
    "drop categories": ("delete from pos.categories where " + HERE, _drop_categories),
    "new order": (
        "insert into pos.order_history (created_at, id, table_number, status, total, restaurant_id)"
        " values ('2026-01-02 03:04:05+00', %s, %s, %s, %s, %s)",
        _new_order,
    ),
    "totals": ("update pos.order_history set total = total + %s where " + HERE, _totals),
    "finish": ("update pos.order_history set status = %s where status = 'pending' and " + HERE, _finish),
    "set": (
        "update pos.restaurants set settings = settings || jsonb_build_object('theme', %s::text) where " + HERE,
        _set,
    ),
    "drop orders": ("delete from pos.order_history where " + HERE, _drop_orders),
    "rename": ("update pos.tables set id = id || 'x' where " + HERE, _rename),
}
