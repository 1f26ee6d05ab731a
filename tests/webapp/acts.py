"""What a person does in the app: every act shows at once, and is said to the relay."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from tests.webapp.page import Page
from tests.webapp.storage import CATEGORIES, MENU, ORDERS, SETTINGS, TABLES, USERS, Row

# What a table has only while guests sit at it, or are expected.
GUESTS = ("orderId", "orderItems", "orderTotal", "customer", "reservationTime")


def line(dish: Row, quantity: int = 1) -> Row:
    """A line of an order."""
    return {"id": dish["id"], "name": dish["name"], "price": dish["price"], "quantity": quantity}


class Person(Page, ABC):
    """A page of the app, and who uses it."""

    @abstractmethod
    def say(self, type_: str, data: Row) -> None:
        """Send a message, or keep it until there is a connection."""

    # Tables

    def add_table(self, number: int, seats: int = 4) -> Row:
        row = {"id": f"table_{self.clock.now()}", "number": number, "seats": seats, "status": "available"}
        self._write(TABLES, [*self.tables, row])
        self.say("UPDATE_TABLE", {"action": "add", "data": row})
        return row

    def change_table(self, table: Row, **fields: Any) -> Row:
        """Show and send the whole row, as it is now, with other fields; None takes a field out."""
        changed = {name: value for name, value in (table | fields).items() if value is not None}
        self._rewrite(TABLES, lambda old: changed if old["id"] == table["id"] else old)
        self.say("UPDATE_TABLE", {"action": "update", "data": changed})
        return changed

    def delete_table(self, table: Row) -> None:
        self._remove(TABLES, table["id"])
        self.say("UPDATE_TABLE", {"action": "delete", "data": {"id": table["id"]}})

    def seat(self, table: Row) -> Row:
        return self.change_table(table, status="occupied")

    def reserve(self, table: Row, customer: Any, time: str) -> Row:
        return self.change_table(table, status="reserved", customer=customer, reservationTime=time)

    def free(self, table: Row) -> Row:
        return self.change_table(table, status="available", **dict.fromkeys(GUESTS))

    # Orders

    def save_order(self, table: Row, *lines: Row, **fields: Any) -> Row:
        """Save an order on a table: the open one with other lines, or one that the app numbers by itself."""
        total = sum(one["price"] * one["quantity"] for one in lines)
        return self.change_table(
            table,
            status="occupied",
            orderId=table.get("orderId") or self.next_order_id(),
            orderItems=[*lines],
            orderTotal=round(total * (1 + self.settings["taxRate"] / 100), 2),
            **fields,
        )

    def complete_order(self, table: Row, status: str = "completed") -> Row:
        """The guests pay and go: the order goes into the history, and the table is free."""
        now = self._today()
        order = {
            "id": table["orderId"],
            "tableNumber": table["number"],
            "customerName": str(table.get("customer", "")),
            "orderDate": now.date().isoformat(),
            "status": status,
            "total": table["orderTotal"],
            "items": json.dumps(table["orderItems"], ensure_ascii=False),
            "createdAt": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        self._merge_order(order)
        self.say("UPDATE_ORDER", {"action": "add", "data": order})
        self.free(table)
        return order

    def cancel_order(self, table: Row) -> Row:
        return self.complete_order(table, "cancelled")

    def clear_history(self) -> None:
        self._write(ORDERS, [])
        self.say("UPDATE_ORDER", {"action": "clear", "data": {}})

    def next_order_id(self) -> str:
        """The number after the highest of today that its own history holds: another browser may give the same one."""
        prefix = f"POS-{self._today():%m%d%Y}-"
        found = [re.fullmatch(re.escape(prefix) + r"(\d+)", order["id"]) for order in self.orders]
        return f"{prefix}{max((int(match[1]) for match in found if match), default=0) + 1:03d}"

    def _today(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now() / 1000, UTC)

    # Menu

    def add_dish(self, name: str, price: float, category: str, description: str = "", image: str | None = None) -> Row:
        row = {
            "id": f"item_{self.clock.now()}",
            "name": name,
            "price": price,
            "category": category,
            "description": description,
            **({} if image is None else {"image": image}),
        }
        self._write(MENU, [*self.menu, row])
        self.say("UPDATE_MENU", {"action": "add_item", "data": row})
        return row

    def change_dish(self, dish: Row, **fields: Any) -> Row:
        changed = {name: value for name, value in (dish | fields).items() if value is not None}
        self._rewrite(MENU, lambda old: changed if old["id"] == dish["id"] else old)
        self.say("UPDATE_MENU", {"action": "update_item", "data": changed})
        return changed

    def delete_dish(self, dish: Row) -> None:
        self._remove(MENU, dish["id"])
        self.say("UPDATE_MENU", {"action": "delete_item", "data": {"id": dish["id"]}})

    def add_category(self, name: str) -> None:
        self._write(CATEGORIES, [*self.categories, name])
        self.say("UPDATE_MENU", {"action": "add_category", "data": {"name": name}})

    def delete_category(self, name: str) -> None:
        self._write(CATEGORIES, [one for one in self.categories if one != name])
        self.say("UPDATE_MENU", {"action": "delete_category", "data": {"name": name}})

    def rename_category(self, old: str, new: str) -> None:
        """Its dishes first, one by one; then the old name goes and the new one comes."""
        for dish in [one for one in self.menu if one["category"] == old]:
            self.change_dish(dish, category=new)
        self.delete_category(old)
        self.add_category(new)

    # Settings

    def change_settings(self, **fields: Any) -> None:
        """Save the form: all settings go, changed or not."""
        settings = self.settings | fields
        self._write(SETTINGS, settings)
        self.say("UPDATE_SETTINGS", settings)

    # Staff

    def add_user(self, name: str, username: str, role: str = "waiter", password: str = "1234") -> Row:
        row = {
            "id": str(self.clock.now()),
            "name": name,
            "username": username,
            "email": f"{username}@restaurant.com",
            "roleId": role,
            "password": password,
            "isActive": True,
        }
        self._write(USERS, [*self.users, row])
        self.say("UPDATE_USERS", {"action": "add", "data": row})
        return row

    def change_user(self, user: Row, **fields: Any) -> Row:
        changed = user | fields
        self._rewrite(USERS, lambda old: changed if old["id"] == user["id"] else old)
        self.say("UPDATE_USERS", {"action": "update", "data": changed})
        return changed

    def delete_user(self, user: Row) -> None:
        self._remove(USERS, user["id"])
        self.say("UPDATE_USERS", {"action": "delete", "data": {"id": user["id"]}})

    def request_users(self) -> None:
        self.say("USER_SYNC", {"action": "request_users"})

    def broadcast_users(self) -> None:
        self.say("USER_SYNC", {"action": "broadcast_users", "users": self.users})

    # Sessions

    def log_in(self, username: str, password: str) -> bool:
        """The app itself compares user name and password with the staff it holds."""
        for user in self.users:
            if (user["username"], user["password"]) == (username, password) and user["isActive"]:
                self.user = user
                self.say("USER_LOGIN", self._session())
                return True
        return False

    def log_out(self) -> None:
        self.say("USER_LOGOUT", self._session())
        self.user = None

    def force_logout(self, user: Row) -> None:
        """What an administrator does to somebody else's session."""
        self.say("FORCE_LOGOUT", {"userId": user["id"]})

    def _session(self) -> Row:
        assert self.user is not None, "nobody is logged in"
        return {"userId": self.user["id"], "username": self.user["username"], "sessionId": self.client_id}
