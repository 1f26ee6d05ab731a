"""`relay terminal add`, `list`, `revoke` and `rotate`: who is enrolled, and where the token is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from relay import auth, schema
from tests.least import as_role, install_roles
from tests.test_backups import BACKUP


def relay(conninfo: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        env={"DATABASE_URL": conninfo, "PATH": "", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def add(conninfo: str, name: str, *more: str) -> str:
    """The token of a new terminal."""
    done = relay(conninfo, "terminal", "add", "--name", name, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def enrolled(conninfo: str, token: str) -> tuple[object, ...] | None:
    with psycopg.connect(conninfo) as connection:
        query = "select slug, name, role from pos.find_terminals(%s)"
        return connection.execute(query, ([auth.digest(token)],)).fetchone()


@pytest.fixture
def shops(database: str) -> str:
    """A database with the restaurants default, bistro and cafe."""
    with psycopg.connect(database) as connection:
        connection.execute("insert into pos.restaurants (slug, name) values ('bistro', 'x'), ('cafe', 'x')")
    return database


def test_a_token_is_printed_alone_and_its_explanation_apart(shops: str) -> None:
    done = relay(shops, "terminal", "add", "--restaurant", "bistro", "--name", "Bar 1", "--role", "manager")
    assert done.returncode == 0
    assert auth.TOKEN.fullmatch(done.stdout.removesuffix("\n"))
    assert done.stderr == "Bar 1 of bistro is enrolled as manager. This is its token; it is shown only now:\n"
    assert enrolled(shops, done.stdout.strip()) == ("bistro", "Bar 1", "manager")
    assert enrolled(shops, add(shops, "Door")) == ("default", "Door", "terminal")


def test_a_list_shows_who_is_enrolled_and_no_token(shops: str) -> None:
    tokens = [add(shops, "Bar 1", "--restaurant", slug) for slug in ("cafe", "bistro")]
    tokens.append(add(shops, "Wall", "--role", "display"))
    relay(shops, "terminal", "revoke", "Wall")
    rows = relay(shops, "terminal", "list").stdout
    assert [line.split("\t")[:3] for line in rows.splitlines()] == [
        ["bistro", "Bar 1", "terminal"],
        ["cafe", "Bar 1", "terminal"],
        ["default", "Wall", "display"],
    ]
    assert re.findall(r"\t(since|revoked) \d{4}-\d\d-\d\d \d\d:\d\d$", rows, re.MULTILINE) == [
        "since",
        "since",
        "revoked",
    ]
    assert [token for token in tokens if token in rows or auth.digest(token).hex() in rows] == []
    assert relay(shops, "terminal", "list", "--restaurant", "cafe").stdout.startswith("cafe\tBar 1\t")


def test_a_revoked_terminal_is_unknown_until_it_is_enrolled_anew(shops: str) -> None:
    old = add(shops, "Bar 1")
    assert (
        relay(shops, "terminal", "revoke", "Bar 1").stdout
        == "Bar 1 of default is revoked; its connections are closed\n"
    )
    assert enrolled(shops, old) is None
    again = relay(shops, "terminal", "revoke", "Bar 1")
    assert again.returncode == 1
    assert again.stderr == "relay: there is no terminal 'Bar 1', or it is revoked; relay terminal list shows them\n"
    new = add(shops, "Bar 1", "--role", "display")
    assert (enrolled(shops, old), enrolled(shops, new)) == (None, ("default", "Bar 1", "display"))


def test_a_terminal_gets_another_token_and_keeps_what_it_may(shops: str) -> None:
    old = add(shops, "Bar 1", "--role", "manager")
    done = relay(shops, "terminal", "rotate", "Bar 1")
    new = done.stdout.removesuffix("\n")
    assert auth.TOKEN.fullmatch(new)
    assert done.stderr.startswith("Bar 1 of default has another token; connections with the old one are closed.")
    assert (enrolled(shops, old), enrolled(shops, new)) == (None, ("default", "Bar 1", "manager"))


@pytest.mark.parametrize("verb", ["revoke", "rotate"])
def test_a_name_that_several_restaurants_have_needs_its_restaurant(shops: str, verb: str) -> None:
    tokens = {slug: add(shops, "Bar 1", "--restaurant", slug) for slug in ("bistro", "cafe")}
    done = relay(shops, "terminal", verb, "Bar 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "relay: several restaurants have a terminal 'Bar 1': bistro, cafe; name --restaurant\n"
    assert all(enrolled(shops, token) for token in tokens.values()), "nothing is changed"
    assert relay(shops, "terminal", verb, "Bar 1", "--restaurant", "cafe").returncode == 0
    assert [slug for slug, token in tokens.items() if enrolled(shops, token)] == ["bistro"]
    assert relay(shops, "terminal", verb, "Bar 1", "--restaurant", "default").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "Bar 1"], "default has a terminal 'Bar 1' already; relay terminal rotate gives it another token"),
        (
            ["--name", "Bar 2", "--restaurant", "nowhere"],
            "there is no restaurant 'nowhere'; relay restaurant list shows them",
        ),
        (["--name", " "], "a name has 1 to 100 characters, no control characters, no space at its ends"),
        (["--name", "a\nb"], "a name has 1 to 100 characters, no control characters, no space at its ends"),
    ],
)
def test_a_terminal_that_cannot_be_enrolled_is_told_why(shops: str, arguments: list[str], said: str) -> None:
    token = add(shops, "Bar 1")
    done = relay(shops, "terminal", "add", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"relay: {said}\n")
    assert enrolled(shops, token)


def test_a_role_that_there_is_not_is_refused(shops: str) -> None:
    done = relay(shops, "terminal", "add", "--name", "Bar 1", "--role", "owner")
    assert done.returncode == 2
    assert "terminal" in done.stderr
    assert "display" in done.stderr


def test_a_relay_without_a_key_for_signed_tokens_does_not_start(database: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("too short")
    for name, said in (("none", "cannot be read: No such file or directory"), ("key", "holds no key; allowed: ")):
        environment = {"RELAY_AUTH": "jwt", "RELAY_JWT_KEY": str(tmp_path / name)}
        done = relay(database, "serve", **environment)
        assert (done.returncode, done.stdout) == (78, "")
        assert f"relay: the file that RELAY_JWT_KEY names {said}" in done.stderr
        assert "too short" not in done.stderr


def test_a_list_of_nobody_says_so_and_one_of_no_restaurant_is_refused(database: str) -> None:
    done = relay(database, "terminal", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "relay: no terminal is enrolled; relay terminal add enrols one\n"
    done = relay(database, "terminal", "list", "--restaurant", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "relay: there is no restaurant 'nope'; relay restaurant list shows them\n"


def test_a_role_that_may_not_do_it_is_told_which_one_may(database: str) -> None:
    install_roles(database)
    commands = ("terminal add --name x", "terminals", "kick x", "restaurant list", "seed", "schema apply")
    for arguments in commands:
        done = relay(as_role(database, "pos_relay"), *arguments.split())
        assert done.returncode == 1, arguments
        assert "the role pos_relay may not do this (permission denied" in done.stderr, arguments
        assert "as a member of pos_admin (terminals, kick, prune, restaurant list) or of pos_owner (" in done.stderr
        assert "run `relay schema apply`" not in done.stderr


def test_a_member_of_pos_admin_enrols_and_lists_but_imports_nothing(database: str, tmp_path: Path) -> None:
    install_roles(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create role enroller login in role pos_admin")
    try:
        caller = as_role(database, "enroller")
        add(caller, "Bar 1")
        assert relay(caller, "restaurant", "list").stdout.startswith("default\t")
        assert relay(caller, "prune").returncode == 0
        (tmp_path / "export.json").write_text(json.dumps(BACKUP))
        done = relay(caller, "import", str(tmp_path / "export.json"))
        assert "the role enroller may not do this" in done.stderr
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("drop role enroller")


@pytest.mark.parametrize(("installed", "said"), [(-1, schema.HOW_TO_APPLY), (1, "use a newer relay")])
def test_a_check_says_which_of_the_two_is_to_be_replaced(database: str, installed: int, said: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("update pos.installation set version = version + %s", (installed,))
    done = relay(database, "schema", "check")
    assert (done.returncode, done.stderr) == (1, f"{said}\n")


def test_who_cannot_reach_the_database_is_told_what_to_set(tmp_path: Path) -> None:
    done = relay(f"host={tmp_path}", "restaurant", "list", RELAY_DATA=str(tmp_path / "mine"))
    assert done.returncode == 69
    assert done.stderr.endswith(
        "\nrelay: set DATABASE_URL or the DB_ variables to where it is; "
        f"for the database of `make run`: DB_HOST={tmp_path / 'mine'}\n"
    )
