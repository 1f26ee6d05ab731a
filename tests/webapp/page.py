"""One page of the MiniPOS web app: what it shows, and what each message that it receives does to that.

From PROTOCOL.md, section 6, where everything was observed on the real app. Its faults are here on purpose: a relay
must get along with them. What a relay must never send is written down in `faults`.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable

from tests.webapp.storage import BUILT_IN, CATEGORIES, MENU, ORDERS, SETTINGS, TABLES, USERS, Clock, Row, Storage

HOOKS = 3  # instances of the app's hook, each of which handles every message
LISTS = (TABLES, MENU, CATEGORIES)
SESSION_TYPES = ("USER_LOGIN", "USER_LOGOUT", "SESSION_UPDATE", "SESSION_SYNC", "REFRESH_SESSIONS")
LOGOUT_TYPES = ("FORCE_LOGOUT", "TERMINATE_SESSION")
BASE36 = string.digits + string.ascii_lowercase


def new_client_id(clock: Clock) -> str:
    """As the app names itself: `client_<13 digits>_<base36>`."""
    return f"client_{clock.now():013d}_{''.join(random.choices(BASE36, k=9))}"


class Page:
    """What one page of the app shows, kept in localStorage; it knows no socket."""

    def __init__(self, storage: Storage, clock: Clock, client_id: str | None = None) -> None:
        self.storage = storage
        self.clock = clock
        self.client_id = client_id or new_client_id(clock)
        self.user: Row | None = None  # who is logged in
        self.heard: list[Row] = []  # every message, in order
        self.sessions: list[Row] = []  # what other pages said of their sessions
        self.pongs = 0
        self.faults: list[str] = []

    # What it shows

    @property
    def tables(self) -> list[Row]:
        return self._rows(TABLES)

    @property
    def menu(self) -> list[Row]:
        return self._rows(MENU)

    @property
    def categories(self) -> list[str]:
        names: list[str] = self.storage.read(CATEGORIES)
        return names

    @property
    def settings(self) -> Row:
        found: Row = self.storage.read(SETTINGS)
        return found

    @property
    def orders(self) -> list[Row]:
        return self._rows(ORDERS)

    @property
    def users(self) -> list[Row]:
        return self._rows(USERS)

    def table(self, number: int) -> Row:
        """The one table with a number."""
        return _only(self.tables, "number", number)

    def dish(self, name: str) -> Row:
        """The one dish with a name."""
        return _only(self.menu, "name", name)

    def staff(self, username: str) -> Row:
        """The one user with a user name."""
        return _only(self.users, "username", username)

    def syncs(self, key: str) -> int:
        """How many SYNC_RESPONSEs carried a list, or the staff."""
        bodies = [message["data"] for message in self.heard if message.get("type") == "SYNC_RESPONSE"]
        return sum(key in (body if key == USERS else body.get("data", {})) for body in bodies)

    def _rows(self, key: str) -> list[Row]:
        rows: list[Row] = self.storage.read(key)
        return rows

    def _write(self, key: str, value: object) -> None:
        self.storage.write(key, value)

    # What it hears

    def hear(self, text: str | bytes) -> list[Row]:
        """Handle a message as the app does; what it answers."""
        if not isinstance(text, str):
            self.faults.append("a binary frame, which the app does not read")
            return []
        message: Row = json.loads(text)
        self.heard.append(message)
        sender = message.get("clientId")
        if not isinstance(sender, str):  # clientId.startsWith(...) or the like throws, and the message is lost
            self.faults.append(f"a message without a clientId of text is lost: {_short(message)}")
            return []
        if sender == self.client_id:
            if message["type"].startswith("UPDATE_"):
                self.faults.append(f"its own change came back: {_short(message)}")
            return []
        return self._handle(message["type"], message.get("data") or {})

    def _handle(self, type_: str, data: Row) -> list[Row]:
        match type_:
            case "SYNC_RESPONSE":
                self._take_state(data)
            case "UPDATE_TABLE":
                self._take_table(data)
            case "UPDATE_MENU":
                self._take_menu(data)
            case "UPDATE_ORDER":
                self._take_order(data)
            case "UPDATE_SETTINGS":
                self._write(SETTINGS, self.settings | data)
            case "UPDATE_USERS":
                self._take_user(data)
            case "USER_SYNC":
                return self._talk_of_users(data)
            case "HEARTBEAT":
                self.faults.append(f"a HEARTBEAT, which the app always answers: {data}")
                return [{"type": "HEARTBEAT", "data": {"response": True}}]
            case "PONG":
                self.pongs += 1
            case _ if type_ in SESSION_TYPES:
                self.sessions.append({"type": type_, "data": data})
            case _ if type_ in LOGOUT_TYPES:
                if self.user is not None and data.get("userId") == self.user["id"]:
                    self.user = None
        return []

    def _take_state(self, body: Row) -> None:
        found = body.get("data")
        if isinstance(found, dict):
            for key in LISTS:
                if key in found:
                    self._write(key, found[key])
            if SETTINGS in found:
                missing = BUILT_IN[SETTINGS].keys() - found[SETTINGS].keys()
                if missing:
                    self.faults.append(f"incomplete settings: {sorted(missing)} are gone")
                self._write(SETTINGS, found[SETTINGS])
            for order in found.get(ORDERS, []):
                self._merge_order(order)
        elif USERS not in body:
            self.faults.append(f"a SYNC_RESPONSE of which the app reads nothing: {sorted(body)}")
        if body.get("mode") == "changes":
            self.faults.append("a SYNC_RESPONSE with mode: changes, which the app does not know")
        if USERS in body:
            self._take_users(body[USERS])

    def _take_users(self, users: list[Row]) -> None:
        if not users:
            self.faults.append("an empty list of users: nobody can log in any more")
        self._write(USERS, users)

    def _take_table(self, data: Row) -> None:
        action, row = data["action"], data["data"]
        if action == "add":
            self._multiply(TABLES, "table", row)
        elif action == "update":
            self._change(TABLES, row)
        elif action == "delete":
            self._remove(TABLES, row["id"])

    def _take_menu(self, data: Row) -> None:
        action, row = data["action"], data["data"]
        if action == "add_item":
            self._multiply(MENU, "item", row)
        elif action == "update_item":
            self._change(MENU, row)
        elif action == "delete_item":
            self._remove(MENU, row["id"])
        elif action == "add_category":
            self._write(CATEGORIES, [*dict.fromkeys([*self.categories, row["name"]])])
        elif action == "delete_category":
            self._write(CATEGORIES, [name for name in self.categories if name != row["name"]])

    def _take_order(self, data: Row) -> None:
        if data["action"] == "add":
            self._merge_order(data["data"])
        elif data["action"] == "clear":
            self._write(ORDERS, [])

    def _take_user(self, data: Row) -> None:
        action, row = data["action"], data["data"]
        if action == "add" and not any(user["id"] == row["id"] for user in self.users):
            self._write(USERS, [*self.users, row])
        elif action == "update":
            self._change(USERS, row)
        elif action == "delete":
            self._remove(USERS, row["id"])

    def _talk_of_users(self, data: Row) -> list[Row]:
        if data.get("action") == "users_response":
            self._take_users(data["users"])
        elif data.get("action") == "request_users":
            return [{"type": "USER_SYNC", "data": {"action": "broadcast_users", "users": self.users}}]
        return []

    # What each handler does to a list

    def _multiply(self, key: str, prefix: str, row: Row) -> None:
        """Each instance of the hook adds it, under an id of its own."""
        self.faults.append(f"an add of {row['id']}, which becomes {HOOKS} in the app")
        copies = [row | {"id": f"{prefix}_{self.clock.now()}"} for _ in range(HOOKS)]
        self._write(key, [*self._rows(key), *copies])

    def _change(self, key: str, row: Row) -> None:
        self._rewrite(key, lambda old: old | row if old["id"] == row["id"] else old)

    def _remove(self, key: str, id_: str) -> None:
        self._write(key, [row for row in self._rows(key) if row["id"] != id_])

    def _merge_order(self, order: Row) -> None:
        if any(known["id"] == order["id"] for known in self.orders):
            self._rewrite(ORDERS, lambda old: order if old["id"] == order["id"] else old)
        else:
            self._write(ORDERS, [order, *self.orders])

    def _rewrite(self, key: str, change: Callable[[Row], Row]) -> None:
        self._write(key, [change(row) for row in self._rows(key)])


def _only(rows: list[Row], key: str, value: object) -> Row:
    found = [row for row in rows if row.get(key) == value]
    assert len(found) == 1, f"{len(found)} rows with {key} {value!r}"
    return found[0]


def _short(message: Row) -> str:
    return json.dumps(message, ensure_ascii=False)[:200]
