"""Logs: one event is one line, whatever is in it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
import uvicorn
from websockets.asyncio.client import connect

from relay.logs import configure, fields

log = logging.getLogger("relay.listener")
# Line breaks of all kinds, ESC, C1, bidi overrides and isolates, an invisible tag, a lone surrogate.
HOSTILE = "a\nb\r\x0b\x1b[31m\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200f\U000e0041\ud800\0z"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    names = ("", "relay", "psycopg", "uvicorn.error", "uvicorn.access")
    before = {name: vars(logging.getLogger(name)).copy() for name in names}
    for state in before.values():
        state["handlers"], state["filters"] = state["handlers"][:], state["filters"][:]
    yield
    for name, state in before.items():
        one = logging.getLogger(name)
        one.setLevel(state["level"])
        one.handlers, one.filters, one.propagate = state["handlers"], state["filters"], state["propagate"]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def only(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = lines(capsys)
    return line


def test_a_text_line_has_time_level_part_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    log.info("listening again after %.1f s", 2.3, extra=fields(attempt=3, why="lost it", ok=True, at=None))
    time, rest = only(capsys).split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert abs(datetime.fromisoformat(time).timestamp() - datetime.now().timestamp()) < 60
    assert rest == 'INFO    listener  listening again after 2.3 s  attempt=3  why="lost it"  ok=true  at=null'


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log.warning("late", extra=fields(seconds=1.5, table="စားပွဲ", level="forged", load=float("nan")))
    line = only(capsys)
    found = json.loads(line)
    assert list(found)[:4] == ["time", "level", "part", "message"]
    del found["time"]
    assert found == {
        "level": "WARNING",
        "part": "listener",
        "message": "late",
        "seconds": 1.5,
        "table": "စားပွဲ",
        "level_": "forged",
        "load": "nan",
    }
    assert "စားပွဲ" in line  # readable as it stands


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_value_can_break_or_disguise_a_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", form)
    log.info("hello %s", HOSTILE, extra=fields(name=HOSTILE))
    line = only(capsys)
    assert line.isprintable()
    assert line.count(r"a\nb\r\u000b\u001b[31m\u007f\u0085\u009b") == 2
    if form == "json":
        found = json.loads(line)
        assert (found["message"], found["name"]) == (f"hello {HOSTILE}", HOSTILE)


def test_a_field_cannot_pass_for_two(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    log.info("x", extra=fields(name='a"  role=manager', empty="", plain="table_1"))
    assert only(capsys).endswith(r'x  name="a\"  role=manager"  empty=""  plain=table_1')


@pytest.mark.parametrize("form", ["text", "json"])
def test_long_values_are_cut(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", form)
    log.info("m" * 100_000, extra=fields(name="n" * 100_000, data=["d" * 100_000]))
    line = only(capsys)
    assert "n" * 200 + "…" in line
    assert "n" * 201 not in line
    assert "d" * 200 not in line
    assert len(line) < 2000


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_stays_in_its_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", form)
    try:
        raise ValueError("first\nsecond" + "." * 100_000 + "end")
    except ValueError:
        log.exception("failed", extra=fields(attempt=1))
    line = only(capsys)
    assert "Traceback (most recent call last):\\n" in line
    assert "ValueError: first\\nsecond" in line
    assert "...end" in line
    assert len(line) < 10_000


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("insert into pos.tables (restaurant_id, id, number, seats) values (1, %s, 1, -1)", "MARK"),
        ("insert into pos.tables (restaurant_id, id, number, seats) values (1, %s, 1, -1)", "MARK\nMARK"),
        ("insert into pos.categories (restaurant_id, name) select 1, %s from generate_series(1, 2)", "MARK"),
        ("select %s::integer", "MARK"),
        ("select %s::jsonb", '{"a":\n MARK}'),
    ],
)
def test_what_postgresql_quotes_of_rows_and_values_is_not_in_a_traceback(
    database: str, capsys: pytest.CaptureFixture[str], statement: str, value: str
) -> None:
    configure("info", "text")
    with psycopg.connect(database) as connection, pytest.raises(psycopg.Error, match="MARK") as failed:
        connection.execute(statement.encode(), [value])
    try:
        raise ExceptionGroup("several", [failed.value, RuntimeError("another")])
    except ExceptionGroup:
        log.exception("a batch failed")
    [line] = lines(capsys)
    assert "psycopg.errors." in line
    assert "RuntimeError: another" in line
    assert "MARK" not in line


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_shown(level: str, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure(level, "text")
    for each in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(each, "x")
    assert len(lines(capsys)) == expected


def test_configuring_again_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure("error", "json")
    configure("info", "text")
    log.info("once")
    assert only(capsys).endswith("once")


def test_libraries_speak_through_the_same_handler_and_only_when_it_matters(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", "json")
    for name in ("psycopg", "asyncio", "websockets.client"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("matters")
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    found = [json.loads(line) for line in lines(capsys)]
    assert [(each["part"], each["message"]) for each in found] == [
        ("psycopg", "matters"),
        ("asyncio", "matters"),
        ("websockets.client", "matters"),
    ]


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    if scope["path"] == "/fails":
        raise RuntimeError("broken\nin two lines")


async def _visit(path: str) -> None:
    """Serve as the relay does, connect to `path` once, say "payload", leave."""
    config = uvicorn.Config(
        _echo, ws="websockets-sansio", lifespan="off", log_config=None, log_level=None, host="127.0.0.1"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve([listening]))
        try:
            async with connect(f"ws://127.0.0.1:{port}{path}?token=sesame") as websocket:
                await websocket.send("payload")
                await websocket.recv()
        except Exception as error:  # refused, which is one of the things to see in the log
            logging.getLogger("relay.test").info("left: %s", type(error).__name__)
        server.should_exit = True
        await serving


@pytest.mark.parametrize("path", ["/yes", "/no"])
def test_a_connection_leaves_no_line_of_uvicorns(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    asyncio.run(_visit(path))
    found = lines(capsys)
    assert any("uvicorn   Started server process" in line for line in found)
    assert not [line for line in found if "sesame" in line or "connection" in line or "payload" in line]


def test_debug_shows_connections_but_never_what_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    configure("debug", "text")
    asyncio.run(_visit("/yes"))
    found = "\n".join(lines(capsys))
    assert '"WebSocket /yes?token=sesame" [accepted]' in found
    assert "payload" not in found


def test_a_failure_in_a_connection_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    asyncio.run(_visit("/fails"))
    (line,) = (line for line in lines(capsys) if "ERROR" in line)
    assert "Exception in ASGI application  traceback=" in line
    assert r"RuntimeError: broken\nin two lines" in line
