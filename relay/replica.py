"""What a terminal holds: the restaurant at one revision, and how it will look once what waits has been done."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Row = dict[str, Any]

LISTS = {"UPDATE_TABLE": "tables", "UPDATE_MENU": "menuItems", "UPDATE_ORDER": "orderHistory"}
# What an update may leave out and keeps (docs/protocol.md, section 5); every other field is replaced.
KEPT = {
    "tables": ("number", "seats", "status"),
    "menuItems": ("name", "price", "category", "description"),
    "orderHistory": ("tableNumber", "customerName", "orderDate", "status", "total", "items", "createdAt"),
}


@dataclass
class State:
    """Everything a terminal shows. Rows are by id, in `orderHistory` the last changed at the end."""

    tables: dict[str, Row] = field(default_factory=dict)
    menuItems: dict[str, Row] = field(default_factory=dict)  # named as on the wire
    orderHistory: dict[str, Row] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)
    settings: Row = field(default_factory=dict)

    def rows(self, name: str) -> dict[str, Row]:
        """The rows of a list, by the name it has on the wire."""
        found: dict[str, Row] = getattr(self, name)
        return found

    def checksum(self, orders: int) -> int:
        """The checksum of docs/protocol.md, section 6, with so many of the newest orders."""
        newest = list(self.orderHistory.values())[-orders:] if orders else []
        lines = [f"table {row['version']} {row['id']}" for row in self.tables.values()]
        lines += [f"dish {row['version']} {row['id']}" for row in self.menuItems.values()]
        lines += [f"order {row['version']} {row['id']}" for row in newest]
        lines += [f"category {name}" for name in self.categories]
        for key, value in self.settings.items():
            told = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"setting {key} {told}" if isinstance(told, str) else f"setting {key}")
        checks = sorted(zlib.crc32(line.encode()) for line in lines)
        return zlib.crc32(",".join(map(str, checks)).encode())


@dataclass
class Batch:
    """What a store has to write at once: `clear` removes all rows first; a value of None removes its key."""

    clear: bool = False
    urgent: bool = False  # somebody waits until it is on the disk
    values: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.clear or bool(self.values)


class Replica:
    """The state at `revision` of the history `epoch`, and what of it has yet to be saved.

    It only ever moves forward: a change is taken if it is the next one, a row is never replaced by an older one.
    """

    def __init__(self, saved: Mapping[str, Any]) -> None:
        cursor = saved.get("cursor", {})
        self.epoch: str | None = cursor.get("epoch")
        self.revision: int = cursor.get("revision", -1)  # -1: it holds nothing
        self.state = State(categories=saved.get("categories") or [], settings=saved.get("settings") or {})
        self.unsaved = Batch()
        self._count = 0
        rows = ((key.split("/", 2), value) for key, value in saved.items() if key.startswith("row/"))
        for (_, name, id_), kept in sorted(rows, key=_number):
            self.state.rows(name)[id_] = kept["row"]
            self._count = kept["n"]

    @property
    def cursor(self) -> Row:
        """What a SYNC_REQUEST asks with."""
        return {} if self.epoch is None else {"epoch": self.epoch, "revision": self.revision}

    def take(self, snapshot: Row) -> bool:
        """Become a snapshot; False if it is older than what is held, which is kept."""
        same = snapshot["epoch"] == self.epoch
        if same and snapshot["revision"] < self.revision and snapshot["reason"] != "ahead":
            return False
        self.forget()
        self.epoch, self.revision = snapshot["epoch"], snapshot["revision"]
        self.state = State(categories=snapshot["categories"], settings=snapshot["settings"])
        for name in KEPT:
            # The last changed order comes first in a snapshot, and stands last here.
            rows = reversed(snapshot[name]) if name == "orderHistory" else snapshot[name]
            for row in rows:
                self._put(name, row)
        self._save("categories", self.state.categories)
        self._save("settings", self.state.settings)
        self._save("cursor", self.cursor)
        return True

    def forget(self) -> None:
        """Hold nothing, as at first."""
        self.epoch, self.revision, self.state = None, -1, State()
        others = {key: value for key, value in self.unsaved.values.items() if not key.startswith("row/")}
        self.unsaved = Batch(clear=True, urgent=self.unsaved.urgent, values=others)
        for key in ("categories", "settings", "cursor"):
            self._save(key, None)

    def apply(self, type_: str, data: Row, revision: int) -> bool:
        """Take the change after the one held; False if it carries a row older than the one held, which is kept."""
        assert revision == self.revision + 1, "only the next change is applied"
        newer = self._apply(type_, data)
        # Last: what could not be understood has not been applied.
        self.revision = revision
        self._save("cursor", self.cursor)
        return newer

    def _apply(self, type_: str, data: Row) -> bool:
        if type_ == "UPDATE_SETTINGS":
            self.state.settings = data
            self._save("settings", data)
            return True
        if type_ not in LISTS:
            return True  # of a relay that knows more than this terminal
        name, action, row = LISTS[type_], data["action"], data["data"]
        rows = self.state.rows(name)
        held = rows.get(row.get("id", ""))
        if action == "clear":
            for id_ in list(rows):
                self._remove(name, id_)
        elif action in ("add_category", "delete_category"):
            others = [one for one in self.state.categories if one != row["name"]]
            if action == "delete_category":
                self.state.categories = others
            elif len(others) == len(self.state.categories):
                self.state.categories = [*others, row["name"]]
            self._save("categories", self.state.categories)
        elif held is not None and row["version"] < held["version"]:
            return False
        elif action.startswith("delete"):
            self._remove(name, row["id"])
        else:
            if not isinstance(row["version"], int):
                raise TypeError("a version is a whole number")
            self._put(name, row)
        return True

    def save(self, key: str, value: Any, *, urgent: bool = False) -> None:
        """Have something of the terminal's own saved with the state."""
        self._save(key, value)
        self.unsaved.urgent |= urgent

    def save_later(self, batch: Batch) -> None:
        """Take back a batch that could not be written: it is written with what comes after it, or not at all."""
        newer = self.unsaved
        older = {key: one for key, one in batch.values.items() if not (newer.clear and key.startswith("row/"))}
        self.unsaved = Batch(batch.clear or newer.clear, newer.urgent, {**older, **newer.values})

    def _put(self, name: str, row: Row) -> None:
        rows = self.state.rows(name)
        if name == "orderHistory":
            rows.pop(row["id"], None)  # it becomes the newest
        rows[row["id"]] = row
        self._count += 1
        self._save(f"row/{name}/{row['id']}", {"n": self._count, "row": row})

    def _remove(self, name: str, id_: str) -> None:
        self.state.rows(name).pop(id_, None)
        self._save(f"row/{name}/{id_}", None)

    def _save(self, key: str, value: Any) -> None:
        self.unsaved.values[key] = value


def _number(saved: tuple[list[str], Row]) -> int:
    return int(saved[1]["n"])


def foreseen(state: State, wanted: Iterable[tuple[str, Row]]) -> State:
    """The state as it will be when these mutations (type and data) are done, as far as a terminal can tell."""
    view = State(**vars(state))
    copied: set[str] = set()
    for type_, data in wanted:
        # What has not the form it must have changes nothing: it will be refused, and the rest is to be seen meanwhile.
        with suppress(Exception):
            if type_ == "UPDATE_SETTINGS":
                view.settings = {**view.settings, **data}
            elif type_ in LISTS:
                name = LISTS[type_]
                if name not in copied:
                    setattr(view, name, dict(view.rows(name)))
                    copied.add(name)
                _foresee(view, name, data["action"], data.get("data") or {})
    return view


def _foresee(view: State, name: str, action: str, body: Row) -> None:
    rows, id_ = view.rows(name), str(body.get("id", ""))
    held = rows.get(id_)
    if action == "clear":
        rows.clear()
    elif action == "add_category":
        if body["name"] not in view.categories:
            view.categories = [*view.categories, body["name"]]
    elif action == "delete_category":
        view.categories = [one for one in view.categories if one != body["name"]]
    elif action.startswith("delete"):
        rows.pop(id_, None)
    elif action == "void":
        if held is not None:
            rows[id_] = {**held, "status": "void"}
    elif name == "tables" and action in ("add_items", "update_item", "void_item"):
        if held is not None and (held.get("orderId") or body.get("orderId")) == (
            body.get("orderId") or held.get("orderId")
        ):
            rows[id_] = _with_lines(held, action, body)
    elif held is not None:
        kept = {key: held[key] for key in (*KEPT[name], "version") if key in held}
        rows[id_] = {**kept, **body}
    elif all(key in body for key in KEPT[name] if key != "createdAt"):
        rows[id_] = {**body, "version": 0}


def _with_lines(table: Row, action: str, body: Row) -> Row:
    lines = {line["id"]: line for line in table.get("orderItems") or []}
    items = body.get("items") or []
    if action == "void_item":
        for line in items:
            lines.pop(line["id"], None)
    elif action == "add_items" or all(line["id"] in lines for line in items):
        for line in items:
            lines[line["id"]] = {**lines.get(line["id"], {}), **line}
    row = {**table, "orderItems": list(lines.values())}
    if action == "add_items":
        row["status"] = "occupied" if table["status"] == "available" else table["status"]
        if order := table.get("orderId") or body.get("orderId"):
            row["orderId"] = order
    figures = [(line.get("price"), line.get("quantity", 1)) for line in lines.values()]
    if all(isinstance(one, (int, float, Decimal)) for pair in figures for one in pair):
        row["orderTotal"] = sum(Decimal(str(price)) * Decimal(str(count)) for price, count in figures)
    return row
