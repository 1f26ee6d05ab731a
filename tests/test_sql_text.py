"""No value stands in the text of a statement (C17): not in what the relay sends, nor in what a function makes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import psycopg
import pytest

from relay import database as relay_database
from relay import schema
from tests.relays import local_relay
from tests.terminals import Terminal, agree

RELAY = Path(schema.__file__).parent
ASKING = {"execute", "executemany", "read", "fetch", "stream", "copy"}
KNOWN = {"listen {channel}", "pragma synchronous = "}  # of constants; the second is of a terminal's own SQLite
HOSTILE = ("'; drop schema pos cascade; --", "$$; drop", "%s %(x)s %%", "\\'; select 1", '" or 1=1', "{0}{a}")


def made_texts(source: str) -> list[str]:
    """The texts put together where something is asked of a database."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ASKING:
            # The values stand beside the text, in a tuple or list.
            texts = [argument for argument in call.args if not isinstance(argument, ast.Tuple | ast.List | ast.Dict)]
            for part in (each for text in texts for each in ast.walk(text)):
                if is_made(part):
                    found.append(ast.unparse(part))
    return [text for text in found if not any(known in text for known in KNOWN)]


def is_made(part: ast.AST) -> bool:
    """Whether this is a text made of others, and not by psycopg.sql."""
    match part:
        case ast.JoinedStr() | ast.BinOp(left=ast.Constant(value=str())) | ast.BinOp(right=ast.Constant(value=str())):
            return True
        case ast.Attribute(attr="format"):
            return "SQL" not in ast.unparse(part)
    return False


@pytest.mark.parametrize("path", sorted(RELAY.glob("*.py")), ids=lambda path: path.stem)
def test_the_relay_puts_no_statement_together(path: Path) -> None:
    assert made_texts(path.read_text()) == []


def test_a_statement_that_is_put_together_is_found() -> None:
    for line in (
        'c.execute(f"select {x}")',
        'c.execute("select " + x)',
        'c.execute("%s" % x)',
        'c.read("{}".format(x))',
    ):
        assert made_texts(line), line
    assert made_texts('c.execute("select %s", (x, f"{y}s"))\nc.execute(SQL("create {}").format(Identifier(x)))') == []


def test_no_function_makes_a_statement_of_its_values(database: str) -> None:
    with psycopg.connect(database) as connection:
        bodies = connection.execute(
            "select p.proname, p.prosrc from pg_proc as p where p.pronamespace = 'pos'::regnamespace"
        ).fetchall()
    assert len(bodies) > 50
    assert [name for name, body in bodies if re.search(r"\bexecute\b", body, re.IGNORECASE)] == []


def test_no_terminal_chooses_the_name_of_a_channel() -> None:
    channels = set(re.findall(r"pg_notify\(([^,]+),", schema.script()))
    assert f"'{relay_database.DOORBELL}'" in channels
    assert [channel for channel in channels if not re.fullmatch(r"'\w+'", channel)] == []


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_statement_in_a_name_is_a_name(database: str, text: str) -> None:
    async with local_relay(database) as relay, Terminal(relay.url, text) as hostile:
        row = {"id": text, "number": 1, "seats": 4, "status": "available", text: text}
        await hostile.table("add", row, id=text)
        await hostile.dish("add_category", {"name": text})
        await hostile.update(
            "UPDATE_MENU", "add_item", {"id": text, "name": text, "price": 1, "category": text, "description": text}
        )
        await agree(database, hostile)
        assert hostile.tables[text][text] == text
        assert (await relay.get("/api/sync?restaurant=" + "%27%3B%20drop"))[0] == 404
