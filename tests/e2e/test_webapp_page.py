"""The model of the web app in a real browser: Chromium, two contexts, one relay process.

The screenshots go to the folder that SCREENSHOTS names, so that somebody can look at them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay import schema
from tests.e2e.chromium import Chromium, Tab, driven, running_chromium, served_folder
from tests.relays import RelayProcess, relay_process
from tests.waiting import until
from tests.webapp.agreement import comparable, differences, held
from tests.webapp.storage import Row

SECOND = 200  # milliseconds of the app's second
PAGE = Path(__file__).parent / "webapp_page"

pytestmark = pytest.mark.timeout(120)


class Window:
    """The page in a context of its own."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    async def act(self, name: str, *arguments: object) -> Any:
        """Let the person do something by the page's own function."""
        return await self.tab.run(f"app.{name}({', '.join(map(json.dumps, arguments))})")

    async def press(self, act: str, number: int | None = None) -> None:
        """Press one of the page's buttons."""
        await self.tab.click(f"[data-act={act}]" + (f"[data-number='{number}']" if number else ""))

    async def shown(self) -> Row:
        found: Row = await self.tab.run("app.shown()")
        return found

    async def is_connected(self) -> bool:
        return bool(await self.tab.run("app.socket?.readyState === WebSocket.OPEN && app.syncs > 0"))

    async def faults(self) -> list[str]:
        found: list[str] = await self.tab.run("app.faults")
        return found

    async def text(self) -> str:
        """What a person reads."""
        return str(await self.tab.run("document.body.innerText"))


class Floor:
    """A seeded restaurant, its relay, and the windows that are open in it."""

    def __init__(self, conninfo: str, relay: RelayProcess, chromium: Chromium, address: str, pictures: Path) -> None:
        self.conninfo = conninfo
        self.relay = relay
        self.windows: list[Window] = []
        self._chromium = chromium
        self._address = f"{address}/index.html?relay={relay.url}&second={SECOND}"
        self._pictures = pictures

    async def open(self) -> Window:
        window = Window(await self._chromium.open(self._address))
        self.windows.append(window)
        await until(window.is_connected, within=15.0, what="the page to be connected")
        return window

    async def agree(self, name: str) -> None:
        """All windows show what the database holds, and met no fault; a picture of each is kept."""
        found: list[str] = []

        async def same() -> bool:
            truth = held(self.conninfo)
            states = await asyncio.gather(*(window.shown() for window in self.windows))
            found[:] = [line for state in states for line in differences(comparable(state), truth)]
            return not found

        try:
            await until(same, within=15.0, what="agreement")
        except AssertionError:
            raise AssertionError("\n".join(["no agreement:", *found])) from None
        finally:
            await self.keep_pictures(name)
        for window in self.windows:
            assert await window.faults() == []

    async def settled(self, shows: Callable[[Row], bool]) -> None:
        """Wait until every window shows something."""

        async def everywhere() -> bool:
            return all(shows(state) for state in await asyncio.gather(*(window.shown() for window in self.windows)))

        await until(everywhere, within=15.0, what="the same in every window")

    async def keep_pictures(self, name: str) -> None:
        for number, window in enumerate(self.windows, 1):
            picture = await window.tab.screenshot()
            await asyncio.to_thread((self._pictures / f"{name}-{number}.png").write_bytes, picture)


def _has_lines(count: int, state: Row) -> bool:
    """Whether the order on table 2 has so many lines."""
    return any(len(table.get("orderItems", [])) == count for table in state["tables"] if table["number"] == 2)


def _has_table(number: int, state: Row) -> bool:
    return any(table["number"] == number for table in state["tables"])


def _has_sales(count: int, state: Row) -> bool:
    return len(state["orderHistory"]) == count


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served_folder(PAGE) as found:
        yield found


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    """Where a browser is driven; each test has tabs and storage of its own in it."""
    with running_chromium() as found:
        yield found


@pytest.fixture
async def floor(database: str, devtools: str, address: str, pictures: Path) -> AsyncIterator[Floor]:
    await schema.seed(database)
    async with driven(devtools) as chromium, relay_process(database) as relay:
        made = Floor(database, relay, chromium, address, pictures)
        for _ in range(2):
            await made.open()
        yield made


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def test_a_table_and_a_dish_that_one_window_adds_are_seen_in_the_other(floor: Floor) -> None:
    here, there = floor.windows
    await here.press("addTable")
    await here.press("addDish")
    await there.press("addCategory")
    await floor.agree("added")
    assert "Table 9" in await there.text()
    assert len((await there.shown())["menuItems"][-1]["image"]) >= 30_000
    assert await there.tab.run("document.querySelector('#menu img').naturalWidth") == 180


async def test_an_order_is_saved_in_one_window_and_paid_in_the_other(floor: Floor) -> None:
    here, there = floor.windows
    for lines in (1, 2, 3):
        # A person looks before pressing again; a list that is on its way shows the table as it was.
        await here.press("order", 2)
        await floor.settled(partial(_has_lines, lines))
    await floor.agree("saved")
    assert "8400 MMK" in await there.text()
    await there.press("pay", 2)
    await floor.agree("paid")
    assert "completed" in await here.text()


async def test_two_windows_number_two_orders_at_once(floor: Floor) -> None:
    here, there = floor.windows
    await there.act("order", 4, 0)
    await asyncio.gather(here.act("order", 3, 1), there.act("order", 5, 2))  # each another dish
    await floor.agree("numbered")
    for sales, number in enumerate((3, 4, 5), 1):
        await here.press("pay", number)
        await floor.settled(partial(_has_sales, sales))
    await floor.agree("three-sales")
    assert len((await there.shown())["orderHistory"]) == 3


async def test_settings_and_staff_are_the_same_in_both_windows(floor: Floor) -> None:
    here, there = floor.windows
    await here.act("changeSettings", {"restaurantName": "ရွှေဘဲ / Golden Duck", "theme": "dark"})
    await here.press("raiseTax")
    await here.press("closeSettings")
    await there.press("addUser")
    await until(here.is_connected, within=15.0)
    await floor.agree("settings")
    assert "Golden Duck" in await there.text()
    assert await here.act("logIn", "user4", "1234")


async def test_what_is_done_offline_arrives_when_the_window_is_back(floor: Floor) -> None:
    here, there = floor.windows
    await here.act("loseNetwork")
    await here.act("addTable", 30)
    await here.act("order", 30)
    await here.act("addDish", "ဘဲကင် / Roast duck")
    await there.act("seat", 1)
    await there.act("deleteTable", 8)
    await floor.keep_pictures("offline")
    await here.act("findNetwork")
    await until(here.is_connected, within=15.0)
    # First it is sent the state as it is without what waits in its queue.
    await floor.settled(partial(_has_table, 30))
    await floor.agree("back")
    assert "Table 30" in await there.text()


async def test_the_relay_is_killed_and_the_windows_come_back_by_themselves(floor: Floor) -> None:
    here, there = floor.windows
    await here.press("order", 1)
    await floor.agree("before-the-kill")
    await floor.relay.kill()
    await until(lambda: there.tab.run("!app.socket"))
    await there.act("seat", 2)
    await here.act("pay", 1)
    await floor.relay.start()
    for window in floor.windows:
        await until(window.is_connected, within=15.0)
    await floor.agree("after-the-kill")
    assert "completed" in await there.text()


async def test_a_reloaded_window_and_a_late_one_show_the_whole_restaurant(floor: Floor) -> None:
    here, there = floor.windows
    await here.act("reserve", 6, "Daw Mya", "19:30")
    await here.press("order", 1)
    await here.press("addDish")
    await there.press("addTable")
    await floor.agree("before-the-reload")
    await there.tab.reload()
    await until(there.is_connected, within=15.0)
    late = await floor.open()
    await floor.agree("late")
    assert "Daw Mya" in await late.text()
