"""The rules of PROTOCOL.md section 2 for orders: two sales with one id, finished orders, clear."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.model.restaurant import Asked, Change, Held, Refused, Restaurant, Row, whole
from tests.model.tables import FINISHED, table_at, table_with

REQUIRED = ("tableNumber", "customerName", "orderDate", "status", "total", "items")


def update(shop: Restaurant, asked: Asked) -> Row:
    """Do an UPDATE_ORDER and return the data of its ACK."""
    if asked.action == "clear":
        shop.log.append(Change("UPDATE_ORDER", "clear", {}, asked.client))
        shop.cleared = shop.head
        return {"revision": shop.head}
    key, taken = _meant(shop, asked)
    held = shop.rows["orders"].get(key)
    if taken and asked.action == "add":
        if asked.id is not None:
            raise Refused("ORDER_ID_TAKEN", "id", suggestedId=shop.next_free(key))
        held = None  # it is not this sale's
    shop.check_version(asked, held)
    if taken and held is not None:
        raise Refused("CONFLICT", "id", current=held.shown)
    if asked.action == "void":
        if held is None:
            raise Refused("VALIDATION", "id")
        return _stored(shop, asked, {**held.row, "status": "void"})
    row = whole({**asked.body, "id": key}, held, REQUIRED, kept=["createdAt"])
    if held is not None and held.row["status"] in FINISHED and row["status"] not in FINISHED:
        raise Refused("CONFLICT", "status", current=held.shown)
    if taken and asked.action == "add":
        row["id"] = shop.replace(key, asked.client, table_at(shop, row["tableNumber"]))
    return _stored(shop, asked, row)


def _stored(shop: Restaurant, asked: Asked, row: Row) -> Row:
    """Store an order. An ACK says so where it has another id than was asked for."""
    ack = shop.put("orders", row["id"], row, asked.client)
    return ack if row["id"] == asked.body["id"] else {**ack, "orderId": row["id"]}


def _meant(shop: Restaurant, asked: Asked) -> tuple[str, bool]:
    """The id that a sale has here, and whether that is another sale's."""
    wanted: str = asked.body["id"]
    if asked.action != "add" and asked.id is not None and not asked.body.keys() & {"tableNumber", "createdAt"}:
        return wanted, False  # who gives its messages ids was told what its orders are called
    held = shop.rows["orders"].get(wanted)
    if held is not None:
        same = same_sale(held, asked)
    else:
        # An id that another terminal has open on another table is taken too.
        table = table_with(shop, wanted)
        elsewhere = table is not None and shop.rows["tables"][table].row["number"] != asked.body.get("tableNumber")
        same = None if not elsewhere or shop.claimed(wanted, asked.client) else False
    if same and held is not None:
        return wanted, False
    for one in shop.replacements(wanted):
        sold = shop.rows["orders"].get(one.given)
        if sold is not None and same_sale(sold, asked):
            return one.given, False
    table = table_at(shop, asked.body.get("tableNumber"))
    for one in shop.replacements(wanted):
        if (one.table, one.client) == (table, asked.client) and one.given not in shop.rows["orders"]:
            return one.given, False
    return wanted, same is False


def same_sale(held: Held, asked: Asked) -> bool | None:
    """Whether an order is the sale that a body means; None where nothing tells."""
    theirs, told = moment(held.row), moment(asked.body)
    if theirs is not None and told is not None:
        return theirs == told
    if held.maker == asked.client:
        return True
    return held.row["tableNumber"] == asked.body["tableNumber"] if "tableNumber" in asked.body else None


def moment(row: Row) -> datetime | None:
    """The point in time that a `createdAt` means."""
    said = row.get("createdAt")
    if said is None:
        return None
    if isinstance(said, str):
        return datetime.fromisoformat(said)
    return datetime.fromtimestamp(int(said) / 1000, UTC)
