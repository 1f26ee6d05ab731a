"""The JavaScript terminal in a real page: Chromium, IndexedDB, and the module as the relay serves it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import schema
from tests.e2e.chromium import Chromium, Tab, driven, served_folder
from tests.library.shops import execute, ledger, version_of
from tests.relays import LocalRelay, RelayProcess, local_relay, relay_process
from tests.terminals import checksum_in_database, state_in_database
from tests.waiting import until

FOLDER = Path(__file__).parent
WEB = FOLDER.parents[1] / "relay" / "web"

# What the page shows, in the form of state_in_database, and how it stands.
REPORT = """(() => {
  const { tables, menuItems, orderHistory, categories, settings } = terminal.view
  const rows = (map) => Object.fromEntries(map)
  const state = { tables: rows(tables), menu: rows(menuItems), orders: rows(orderHistory), settings }
  state.categories = [...categories].sort()
  return { state, revision: terminal.revision, stands: terminal.state, pending: terminal.pending.length }
})()"""
FRAME = "document.querySelector('iframe').contentWindow"
OPEN_FRAME = """new Promise((loaded) => {
  const frame = document.createElement('iframe')
  frame.src = location.href
  frame.onload = () => loaded(null)
  document.body.append(frame)
})"""

pytestmark = pytest.mark.timeout(120)


class Page:
    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    async def change(self, row: dict[str, Any]) -> str:
        """Ask for an update of a table; the mutation's id, when it is stored."""
        return str(await self.tab.run(f"terminal.table('update', {json.dumps(row)}).then(({{ id }}) => id)"))

    async def is_started(self) -> None:
        await self.tab.loaded("!!globalThis.terminal")

    async def reload(self) -> None:
        await self.tab.reload()
        await self.is_started()

    async def agrees(self, conninfo: str) -> None:
        """Wait until it is live and has nothing pending; then it shows what the database holds."""

        async def settled() -> Any:
            found = await self.tab.run(REPORT)
            revision = state_in_database(conninfo)[0]
            return found if (found["stands"], found["revision"], found["pending"]) == ("live", revision, 0) else None

        found = await until(settled, within=20.0, what="the page to be up to date")
        assert found["state"] == state_in_database(conninfo)[1]
        assert await self.tab.run("checksum(terminal.confirmed, 1000)") == checksum_in_database(conninfo, 1000)


class Pages:
    def __init__(self, conninfo: str, relay: RelayProcess, chromium: Chromium, address: str) -> None:
        self.conninfo, self.relay = conninfo, relay
        self._chromium = chromium
        self._address = f"{address}/page.html?relay=http://{relay.host}:{relay.port}"

    async def open(self) -> Page:
        page = Page(await self._chromium.open(self._address))
        await page.is_started()
        return page


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served_folder(FOLDER) as found:
        yield found


@pytest.fixture
async def pages(database: str, devtools: str, address: str) -> AsyncIterator[Pages]:
    await schema.seed(database)
    async with driven(devtools) as chromium, relay_process(database) as relay:
        yield Pages(database, relay, chromium, address)


async def test_what_is_done_offline_survives_a_reload_and_is_done_once(pages: Pages) -> None:
    page, other = await pages.open(), await pages.open()
    await page.agrees(pages.conninfo)
    await pages.relay.kill()
    await page.tab.loaded("terminal.state === 'offline'")
    ids = [await page.change({"id": "4", "status": "occupied", "guests": guests}) for guests in range(1, 6)]
    # It sends nothing any more; the module it is loaded from comes from the relay.
    await page.tab.run("terminal.stop()")
    await pages.relay.start()
    await page.reload()
    await page.agrees(pages.conninfo)
    assert await page.tab.run("terminal.tables.get('4').guests") == 5
    assert "4: occupied" in await page.tab.run("document.querySelector('#floor').innerText")
    await other.agrees(pages.conninfo)
    assert ledger(pages.conninfo) == dict.fromkeys(ids, 1)
    assert version_of(pages.conninfo, "4") == 1 + 5


async def test_a_reload_in_the_middle_of_sending_loses_and_doubles_nothing(pages: Pages) -> None:
    page = await pages.open()
    await page.agrees(pages.conninfo)
    client = await page.tab.run("terminal.clientId")
    ids = []
    for turn in range(3):
        calls = [f"terminal.table('update', {{ id: '4', seats: {turn * 20 + n} }})" for n in range(20)]
        ids += await page.tab.run(f"Promise.all([{', '.join(calls)}]).then((all) => all.map(({{ id }}) => id))")
        await page.reload()
        assert await page.tab.run("terminal.clientId") == client
    await page.agrees(pages.conninfo)
    assert ledger(pages.conninfo) == dict.fromkeys(ids, 1)
    assert version_of(pages.conninfo, "4") == 1 + 60
    assert await page.tab.run("terminal.tables.get('4').seats") == 59
    execute(pages.conninfo, "update pos.tables set status = 'reserved' where number = 2")
    await page.tab.loaded("document.querySelector('#floor').innerText.includes('2: reserved')")


async def test_two_windows_of_one_browser_share_a_store_and_lose_nothing(pages: Pages) -> None:
    page = await pages.open()
    # A frame of the same page is a window of the same origin: the same database, and a terminal of its own.
    await page.tab.run(OPEN_FRAME)
    await page.tab.loaded(f"!!{FRAME}.terminal")
    windows = ("terminal", f"{FRAME}.terminal")
    calls = [f"{windows[seats % 2]}.table('update', {{ id: '4', seats: {seats + 5} }})" for seats in range(20)]
    await pages.relay.kill()
    await page.tab.run(f"Promise.all([{', '.join(calls)}]).then(() => null)")
    await pages.relay.start()
    await page.agrees(pages.conninfo)
    await page.tab.loaded(f"{FRAME}.terminal.pending.length === 0")
    assert list(ledger(pages.conninfo).values()) == [1] * 20
    assert version_of(pages.conninfo, "4") == 1 + 20
    await page.reload()
    await page.agrees(pages.conninfo)


# --- how it is served


@pytest.fixture
async def relay(database: str) -> AsyncIterator[LocalRelay]:
    async with local_relay(database) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "type_"), [("minipos-sync.js", "text/javascript"), ("minipos-sync.d.ts", "text/plain")]
)
async def test_the_relay_serves_the_library_as_it_is(relay: LocalRelay, name: str, type_: str) -> None:
    status, headers, body = await relay.ask("GET", f"/{name}")
    assert (status, body) == (200, (WEB / name).read_text())
    assert headers["content-type"] == f"{type_}; charset=utf-8"
    status, again, nothing = await relay.ask("GET", f"/{name}", {"If-None-Match": headers["etag"]})
    assert (status, again["etag"], nothing) == (304, headers["etag"], "")
    assert (await relay.ask("GET", f"/{name}", {"If-None-Match": '"other"'}))[0] == 200
    assert (await relay.ask("HEAD", f"/{name}"))[0] == 200


def test_the_library_brings_along_whatever_it_needs() -> None:
    text = (WEB / "minipos-sync.js").read_text()
    named = re.findall(r"(?:\bfrom |import\(|^import )'([^']+)'", text, flags=re.MULTILINE)
    examples_and_types = {"/minipos-sync.js", "./minipos-sync.d.ts"}
    assert [name for name in named if not name.startswith("node:") and name not in examples_and_types] == []


def test_the_types_name_everything_that_the_library_exports() -> None:
    program, types = ((WEB / f"minipos-sync.{ending}").read_text() for ending in ("js", "d.ts"))
    assert exported(program) == exported(types)


def exported(text: str) -> list[str]:
    return sorted(re.findall(r"^export (?:function|class|const) (\w+)", text, flags=re.MULTILINE))
