"""The bars of commands that take long: on a screen they show how far it is, in a pipe there is nothing of them."""

from __future__ import annotations

import copy
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from tests.test_backups import BACKUP


def on_a_screen(conninfo: str, *arguments: str | Path) -> tuple[int, str, str]:
    """A command whose standard error is a screen: its status, its output, and what was on the screen."""
    screen, side = pty.openpty()
    shown = bytearray()

    def look() -> None:
        try:
            while some := os.read(screen, 65536):
                shown.extend(some)
        except OSError:
            pass  # the other side is closed, as Linux says it

    looking = Thread(target=look)
    looking.start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            env={"DATABASE_URL": conninfo, "PATH": os.environ["PATH"], "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=side,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
    finally:
        os.close(side)
        looking.join()
        os.close(screen)
    return done.returncode, done.stdout, shown.decode()


def in_a_pipe(conninfo: str, *arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        env={"DATABASE_URL": conninfo, "PATH": os.environ["PATH"]},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def percents(screen: str) -> list[int]:
    return [int(each) for each in re.findall(r"(\d+)%", screen)]


def fill_log(conninfo: str, *sizes: int) -> None:
    """A log of so many changes for each of so many restaurants, the default one first."""
    with psycopg.connect(conninfo) as connection:
        for number in range(1, len(sizes)):
            connection.execute("insert into pos.restaurants (slug, name) values (%s, 'x')", (f"r{number}",))
        ids = [row[0] for row in connection.execute("select restaurant_id from pos.restaurants order by 1").fetchall()]
        for restaurant_id, size in zip(ids, sizes, strict=True):
            connection.execute(
                """insert into pos.sync_log
                     (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
                   select %s, n, 'UPDATE_TABLE', 'update', '1', n, '{}', 2, 'database'
                   from generate_series(1, %s) as n""",
                (restaurant_id, size),
            )
            connection.execute("update pos.heads set revision = %s where restaurant_id = %s", (size, restaurant_id))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A backup with 400 sales."""
    backup = copy.deepcopy(BACKUP)
    [sale] = backup["orderHistory"][:1]
    backup["orderHistory"] = [{**sale, "id": f"POS-01022026-{n:03}", "createdAt": f"sale {n}"} for n in range(400)]
    path = tmp_path / "backup.json"
    path.write_text(json.dumps(backup))
    return path


def test_pruning_shows_how_far_it_is_over_all_restaurants(database: str) -> None:
    fill_log(database, 12_000, 1, 8_000)
    status, said, screen = on_a_screen(database, "prune", "--keep-rows", "1")
    assert (status, said.partition(",")[0]) == (0, "gone: 19998 changes")
    seen = percents(screen)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 100)
    assert len(set(seen)) >= 4
    assert "5,000 went" in screen


def test_an_upgrade_shows_which_file_it_is_at(empty_database: str) -> None:
    status, said, screen = on_a_screen(empty_database, "schema", "apply")
    assert (status, said) == (0, "schema version 3 is installed\n")
    assert "tables_log.sql" in screen
    assert percents(screen)[-1] == 100


def test_an_import_shows_the_sales_that_are_done_before_it_is_committed(database: str, export: Path) -> None:
    status, said, screen = on_a_screen(database, "import", export)
    assert (status, said.partition(":")[0]) == (0, "imported into default")
    assert {12, 25, 50, 75, 100} <= set(percents(screen))


def test_what_fails_ends_the_bar_before_it_says_so(database: str, export: Path) -> None:
    status, said, screen = on_a_screen(database, "import", export, "--restaurant", "nowhere")
    assert (status, said) == (1, "")
    assert screen.endswith("\nrelay: there is no restaurant 'nowhere'; relay restaurant list shows them\r\n")
    assert 100 not in percents(screen)
    with psycopg.connect(database) as connection:
        connection.execute("drop schema pos cascade")
    status, said, screen = on_a_screen(database, "prune")
    assert status == 1
    assert re.search(r"\nrelay: there is no schema in this database; run ", screen), screen


@pytest.mark.parametrize("command", ["prune", "schema apply", "import"])
def test_in_a_pipe_there_is_no_bar(database: str, export: Path, command: str) -> None:
    status, said, errors = in_a_pipe(database, *command.split(), *([export] if command == "import" else []))
    assert (status, errors) == (0, "")
    assert said.count("\n") == 1
