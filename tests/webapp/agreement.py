"""What every flow ends with: all browsers and the database hold the same, field by field."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import psycopg

from tests.terminals import Terminal
from tests.terminals import agree as terminals_agree
from tests.waiting import until
from tests.webapp.browser import Browser
from tests.webapp.storage import BUILT_IN, CATEGORIES, MENU, ORDERS, SETTINGS, TABLES, USERS, Row

QUIET_SECONDS = 0.35  # beyond the 150 ms over which a relay gathers lists: nothing is still to come
SETTLED_SECONDS = 0.1  # the same where it can be seen whether the relay gathers any


def shown(browser: Browser) -> Row:
    """What a browser shows, in a form that can be compared."""
    return comparable({key: browser.storage.read(key) for key in BUILT_IN})


def held(conninfo: str, slug: str = "default") -> Row:
    """What the database holds, in the same form."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "select s.tables, s.menu_items, s.categories, s.settings, s.orders"
            " from pos.find_restaurant(%s) as r, pos.snapshot(r.restaurant_id, 1000000) as s",
            (slug,),
        ).fetchone()
    assert row is not None, f"no restaurant {slug}"
    lists = dict(zip((TABLES, MENU, CATEGORIES, SETTINGS, ORDERS), map(json.loads, row), strict=True))
    return comparable(lists | {USERS: _staff(conninfo, slug)})


def _staff(conninfo: str, slug: str = "default") -> list[Row]:
    """The users that the database holds, where no secret seals their passwords."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "select (s.data || jsonb_build_object('id', s.id, 'password', s.password))::text"
            " from pos.find_restaurant(%s) as r join pos.staff as s using (restaurant_id)",
            (slug,),
        ).fetchall()
    return [json.loads(row) for (row,) in rows]


def comparable(state: Row) -> Row:
    """The lists and the settings, whatever order the rows are in and whichever way their lines are written."""
    return {
        CATEGORIES: state[CATEGORIES],
        SETTINGS: state[SETTINGS],
        **{key: _rows(state[key]) for key in (TABLES, MENU, ORDERS, USERS)},
    }


def _rows(rows: list[Row]) -> list[Row]:
    """Rows by id, two of one id beside each other, without the version, and lines as a list."""
    return sorted(
        ({name: _lines(name, value) for name, value in row.items() if name != "version"} for row in rows),
        key=lambda row: str(row["id"]),
    )


def _lines(name: str, value: Any) -> Any:
    return json.loads(value) if name == "items" and isinstance(value, str) else value


def differences(one: Row, other: Row) -> list[str]:
    """Where two of these differ, a line per row or field."""
    found = []
    for key in one:
        if isinstance(one[key], dict):
            for name in sorted(one[key].keys() | other[key].keys()):
                if one[key].get(name) != other[key].get(name):
                    found.append(f"{key}.{name}: {one[key].get(name)!r} / {other[key].get(name)!r}")
        elif one[key] != other[key]:
            found += [f"{key}: {_cut(row)} / missing or other" for row in one[key] if row not in other[key]]
            found += [f"{key}: missing or other / {_cut(row)}" for row in other[key] if row not in one[key]]
            found = found or [f"{key}: {one[key]} / {other[key]}"]
    return found


def _cut(row: object) -> str:
    return json.dumps(row, ensure_ascii=False)[:400]


async def agree(
    conninfo: str,
    *browsers: Browser,
    terminals: tuple[Terminal, ...] = (),
    slug: str = "default",
    within: float = 10.0,
    gathers: Callable[[], bool] | None = None,
) -> None:
    """Wait until all browsers show what the database holds and go on doing so; none may have met a fault.

    `gathers` says whether a relay still has something for them; without it they are given more time.
    """
    quiet = QUIET_SECONDS if gathers is None else SETTLED_SECONDS
    seen: object = None
    since = 0.0
    found: dict[str, list[str]] = {}

    def same() -> bool:
        """Compare when they have been quiet for a while: before, more may be on its way."""
        nonlocal seen, since
        now = [(browser.storage.writes, browser.unanswered, browser.connected) for browser in browsers]
        if now != seen or (gathers is not None and gathers()):
            seen, since = now, time.monotonic()
        if time.monotonic() < since + quiet:
            return False
        since = time.monotonic()
        truth = held(conninfo, slug)
        found.clear()
        for number, browser in enumerate(browsers, 1):
            if not browser.connected:
                found[f"browser {number}"] = ["is not connected"]
            elif browser.unanswered:
                found[f"browser {number}"] = [f"waits for {browser.unanswered} SYNC_RESPONSEs"]
            elif different := differences(shown(browser), truth):
                found[f"browser {number} / database"] = different
        return not found

    try:
        await until(same, within, "agreement")
    except AssertionError:
        lines = [f"{who}: {line}" for who, different in found.items() for line in different]
        raise AssertionError("\n".join(["no agreement:", *lines, *_faults(*browsers), *_refusals(*browsers)])) from None
    assert not _faults(*browsers), "\n".join(_faults(*browsers))
    if terminals:
        await terminals_agree(conninfo, *terminals, slug=slug, within=within)


def _faults(*browsers: Browser) -> list[str]:
    return [f"browser {number}: {fault}" for number, browser in enumerate(browsers, 1) for fault in browser.faults]


def _refusals(*browsers: Browser) -> list[str]:
    """What the app ignores, and a reader of a failed test wants to know."""
    return [
        f"browser {number} was refused: {_cut(message['data'])}"
        for number, browser in enumerate(browsers, 1)
        for message in browser.heard
        if message["type"] == "ERROR"
    ]
