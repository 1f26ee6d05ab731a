"""A restaurant in the middle of an evening: guests, open orders, a reservation, a history, a menu of some length."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from relay.terminal import Terminal
from tests.relays import local_relay

SETTINGS = {
    "restaurantName": "Shwe Mya Kitchen",
    "description": "Myanmar food, family style",
    "taxRate": 5,
    "serviceCharge": 10,
    "serviceChargeEnabled": True,
}
DISHES = [
    ("7", "ကြက်သားဟင်း / Chicken Curry", 4500, "Main Menu", "Slow cooked, with potatoes"),
    ("8", "ငါးဟင်း / Fish Curry", 4800, "Main Menu", "River fish, tamarind, tomato"),
    ("9", "အမဲနှပ် / Beef Stew", 5200, "Main Menu", "Ginger and star anise"),
    ("10", "Spaghetti with Clams", 6500, "Pasta", ""),
    ("11", "Penne all'arrabbiata", 5500, "Pasta", "Hot"),
    ("12", "Margherita", 7000, "Pizza", "Tomato, mozzarella, basil"),
    ("13", "Mango Sticky Rice", 2500, "Dessert", "From April to June"),
    ("14", "ရွှေရင်အေး / Shwe Yin Aye", 1800, "Dessert", "Coconut milk, jelly, bread"),
    ("15", "Lime Soda", 900, "Beverage", ""),
    ("16", "လက်ဖက်ရည် / Milk Tea", 700, "Beverage", "Strong and sweet"),
]
# Table, guests, minutes they have been there, and what they had.
SEATED: list[tuple[str, int, int, list[tuple[str, int]]]] = [
    ("3", 5, 52, [("7", 2), ("8", 1), ("4", 2), ("16", 4)]),
    ("4", 2, 18, [("1", 2), ("6", 1)]),
    ("6", 4, 7, [("12", 1)]),
    ("8", 3, 96, [("9", 3), ("2", 2), ("15", 3), ("13", 2)]),
]
PAID = [(2, "7", 3, 64), (7, "12", 2, 51), (1, "1", 4, 40), (5, "10", 2, 33), (2, "9", 1, 12)]


async def have_an_evening(conninfo: str) -> None:
    """Fill a seeded restaurant, as its terminals would."""
    now = datetime.now(UTC).astimezone()
    async with local_relay(conninfo) as relay, Terminal(relay.url) as terminal:
        asked = [await terminal.settings(SETTINGS)]
        for id_, name, price, category, description in DISHES:
            added = {"id": id_, "name": name, "price": price, "category": category, "description": description}
            asked.append(await terminal.dish("add_item", added))
        await terminal.answered(asked[-1])
        for table, guests, minutes, had in SEATED:
            since = (now - timedelta(minutes=minutes)).isoformat()
            order = f"POS-{now:%m%d%Y}-T{table}"
            seated = {"id": table, "status": "occupied", "guests": guests, "seatedAt": since, "orderId": order}
            await terminal.table("update", seated)
            lines = [_line(terminal, f"{table}-{dish}", dish, quantity) for dish, quantity in had]
            asked.append(await terminal.table("add_items", {"id": table, "items": lines}))
        reserved = {"id": "5", "status": "reserved", "customer": "Daw Khin", "reservationTime": "20:30"}
        asked.append(await terminal.table("update", reserved))
        for number, (table_number, dish, quantity, minutes) in enumerate(PAID, 1):
            paid = (now - timedelta(minutes=minutes)).isoformat()
            line = _line(terminal, f"p{number}", dish, quantity)
            total = line["price"] * quantity * 1155 / 1000
            order_row: dict[str, Any] = {
                "id": f"POS-{now:%m%d%Y}-00{number}",
                "tableNumber": table_number,
                "customerName": None,
            }
            order_row |= {"orderDate": f"{now:%Y-%m-%d}", "status": "completed", "total": total, "items": [line]}
            order_row["customerName"] = None
            order_row |= {"createdAt": paid, "paidAt": paid, "payment": "card" if number % 2 else "cash", "guests": 2}
            asked.append(await terminal.order("add", order_row))
        for mutation in asked:
            answered = await terminal.answered(mutation)
            assert answered.state == "acknowledged", answered.error


def _line(terminal: Terminal, name: str, dish: str, quantity: int) -> dict[str, Any]:
    row = terminal.menu[dish]
    return {
        "id": f"line_{name}",
        "dishId": dish,
        "name": row["name"],
        "price": int(row["price"]),
        "quantity": quantity,
        "by": terminal.client_id,
    }
