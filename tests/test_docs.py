"""The pages say what is so: their JSON is what the relay takes, nothing is left out, and every name and link exists."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import click
import psycopg
import pytest

from relay import bodies, connection, database, protocol, strictjson
from relay.__main__ import main
from relay.errors import Code
from relay.settings import Settings
from tests.cluster import free_port
from tests.least import install_roles
from tests.relays import local_relay
from tests.terminals import Terminal, state_in_database
from tests.waiting import until

ROOT = Path(__file__).parent.parent
README, PROTOCOL, GUARANTEES = ROOT / "README.md", ROOT / "docs" / "protocol.md", ROOT / "docs" / "guarantees.md"
DBA, TERMINALS, OPERATIONS, PERFORMANCE, SECURITY = (
    ROOT / "docs" / f"{name}.md" for name in ("dba", "terminals", "operations", "performance", "security")
)
PAGES = [README, PROTOCOL, GUARANTEES, DBA, TERMINALS, OPERATIONS, PERFORMANCE, SECURITY, ROOT / "CHANGELOG.md"]
TABLES_OF_TESTS = [GUARANTEES, SECURITY]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page that are marked as this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


JSON = [pytest.param(text, id=f"{page.stem}-{n}") for page in PAGES for n, text in enumerate(blocks(page, "json"))]


# --- the examples


@pytest.mark.parametrize("text", JSON)
def test_a_message_on_a_page_is_one_that_goes_over_the_wire(text: str) -> None:
    message = strictjson.parse(text)
    assert isinstance(message, dict)
    if "type" not in message:
        return  # of the HTTP API
    if "timestamp" in message:  # from the relay, which always says when
        assert isinstance(message["clientId"], str)
        assert isinstance(message["data"], dict)
    else:
        protocol.parse(text)


def test_the_page_has_an_example_of_every_message_and_of_both_directions() -> None:
    messages: list[Any] = [strictjson.parse(text) for text in blocks(PROTOCOL, "json")]
    shown = {(message["type"], "timestamp" in message) for message in messages if "type" in message}
    asked = {"CLIENT_CONNECTED", "HEARTBEAT", "SYNC_REQUEST", "NEXT_ORDER_ID", "MESSAGE"}
    told = {"WELCOME", "HEARTBEAT", "SYNC_RESPONSE", "ACK", "ERROR", "MESSAGE"}
    changed = {"UPDATE_TABLE", "UPDATE_MENU", "UPDATE_ORDER", "UPDATE_SETTINGS"}
    assert {(type_, False) for type_ in asked | changed} | {(type_, True) for type_ in told} <= shown


FIRST = (
    "insert into pos.tables (restaurant_id, id, number, seats) values (1, 't2', 2, 2), (1, 't3', 3, 2)",
    "insert into pos.categories (restaurant_id, name) values (1, 'Soups'), (1, 'Pizza')",
    "insert into pos.menu_items (restaurant_id, id, name, price) values (1, 'd1', 'Mohinga', 25), (1, 'd2', 'Tea', 8)",
    "insert into pos.order_history (restaurant_id, id, status, total) values (1, 'o1', 'pending', 2500)",
)
WHILE_AWAY = (
    "update pos.tables set status = 'occupied' where id = 't1'",
    "delete from pos.tables where id = 't2'",
    "update pos.menu_items set price = price + 1",
    "delete from pos.menu_items where id = 'd2'",
    "delete from pos.categories where name = 'Pizza'",
    'update pos.restaurants set settings = settings || \'{"currency": "MMK"}\'',
    "select pos.update_order(1, 'clear', '{}')",
    "insert into pos.order_history (restaurant_id, id, status, total) values (1, 'o2', 'pending', 1)",
)


def test_the_checksum_on_the_page_is_that_of_the_state_on_the_page() -> None:
    messages: list[Any] = [strictjson.parse(text) for text in blocks(PROTOCOL, "json")]
    terminal = Terminal("ws://nowhere")
    told = next(message["data"] for message in messages if "timestamp" in message and "checksum" in message["data"])
    for message in messages:
        if "timestamp" in message and terminal.revision < told["revision"]:
            terminal._hear(message)
    assert (terminal.revision, terminal.faults) == (told["revision"], [])
    assert terminal.checksum(told["orders"]) == told["checksum"]


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), "it ended by itself"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def change_by_hand(database: str, *statements: str) -> None:
    with psycopg.connect(database) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_the_terminal_on_the_page_shows_what_the_database_holds(database: str) -> None:
    terminal: dict[str, Any] = {"__name__": "terminal"}
    (program,) = blocks(PROTOCOL, "python")
    exec(compile(program, "terminal.py", "exec"), terminal)
    state, cursor, unanswered = terminal["state"], terminal["cursor"], terminal["unanswered"]

    def agrees() -> bool:
        revision, held = state_in_database(database)
        return bool(state) and (cursor["revision"], list(held.values())) == (
            revision,
            [
                state["tables"],
                state["menuItems"],
                sorted(state["categories"]),
                state["settings"],
                state["orderHistory"],
            ],
        )

    row = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
    unanswered["m-1"] = {"type": "UPDATE_TABLE", "id": "m-1", "data": {"action": "add", "data": row}}
    port = free_port()
    async with running(terminal["main"](f"ws://127.0.0.1:{port}/ws")):
        async with local_relay(database, port=port):
            await until(lambda: not unanswered, within=15.0, what="the ACK")
            change_by_hand(database, *FIRST)
            await until(agrees, what="the changes")
        change_by_hand(database, *WHILE_AWAY)
        async with local_relay(database, port=port):
            await until(agrees, within=20.0, what="the terminal to come back")
    assert set(state["tables"]) == {"t1", "t3"}


@pytest.mark.parametrize("text", blocks(DBA, "sql"))
def test_every_statement_on_the_page_for_dbas_runs(database: str, text: str) -> None:
    install_roles(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            'select pos.update_table(1, \'add\', \'{"id": "4", "number": 4, "seats": 2, "status": "available"}\')'
        )
        row = connection.execute("select current_database()").fetchone()
        assert row
        connection.execute(text.replace("minipos_db", row[0]).encode())


# --- nothing is left out


@pytest.mark.parametrize("name", [*get_args(Code), *protocol.KINDS, "WELCOME", "SYNC_RESPONSE", "ACK", "ERROR"])
def test_the_protocol_page_knows_every_error_code_and_message(name: str) -> None:
    assert f"`{name}`" in PROTOCOL.read_text()


@pytest.mark.parametrize("action", sorted({*bodies.TABLE, *bodies.MENU, *bodies.ORDER}))
def test_the_protocol_page_knows_every_action(action: str) -> None:
    assert f"`{action}`" in PROTOCOL.read_text()


@pytest.mark.parametrize("spec", [bodies.TABLE["add"], bodies.MENU["add_item"], bodies.ORDER["add"], bodies.SETTINGS])
def test_the_protocol_page_knows_every_field(spec: bodies.Spec) -> None:
    page = PROTOCOL.read_text()
    assert [name for name in spec.fields if not re.search(rf"\b{name}\b", page)] == []


def test_the_protocol_page_knows_every_close_code() -> None:
    codes = [value for name, value in vars(connection).items() if name.isupper() and value in range(1000, 5000)]
    assert len(codes) >= 3
    assert [code for code in codes if str(code) not in PROTOCOL.read_text()] == []


# --- what is named exists


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".env.example"], ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"\b(?:RELAY|DB|LOG|DRAIN)_[A-Z_]*[A-Z]\b|\b(?:LISTEN_)?DATABASE_URL\b", page.read_text())
    assert set(named) <= {variable for variable, _, _ in Settings.describe()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:`|\$ |=\S+ )make ([a-z0-9-]+)", page.read_text())) <= set(targets)


@pytest.mark.parametrize("page", TABLES_OF_TESTS, ids=lambda page: page.name)
def test_every_test_that_a_table_names_exists(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    assert len(named) > 30
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert not name or re.search(rf"^ *(?:async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), name


@pytest.mark.parametrize("page", TABLES_OF_TESTS, ids=lambda page: page.name)
def test_every_row_of_a_table_of_tests_names_what_shows_it(page: Path) -> None:
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    shown = [row[-1] for row in rows if not row[0].startswith("**") and row[-1] not in ("test", "---")]
    assert len(shown) > 30
    assert [cell for cell in shown if not re.search(r"`(?:tests/|make )", cell)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relay_command_that_a_page_names_exists(page: Path) -> None:
    for words in re.findall(r"(?:`|\$ |=\S+ |/)relay ((?:[a-z]+ ?|--[a-z-]+ ?)+)", page.read_text()):
        command: click.Command = main
        for word in words.split():
            if isinstance(command, click.Group):
                assert word in command.commands, f"relay {words}"
                command = command.commands[word]
            elif word.startswith("--") or not any(isinstance(one, click.Argument) for one in command.params):
                assert word in [name for option in command.params for name in option.opts], f"relay {words}"


def test_the_readme_lists_every_relay_command() -> None:
    def leaves(command: click.Command, words: str) -> list[str]:
        if not isinstance(command, click.Group):
            return [words]
        return [leaf for name, sub in command.commands.items() for leaf in leaves(sub, f"{words} {name}")]

    assert [words for words in leaves(main, "relay") if f"| `{words}` |" not in README.read_text()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.is_file(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(linked), flags=re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}"


# --- the runbook


def test_what_a_log_says_in_the_runbook_is_what_the_relay_says() -> None:
    """Whoever searches a log for a sentence of the page must find it."""
    said = [" ".join(words.split()) for words in re.findall(r"(?<![*\w])\*([a-z][^*]+)\*(?!\*)", prose(OPERATIONS))]
    assert len(said) > 6
    source = " ".join(path.read_text() for path in sorted((ROOT / "relay").glob("*.py")))
    source = re.sub(r'"\s*\n?\s*f?"', "", source)  # a sentence in two parts
    assert [words for words in said if words not in source and words != "italics"] == []


def test_the_runbook_counts_the_connections_that_there_are() -> None:
    reads, live, writes, listens = re.findall(
        r"^\| .+ \| (?:`RELAY_POOL` \()?(\d+)\)? \| \w+ \|$", prose(OPERATIONS), re.M
    )
    pool = Settings(conninfo="", listen_conninfo="", database_named=True).pool
    assert (int(reads), int(live), int(writes), int(listens)) == (pool, database.LIVE, database.WRITERS, 1)
    assert f"That is {pool + database.LIVE + database.WRITERS + 1} of each relay" in prose(OPERATIONS)
