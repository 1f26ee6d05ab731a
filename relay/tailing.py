"""What `relay tail` shows: every change of a restaurant as it is committed, in a line for people or as it came."""

from __future__ import annotations

import asyncio
import signal
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from .errors import RelayError
from .replica import LISTS, Row
from .stores import encode
from .terminal import Status, Terminal

NOUNS = {"UPDATE_TABLE": "table", "UPDATE_MENU": "dish", "UPDATE_ORDER": "order", "UPDATE_SETTINGS": "settings"}
VALUE_CHARACTERS = 60  # of a field; a photograph has 30,000
UNSHOWN = {"version", "id"}


class Tail:
    """Passes on the changes that are wanted: all, or those of the table with a number.

    `write` gets the parts of a line (see `line`), or the one of a message; `note` what becomes of the connection.
    """

    def __init__(
        self,
        terminal: Terminal,
        table: int | None,
        *,
        as_json: bool,
        write: Callable[[list[str]], None],
        note: Callable[[str], None],
    ) -> None:
        self._terminal = terminal
        self._table = table
        self._as_json = as_json
        self._write = write
        self._note = note
        self._before: dict[tuple[str, str], Row] = {}
        self._ended = asyncio.Event()
        self._refusal = ""
        self._said = ""  # of being offline, since it was live

    async def run(self) -> None:
        """Go on until SIGINT or SIGTERM, or until nobody reads any more. Raises RelayError where the relay refuses."""
        loop, terminal = asyncio.get_running_loop(), self._terminal
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        terminal.on("snapshot", self._snapshot)
        terminal.on("change", self._change)
        terminal.on("state", self._state)
        async with terminal:
            await self._ended.wait()
        if self._refusal:
            raise RelayError(self._refusal)

    def _state(self, status: Status) -> None:
        if status.state == "live":
            self._said = ""
            self._note(f"live at revision {self._terminal.revision}")
        elif status.state == "offline" and not self._ended.is_set():
            said = f"offline: {status.why}; it connects again by itself"
            if said != self._said:  # not at each attempt
                self._note(said)
            self._said = said
        elif status.state == "refused":
            self._refusal = f"{status.why}; {status.todo}"
            self._ended.set()

    def _snapshot(self, reason: str) -> None:
        state = self._terminal.confirmed
        self._before = {(name, id_): row for name in LISTS.values() for id_, row in state.rows(name).items()}
        self._before["settings", ""] = state.settings
        if reason != "first-sync":
            self._note(f"a snapshot ({reason}): what was changed meanwhile is not listed")

    def _change(self, message: Row) -> None:
        before = self._take(message)
        if self._table is not None and self._table not in _tables_of(message, before):
            return
        with suppress(BrokenPipeError):
            self._write([encode(message)] if self._as_json else line(message, before))
            return
        self._ended.set()

    def _take(self, message: Row) -> Row:
        """The row as it was before a change; empty if there was none."""
        data = message["data"]
        if message["type"] == "UPDATE_SETTINGS":
            before = self._before.get(("settings", ""), {})
            self._before["settings", ""] = data
            return before
        if message["type"] not in LISTS or "id" not in data["data"]:
            return {}
        key = LISTS[message["type"]], data["data"]["id"]
        before = self._before.pop(key, {})
        if not data["action"].startswith("delete"):
            self._before[key] = data["data"]
        return before


def line(message: Row, before: Row) -> list[str]:
    """A change in parts that make a line: when, its revision, who made it, of what, and what is new in it."""
    when = datetime.fromtimestamp(message["timestamp"] / 1000).astimezone()
    data = message["data"]
    noun = NOUNS.get(message["type"], message["type"])
    action, row = ("update", data) if message["type"] == "UPDATE_SETTINGS" else (data["action"], data["data"])
    if action.endswith("_category"):
        what = f"category {row['name']}"
    else:
        what = " ".join(map(str, (noun, _name_of({**before, **row}))))
    news = [] if action.startswith("delete") else _differences(before, row)
    verb = action.partition("_")[0]
    said = what.strip() if verb == "update" else f"{what.strip()} {verb}"
    parts = [f"{when:%H:%M:%S}", f"{message['revision']:>6}", f"{message['clientId']:<20}", said, ", ".join(news)]
    return [printable(part) for part in parts]


def printable(text: str) -> str:
    """Text without what would move the cursor or ring the bell: rows hold whatever a terminal wrote."""
    return "".join("\ufffd" if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") else each for each in text)


def _name_of(row: Row) -> Any:
    return row.get("number", row.get("name", row.get("id", "")))


def _tables_of(message: Row, before: Row) -> set[Any]:
    """The numbers of the tables that a change is about."""
    data = message["data"]
    row = data.get("data", {})
    field = {"UPDATE_TABLE": "number", "UPDATE_ORDER": "tableNumber"}.get(message["type"], "")
    return {before.get(field), row.get(field)}


def _differences(before: Row, after: Row) -> list[str]:
    changed = [f"{key} {_short(after[key])}" for key in after if key not in UNSHOWN and before.get(key) != after[key]]
    return changed + [f"no {key}" for key in before if key not in after]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else encode(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"
