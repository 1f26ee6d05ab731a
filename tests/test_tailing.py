"""`relay tail`: every change in a line, over restarts of the relay, until somebody ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay import schema
from relay.tailing import line, printable
from tests.cluster import free_port
from tests.library.shops import execute
from tests.relays import relay_process
from tests.waiting import slow_down, until

pytestmark = pytest.mark.timeout(90)

CHANGE: dict[str, Any] = {
    "type": "UPDATE_TABLE",
    "data": {"action": "update", "data": {"id": "t", "number": 4, "seats": 4, "status": "occupied", "version": 3}},
    "timestamp": 0,
    "clientId": "till",
    "revision": 7,
}
BEFORE = {"id": "t", "number": 4, "seats": 4, "status": "available", "customer": "Su", "version": 2}


def test_a_line_says_what_is_new() -> None:
    _, revision, who, what, news = line(CHANGE, BEFORE)
    assert (revision.strip(), who.strip(), what, news) == ("7", "till", "table 4", "status occupied, no customer")


@pytest.mark.parametrize(
    ("type_", "data", "what"),
    [
        ("UPDATE_TABLE", {"action": "delete", "data": {"id": "t", "version": 4}}, "table 4 delete"),
        ("UPDATE_MENU", {"action": "add_category", "data": {"name": "Soups"}}, "category Soups add"),
        ("UPDATE_ORDER", {"action": "clear", "data": {}}, "order clear"),
        ("UPDATE_SETTINGS", {"theme": "dark"}, "settings"),
    ],
)
def test_every_kind_of_change_has_a_line(type_: str, data: dict[str, Any], what: str) -> None:
    before = BEFORE if type_ == "UPDATE_TABLE" else {}
    assert line({**CHANGE, "type": type_, "data": data}, before)[3] == what


def test_what_a_terminal_wrote_cannot_steer_the_screen() -> None:
    assert printable("a\x1b[2J\x07\nb\x9b") == "a�[2J��b�"
    assert printable("ရွှေဘဲ 👨‍🍳") == "ရွှေဘဲ 👨‍🍳"


@asynccontextmanager
async def tail(folder: Path, url: str, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path, Path]]:
    """A `relay tail`, with the files it writes to."""
    out, err = folder / "out", folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "tail", "--url", url, *arguments),
            stdout=stdout,
            stderr=stderr,
            env={"PATH": os.environ["PATH"]},
        )
    try:
        yield process, out, err
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def has(file: Path, text: str) -> bool:
    return text in file.read_text()


async def test_it_goes_on_when_the_relay_is_restarted_and_ends_at_ctrl_c(database: str, tmp_path: Path) -> None:
    await schema.seed(database)
    async with relay_process(database) as relay, tail(tmp_path, relay.url, "--table", "4") as (process, out, err):
        await until(partial(has, err, "live at revision"), within=20.0)
        execute(database, "update pos.tables set seats = 7 where number in (3, 4)")
        await until(partial(has, out, "seats 7"), within=10.0)
        await relay.kill()
        await until(partial(has, err, "offline"), within=10.0)
        execute(database, "update pos.tables set seats = 8 where number in (3, 4)")
        await relay.start()
        await until(partial(has, out, "seats 8"), within=30.0)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 2
    assert all("database" in one and "table 4" in one for one in lines)


async def test_with_json_each_line_is_the_message(database: str, tmp_path: Path) -> None:
    await schema.seed(database)
    async with relay_process(database) as relay, tail(tmp_path, relay.url, "--json") as (_, out, err):
        await until(partial(has, err, "live at revision"), within=20.0)
        execute(database, "update pos.tables set seats = 7 where number = 4")
        await until(partial(has, out, "\n"), within=10.0)
    message = json.loads(out.read_text())
    assert (message["type"], message["data"]["data"]["seats"], message["clientId"]) == ("UPDATE_TABLE", 7, "database")


async def test_a_restaurant_that_is_not_there_is_said_and_ends_it(database: str, tmp_path: Path) -> None:
    async with (
        relay_process(database) as relay,
        tail(tmp_path, relay.url, "--restaurant", "nowhere") as (process, _, err),
    ):
        assert await process.wait() == 1
        assert "there is no restaurant 'nowhere'" in err.read_text()


async def test_what_is_no_address_of_a_relay_is_said_and_ends_it(tmp_path: Path) -> None:
    async with tail(tmp_path, "http://127.0.0.1:8080/ws") as (process, _, err):
        assert await process.wait() == 2
        assert "such as ws://127.0.0.1:8080/ws" in err.read_text()


async def test_where_nobody_answers_it_says_where_and_says_so_once(tmp_path: Path) -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws"
    async with tail(tmp_path, url) as (process, _, err):
        await until(partial(has, err, "offline"), within=20.0)
        await slow_down(2.0)  # in which it tries again
        process.send_signal(signal.SIGINT)
        await process.wait()
    said = err.read_text()
    assert f"connecting to {url}, without a token" in said
    assert said.count("offline") == 1
