"""How the relay serves its pages: as they are, and with a policy that lets them load nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import websockets

from relay import pages
from tests.relays import LocalRelay, local_relay

WEB = Path(pages.__file__).parent / "web"
MOST_LINES = 400
PARTS = {
    path.relative_to(WEB).as_posix(): path.read_text()
    for path in sorted(WEB.rglob("*"))
    if path.suffix in (".js", ".css", ".html")
}


@pytest_asyncio.fixture(loop_scope="session")
async def relay(database: str) -> AsyncIterator[LocalRelay]:
    async with local_relay(database) as running:
        yield running


async def test_a_page_may_load_what_its_relay_serves_and_nothing_else(relay: LocalRelay) -> None:
    status, headers, _ = await relay.ask("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_the_websocket_is_still_at_the_pages_address(relay: LocalRelay) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{relay.port}/") as terminal:
        await terminal.send('{"type": "HEARTBEAT", "data": {"ping": true}}')
        assert '"HEARTBEAT"' in str(await terminal.recv())


@pytest.mark.parametrize("name", PARTS)
async def test_every_part_is_served_and_names_no_other_host(relay: LocalRelay, name: str) -> None:
    address = "/" + name.removesuffix(".html").removesuffix("index")
    status, headers, body = await relay.ask("GET", address)
    assert (status, body) == (200, PARTS[name])
    assert (await relay.ask("GET", address, {"If-None-Match": headers["etag"]}))[0] == 304
    hosts = set(re.findall(r"(?:https?|wss?):?//([\w.-]+)", body)) - {"127.0.0.1", "www.w3.org"}
    assert hosts == set(), "a page asks nobody but its relay"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_page_has_one_job(name: str) -> None:
    if name == "minipos-sync.js":
        return  # one file on purpose: it is copied into pages of others
    lines = PARTS[name].count("\n")
    assert lines <= MOST_LINES, f"{name} has {lines} lines: split it"


async def test_a_page_comes_with_its_modules_whatever_origins_are_allowed(database: str) -> None:
    own = {"Origin": "http://till.example"}
    async with local_relay(database, origins=("https://pos.example",)) as relay:
        for address in ("/", "/floor/main.js", "/minipos-sync.js"):
            status, headers, _ = await relay.ask("GET", address, own)
            assert (status, "access-control-allow-origin" in headers) == (200, False)  # to read by its own pages alone
        assert (await relay.ask("GET", "/api/sync", own))[0] == 403
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"ws://127.0.0.1:{relay.port}/", additional_headers=own)
