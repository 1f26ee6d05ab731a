"""The two floor plans in docs/terminals.md do what the page says."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from relay import schema
from tests.e2e.chromium import driven, served_folder
from tests.library.shops import execute
from tests.relays import relay_process
from tests.terminals import state_in_database
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "terminals.md"
FLOOR = "document.querySelector('#floor').innerText"

pytestmark = pytest.mark.timeout(120)


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return str(found)


def shows(output: Path) -> bool:
    return "4: occupied" in output.read_text()


@pytest.fixture
def shop(database: str) -> str:
    asyncio.run(schema.seed(database))
    return database


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "floor.html").write_text(block("html"))
    with served_folder(tmp_path) as found:
        yield found


async def test_the_floor_plan_in_javascript_is_live_in_two_windows(shop: str, devtools: str, address: str) -> None:
    async with relay_process(shop) as relay, driven(devtools) as chromium:
        url = f"{address}/floor.html?relay=http://{relay.host}:{relay.port}"
        here, there = await chromium.open(url), await chromium.open(url)
        for window in (here, there):
            await window.loaded(f"{FLOOR}.includes('4: available')")
        await here.click("#floor button:nth-child(4)")
        await there.loaded(f"{FLOOR}.includes('4: occupied')")
        execute(shop, "update pos.tables set status = 'reserved' where number = 2")
        for window in (here, there):
            await window.loaded(f"{FLOOR}.includes('2: reserved')")
            await window.loaded("document.querySelector('#state').textContent.trim() === 'live'")


async def test_the_floor_plan_in_python_is_live_in_two_windows(shop: str, tmp_path: Path) -> None:
    (tmp_path / "floor.py").write_text(block("python"))
    async with relay_process(shop) as relay:
        processes, outputs = [], []
        for name, seat in (("one", []), ("two", ["4"])):
            (tmp_path / name).mkdir()
            outputs.append(tmp_path / name / "out")
            with outputs[-1].open("wb") as out:
                command = [sys.executable, str(tmp_path / "floor.py"), relay.url, *seat]
                processes.append(await asyncio.create_subprocess_exec(*command, cwd=tmp_path / name, stdout=out))
        try:
            for output in outputs:
                await until(partial(shows, output), within=20.0, what="the floor")
            assert state_in_database(shop)[1]["tables"]["4"]["status"] == "occupied"
        finally:
            for process in processes:
                process.terminate()
                await process.wait()
