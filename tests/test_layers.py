"""The project's shape: imports point downward, a module has one job, and every SQL file is part of the schema."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "relay").rglob("*.py"))
MOST_LINES = 400

# Lowest first. A module imports from the lines above its own, never from beside or below it: so there are no cycles.
LAYERS = """
    __init__ doorbells errors handshakes repeats
    replica
    stores
    outbox
    conversation
    terminal
    tailing
    pages progress
    answers auth exchange frames inbound keepalive logrows logs metrics origins strictjson values vault versions
    settings
    admission bodies embedded findings gathering jwts pools rates wire window
    schema unreadable
    restaurants
    asgi catalogue command protocol rollcall systemd terminals upgrade
    appmessages cards database
    actors appdata changes enrolments pending retention snapshots standby trials ways
    backups staff
    session
    hub tracing
    reader
    writer
    checksums gate listener slugs upkeep
    doctor_access doctor_reach doctor_schema doctor_server doctor_tables syncer terminal_commands
    parts
    connection doctor floors
    connections webapp
    health
    board gauges
    presence
    boards
    app
    server
    __main__
"""
RANK = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}


def imports_of(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports, in functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == "relay"):
            module = (node.module or "") if node.level else (node.module or "").partition(".")[2]
            names = [module] if module else [alias.name for alias in node.names]
            # `from . import __version__` takes a name of the package itself.
            yield from (name if name in RANK else "__init__" for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("relay."))


def test_every_module_has_a_layer() -> None:
    assert {path.stem for path in MODULES} == set(RANK), "a new module goes into LAYERS, a removed one out of it"


def test_imports_only_point_downward() -> None:
    for path in MODULES:
        for imported in imports_of(path):
            assert RANK[imported] < RANK[path.stem], f"{path.stem} must not import {imported}: it is not below it"


def test_the_layer_test_sees_every_way_to_import(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "from . import __version__, schema\nfrom .hub import Hub\nfrom relay.logs import fields\nimport relay.wire\n"
        "import json\n\ndef later() -> None:\n    from . import errors\n"
    )
    assert sorted(imports_of(module)) == ["__init__", "errors", "hub", "logs", "schema", "wire"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_has_one_job_and_says_which(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring that says its one job"
    lines = text.count("\n")
    assert lines <= MOST_LINES, f"{path.name} has {lines} lines: it has two jobs, split it"
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "tools"}, f"{path.name} names no job"


def test_the_schema_includes_every_sql_file_once() -> None:
    included = re.findall(r"^\\ir (\S+)$", (ROOT / "sql" / "schema.sql").read_text(), flags=re.MULTILINE)
    found = {str(path.relative_to(ROOT / "sql")) for path in (ROOT / "sql").rglob("*.sql")} - {
        "schema.sql",
        "seed.sql",
        "roles.sql",
    }
    assert sorted(included) == sorted(found), (
        "schema.sql includes every file of sql/ but the others to run, and no other"
    )
