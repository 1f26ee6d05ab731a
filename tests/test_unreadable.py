"""Which refusals of PostgreSQL are no matter of the moment, and when they are spoken of."""

from __future__ import annotations

import psycopg
import pytest

from relay import unreadable
from relay.unreadable import Unreadable, is_lasting, refuses_all

ORDERS = "select revision, data from pos.read_orders(%s, %s, %s)"
PRUNE = "select pos.prune(%s, %s)"


def error_of(conninfo: str, statement: str) -> psycopg.Error:
    """What the server says of a statement."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("set statement_timeout = '20ms'")
        with pytest.raises(psycopg.Error) as found:
            connection.execute(statement.encode())
    return found.value


@pytest.mark.parametrize(
    ("statement", "lasts"),
    [
        ("select pos.no_such()", True),
        ("select from pos.no_such", True),
        ("select no_such.function()", True),
        ("do $$ begin raise exception 'broken'; end $$", True),
        ("do $$ begin raise exception 'invalid page' using errcode = 'XX001'; end $$", True),
        ("do $$ begin raise exception 'ours' using errcode = 'RL404'; end $$", False),
        ("select 1 / 0", False),
        ("select 'x'::integer", False),
        ("select pg_sleep(5)", False),
        ("do $$ begin raise exception 'locked' using errcode = '55P03'; end $$", False),
        ("select pg_terminate_backend(pg_backend_pid())", False),
    ],
)
def test_what_the_database_will_refuse_again_is_told_from_the_rest(database: str, statement: str, lasts: bool) -> None:
    assert is_lasting(error_of(database, statement)) is lasts


@pytest.mark.parametrize(
    ("statement", "all_"),
    [
        ("select pos.no_such()", True),
        ("select pos.ours()", True),
        ("select house_rule()", False),
        ("select public.house_rule()", False),
        ("select pos.calls('house_rule')", False),
        ("select calls('pos.ours')", False),
        ("select asks_elsewhere()", False),
        ("select is_short()", True),
        ("select 1 / 0", False),
    ],
)
def test_what_a_function_of_others_refuses_is_not_refused_to_everybody(
    database: str, statement: str, all_: bool
) -> None:
    no_such = "perform no_such_rule();"
    bodies = {
        "pos.ours()": no_such,
        "house_rule()": no_such,
        "asks_elsewhere()": "raise exception 'could not connect to server' using errcode = '08001';",
        "is_short()": "raise exception 'no space left on device' using errcode = '53100';",
        "pos.calls(other text)": "execute 'select ' || other || '()';",
        "calls(other text)": "execute 'select ' || other || '()';",
    }
    with psycopg.connect(database, autocommit=True) as connection:
        for name, body in bodies.items():
            pinned = "set search_path = pg_catalog, public, pg_temp" if name.startswith("pos.") else ""
            connection.execute(
                f"create function {name} returns void language plpgsql {pinned} as $$ begin {body} end $$".encode()
            )
    assert refuses_all(error_of(database, statement)) is all_


def test_a_function_of_ours_is_known_in_any_language() -> None:
    contexts = [
        "PL/pgSQL function pos.apply(uuid,bigint[]) line 3 at PERFORM",
        "PL/pgSQL-Funktion pos.apply(uuid,bigint[]) Zeile 3 bei PERFORM",
        "fonction PL/pgSQL pos.apply(uuid,bigint[]), ligne 3 à PERFORM",
        "在PERFORM的第3行的PL/pgSQL函数pos.apply(uuid,bigint[])",
    ]
    assert [unreadable.FUNCTION.findall(context) for context in contexts] == [["pos.apply"]] * 4


def test_one_unlucky_read_is_not_spoken_of(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, error = Unreadable(), error_of(database, "select pos.no_such()")
    found.note((ORDERS, (1, 2, 3)), error)
    found.note((PRUNE, (1, 2)), error)
    assert (found.complaints, found.again) == ([], [(ORDERS, (1, 2, 3))])
    found.answered((ORDERS, (1, 2, 3)))
    assert not found.again
    assert not caplog.records
    # Where it lasts it is told once; what changes something counts no more than that.
    monkeypatch.setattr(unreadable, "SURE_SECONDS", 0.0)
    for _ in range(3):
        found.note((ORDERS, (1, 2, 3)), error)
        found.note((PRUNE, (1, 2)), error)
    assert found.complaints == ["pos.read_orders: function pos.no_such() does not exist"]
    assert len(caplog.records) == 2
    # That another restaurant can be read says nothing of this one.
    found.answered((ORDERS, (7, 2, 3)))
    assert found.complaints
    found.answered((ORDERS, (1, 2, 3)))
    assert not found.complaints
