"""What a mutation comes to by PROTOCOL.md section 2: ids, menu and settings here, the rest in tables and orders."""

from __future__ import annotations

from tests.model import orders, tables
from tests.model.restaurant import Asked, Refused, Reply, Restaurant, Row, stored, whole


def apply(shop: Restaurant, asked: Asked) -> Reply:
    """Do what was asked, and return the answer. Only what was applied is remembered under its id."""
    remembered = (asked.client, asked.id or "")
    try:
        if asked.fault:
            raise Refused(*asked.fault)
        if asked.id is not None and remembered in shop.ledger:
            meaning, reply = shop.ledger[remembered]
            if meaning != asked.meaning:
                raise Refused("VALIDATION", "id")
            return reply
        data = _do(shop, asked)
    except Refused as refused:
        return "ERROR", refused.data
    if asked.id is not None:
        shop.ledger[remembered] = asked.meaning, ("ACK", data)
    return "ACK", data


def _do(shop: Restaurant, asked: Asked) -> Row:
    if asked.if_version is not None and asked.action in ("clear", ""):
        raise Refused("VALIDATION", "ifVersion")  # there is no row to have a version
    match asked.type:
        case "UPDATE_TABLE":
            return tables.update(shop, asked)
        case "UPDATE_ORDER":
            return orders.update(shop, asked)
        case "UPDATE_MENU":
            return _update_menu(shop, asked)
        case "UPDATE_SETTINGS":
            return _update_settings(shop, asked)
        case "NEXT_ORDER_ID":
            return {"revision": shop.head, "orderId": shop.next_order_id()}
    shop.messages.append((asked.client, asked.body))
    return {"revision": shop.head}


def _update_menu(shop: Restaurant, asked: Asked) -> Row:
    action = str(asked.action)
    kind, name = ("categories", "name") if action.endswith("_category") else ("menu", "id")
    key = asked.body[name]
    held = shop.rows[kind].get(key)
    if action.startswith("delete"):
        return shop.delete(kind, key, asked)
    if held is None and key in shop.graves[kind] and action == "update_item":
        raise Refused("GONE", "id")
    shop.check_version(asked, held)
    row = {"name": key}
    if kind == "menu":
        row = whole(asked.body, held, ("name", "price", "category", "description"))
    return shop.put(kind, key, row, asked.client)


def _update_settings(shop: Restaurant, asked: Asked) -> Row:
    if asked.if_version not in (None, shop.settings_version):
        raise Refused("CONFLICT", "ifVersion", current=shop.settings)
    shop.set_settings({**shop.settings, **stored(asked.body)}, asked.client)
    return {"revision": shop.head, "version": shop.settings_version}
