"""The rules of PROTOCOL.md section 2 for dining tables: numbers, orders on tables, lines."""

from __future__ import annotations

from decimal import Decimal

from tests.model.restaurant import Asked, Held, Refused, Restaurant, Row, whole, written

REQUIRED = ("number", "seats", "status")
LAST_NUMBER = 2**31 - 1
FREED = ("orderId", "orderItems", "orderTotal", "customer", "reservationTime")
FINISHED = ("completed", "void")


def update(shop: Restaurant, asked: Asked) -> Row:
    """Do an UPDATE_TABLE and return the data of its ACK."""
    key = asked.body["id"]
    held = shop.rows["tables"].get(key)
    if asked.action == "delete":
        return shop.delete("tables", key, asked)
    if held is None and key in shop.graves["tables"] and asked.action != "add":
        raise Refused("GONE", "id")
    shop.check_version(asked, held)
    if asked.action not in ("add", "update"):
        return _lines(shop, asked, held)
    row = whole(asked.body, held, REQUIRED)
    if row["number"] in {one.row["number"] for id, one in shop.rows["tables"].items() if id != key}:
        row["number"] = _another_number(shop, asked, held, row["number"])
    if row.get("orderId"):
        row["orderId"] = _order_for(shop, asked, held, row)
    return shop.put("tables", key, row, asked.client)


def _another_number(shop: Restaurant, asked: Asked, held: Held | None, number: int) -> int:
    """The next free number, where a new table may have it."""
    tables = {one.row["number"]: one for one in shop.rows["tables"].values()}
    if held is not None or asked.action == "update":
        raise Refused("CONFLICT", "number", current=(held or tables[number]).shown)
    if asked.id is not None:
        raise Refused("CONFLICT", "number", current=tables[number].shown)
    while number in tables:
        number += 1
    if number > LAST_NUMBER:
        raise Refused("CONFLICT", "number")
    return number


def table_at(shop: Restaurant, number: object) -> str | None:
    """The id of the table with a number."""
    return next((id for id, one in shop.rows["tables"].items() if one.row["number"] == number), None)


def table_with(shop: Restaurant, order_id: str, but: str | None = None) -> str | None:
    """The id of the table that an order is open on."""
    return next(
        (id for id, one in shop.rows["tables"].items() if one.row.get("orderId") == order_id and id != but), None
    )


def _order_for(shop: Restaurant, asked: Asked, held: Held | None, row: Row) -> str:
    """The order id that a table is given for the one that is wanted. Frees the table that the guests have left."""
    key, wanted, lines = row["id"], row["orderId"], row.get("orderItems") or []
    given: str = wanted
    if held is None or held.row.get("orderId") != wanted:
        given = remembered(shop, key, wanted, asked.client) or _taken_along(shop, key, asked, lines) or wanted
    order = shop.rows["orders"].get(given)
    if order is not None and order.row["status"] in FINISHED:
        here = key in shop.carried.get(given, {}) or order.row["tableNumber"] == row["number"]
        if here and order.revision > shop.cleared:  # after a clear terminals begin to count anew
            raise Refused("CONFLICT", "orderId", current=held.shown if held else None)
        return shop.replace(wanted, asked.client, key)
    other = table_with(shop, given, but=key)
    if other is not None:
        theirs = shop.rows["tables"][other].row.get("orderItems") or []
        if theirs != lines or not (lines or shop.claimed(given, asked.client)):
            return shop.replace(wanted, asked.client, key)
        shop.moves += 1
        free(shop, other, asked.client)
    return given


def remembered(shop: Restaurant, table: str, wanted: str, client: str) -> str | None:
    """The id that a terminal was given before for an order of a table."""
    mine = (one.given for one in shop.replacements(wanted) if (one.table, one.client) == (table, client))
    return next(mine, None)


def _taken_along(shop: Restaurant, key: str, asked: Asked, lines: list[Row]) -> str | None:
    """The id that the order of guests who moved here was given at their other table; it goes with them."""
    for one in shop.replacements(asked.body["orderId"]):
        there = shop.rows["tables"].get(one.table or "")
        if one.client != asked.client or one.table == key or not there or there.row.get("orderId") != one.given:
            continue
        if lines and there.row.get("orderItems") == lines:
            shop.replaced = [each._replace(table=key) if each.given == one.given else each for each in shop.replaced]
            return one.given
    return None


def free(shop: Restaurant, key: str, client: str) -> None:
    row = {name: value for name, value in shop.rows["tables"][key].row.items() if name not in FREED}
    shop.put("tables", key, {**row, "status": "available"}, client)


def _lines(shop: Restaurant, asked: Asked, held: Held | None) -> Row:
    """add_items, update_item, void_item."""
    if held is None:
        raise Refused("VALIDATION", "id")
    key, lines = asked.body["id"], [dict(line) for line in held.row.get("orderItems") or []]
    places = {line.get("id"): place for place, line in enumerate(lines)}
    sent = written(asked.body)["items"]
    current = held.row.get("orderId") or None
    wanted = asked.body.get("orderId") or None
    # A guard: what is meant for another order must not land on this one's bill.
    if None not in (wanted, current) and current not in (wanted, remembered(shop, key, str(wanted), asked.client)):
        raise Refused("CONFLICT", "orderId", current=held.shown)
    order = shop.rows["orders"].get(current or "")
    if order is not None and order.row["status"] in FINISHED:
        raise Refused("CONFLICT", "orderId", current=held.shown)
    if asked.action == "void_item":
        gone = {line["id"] for line in sent}
        lines = [line for line in lines if line.get("id") not in gone]
    else:
        for line in sent:
            if line["id"] in places:
                lines[places[line["id"]]].update(line)
            elif asked.action == "update_item":
                raise Refused("CONFLICT", "items", current=held.shown)
            else:
                places[line["id"]] = len(lines)
                lines.append(dict(line))
    row = dict(held.row)
    if lines != (held.row.get("orderItems") or []):
        row["orderItems"] = lines
        total = _total(lines)
        if total is not None:
            row["orderTotal"] = total
        if asked.action == "add_items" and row["status"] == "available":
            row["status"] = "occupied"
    if asked.action == "add_items" and wanted is not None and current is None:
        row["orderId"] = wanted
        row["orderId"] = _order_for(shop, asked, held, row)
    return shop.put("tables", key, row, asked.client)


def _total(lines: list[Row]) -> int | Decimal | None:
    """The sum of the lines, where each has a price and all are numbers."""
    total: int | Decimal = 0
    for line in lines:
        price, quantity = line.get("price"), line.get("quantity", 1)
        if not isinstance(price, (int, Decimal)) or not isinstance(quantity, (int, Decimal)):
            return None
        total += price * quantity
    return total
