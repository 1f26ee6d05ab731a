"""The rules of PROTOCOL.md section 2 for orders: two sales with one id, finished orders, clear."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.model.restaurant import Asked, Change, Held, Refused, Resold, Restaurant, Row, whole
from tests.model.tables import FINISHED, table_at, table_with

REQUIRED = ("tableNumber", "customerName", "orderDate", "status", "total", "items")


def update(shop: Restaurant, asked: Asked) -> Row:
    """Do an UPDATE_ORDER and return the data of its ACK."""
    if asked.action == "clear":
        shop.log.append(Change("UPDATE_ORDER", "clear", {}, asked.client))
        shop.cleared = shop.head
        return {"revision": shop.head}
    key = _meant(shop, asked)
    held = shop.rows["orders"].get(key)
    if asked.action == "void":
        return _void(shop, asked, key, held)
    shop.check_version(asked, held)
    taken = _belongs_to_another(shop, asked, key, held)
    if taken and asked.action == "update":
        raise Refused("CONFLICT", "id", current=held.shown if held else None)
    if taken and asked.id is not None:
        raise Refused("ORDER_ID_TAKEN", "id", suggestedId=shop.next_free(key))
    row = whole({**asked.body, "id": key}, None if taken else held, REQUIRED, kept=["createdAt"])
    if taken:
        row["id"] = shop.next_free(key)
        shop.resold.setdefault(asked.body["id"], []).append(Resold(row["id"], asked.client))
    elif held is not None and held.row["status"] in FINISHED and row["status"] not in FINISHED:
        raise Refused("CONFLICT", "status", current=held.shown)
    return shop.put("orders", row["id"], row, asked.client)


def _void(shop: Restaurant, asked: Asked, key: str, held: Held | None) -> Row:
    shop.check_version(asked, held)
    if held is None:
        raise Refused("VALIDATION", "id")
    if _belongs_to_another(shop, asked, key, held):
        raise Refused("CONFLICT", "id", current=held.shown)
    return shop.put("orders", key, {**held.row, "status": "void"}, asked.client)


def _meant(shop: Restaurant, asked: Asked) -> str:
    """The id that the sale has here, which is another one if it was replaced."""
    wanted: str = asked.body["id"]
    table = table_at(shop, asked.body.get("tableNumber"))
    if table is not None and shop.rows["tables"][table].row.get("orderId") != wanted:
        given = shop.replaced.get((table, wanted, asked.client))
        if given is not None:
            return given
    for resold in reversed(shop.resold.get(wanted, [])):
        sale = shop.rows["orders"][resold.given]
        told = moment(asked.body)
        if told is not None and moment(sale.row) == told:
            return resold.given
        if told is None and resold.client == asked.client and asked.id is None:
            return resold.given
    return wanted


def _belongs_to_another(shop: Restaurant, asked: Asked, key: str, held: Held | None) -> bool:
    """Whether the id is another sale's, or that of an order that is open on another table."""
    if held is not None:
        return not same_sale(held, asked)
    if asked.action != "add" or (table := table_with(shop, key)) is None:
        return False
    elsewhere = shop.rows["tables"][table].row["number"] != asked.body.get("tableNumber")
    return elsewhere and next(iter(shop.carried[key].values())) != asked.client


def same_sale(held: Held, asked: Asked) -> bool:
    theirs, told = moment(held.row), moment(asked.body)
    if theirs is not None and told is not None:
        return theirs == told
    if "tableNumber" not in asked.body:
        return True
    return held.maker == asked.client or held.row["tableNumber"] == asked.body["tableNumber"]


def moment(row: Row) -> datetime | None:
    """The point in time that a `createdAt` means."""
    said = row.get("createdAt")
    if said is None:
        return None
    if isinstance(said, str):
        return datetime.fromisoformat(said)
    return datetime.fromtimestamp(int(said) / 1000, UTC)
