"""Who may come in, as the database has it: tokens as hashes, roles, and who is told when that changes."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import psycopg
import pytest

from relay import auth
from relay.appmessages import KINDS
from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Mutation, Row, Shop, codes, doorbell

WRITES: list[tuple[str, str | None, Row]] = [
    ("UPDATE_TABLE", "add", NEW_TABLE),
    ("UPDATE_ORDER", "add", NEW_ORDER),
    ("UPDATE_MENU", "add_item", NEW_DISH),
    ("UPDATE_SETTINGS", "update", {"taxRate": 5}),
    ("UPDATE_USERS", "add", {"id": "9", "username": "may"}),
    ("NEXT_ORDER_ID", None, {}),
    ("MESSAGE", None, {"text": "ready"}),
    ("USER_LOGIN", None, {}),
    ("FORCE_LOGOUT", None, {}),
    ("TERMINATE_SESSION", None, {}),
    ("DROP_EVERYTHING", None, {}),
]


def hash_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def enrol(shop: Shop, name: str, role: str = "terminal", token: str = "") -> bytes:
    token_hash = hash_of(token or f"{shop.restaurant_id} {name}")
    shop.sql(
        "insert into pos.terminals (restaurant_id, name, role, token_hash) values (%s, %s, %s, %s)",
        shop.restaurant_id,
        name,
        role,
        token_hash,
    )
    return token_hash


def found(shop: Shop, *token_hashes: bytes) -> list[tuple[Any, ...]]:
    return shop.sql("select restaurant_id, name, role from pos.find_terminals(%s)", list(token_hashes))


def count(shop: Shop) -> int:
    return int(shop.one("select staff from pos.heads where restaurant_id = %s", shop.restaurant_id))


def test_a_token_is_found_by_its_hash_until_it_is_revoked(shop: Shop) -> None:
    good, other = enrol(shop, "Bar 1", "manager"), enrol(shop, "Bar 2")
    assert found(shop, good, hash_of("never given")) == [(shop.restaurant_id, "Bar 1", "manager")]
    assert len(found(shop, good, other)) == 2
    shop.sql("update pos.terminals set revoked_at = now() where name = 'Bar 1'")
    assert found(shop, good) == []
    assert shop.sql("select token_hash, role from pos.read_terminals(%s)", [shop.restaurant_id]) == [
        (other, "terminal")
    ]


def test_a_token_costs_one_read_of_an_index(alone: Shop) -> None:
    alone.sql(
        """insert into pos.terminals (restaurant_id, name, token_hash)
           select 1, 'till ' || n, sha256(n::text::bytea) from generate_series(1, 5000) as n"""
    )
    alone.sql("analyze pos.terminals")
    with alone.again(autocommit=False) as one:
        assert len(found(one, hashlib.sha256(b"7").digest())) == 1
        scans = one.sql(
            "select seq_scan, idx_scan, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'terminals'"
        )
        assert scans == [(0, 1, 1)]


def test_the_table_holds_no_token(shop: Shop) -> None:
    token = auth.new_token()
    enrol(shop, "Bar 1", token=token)
    [row] = shop.sql("select to_jsonb(t)::text from pos.terminals as t where restaurant_id = %s", shop.restaurant_id)
    assert token not in row[0]
    assert auth.digest(token).hex() in row[0]


@pytest.mark.parametrize(
    "change",
    [
        "update pos.terminals set revoked_at = now() where name = 'Bar 1' and restaurant_id = %s",
        "update pos.terminals set role = 'display' where name = 'Bar 1' and restaurant_id = %s",
        "update pos.terminals set token_hash = sha256('other') where name = 'Bar 1' and restaurant_id = %s",
        "delete from pos.terminals where name = 'Bar 1' and restaurant_id = %s",
    ],
)
def test_a_change_of_a_terminal_is_counted_and_rings_and_reaches_no_log(shop: Shop, change: Any) -> None:
    enrol(shop, "Bar 1")
    before = count(shop)
    with doorbell(shop.conninfo) as bell:
        shop.sql(change, shop.restaurant_id)
        assert bell.rings() == [shop.restaurant_id]
    assert count(shop) == before + 1
    assert (shop.head, shop.log()) == (0, [])


def test_what_changes_nothing_and_who_is_new_rings_nobody(shop: Shop) -> None:
    with doorbell(shop.conninfo) as bell:
        enrol(shop, "Bar 1")
        shop.sql("update pos.terminals set role = role where restaurant_id = %s", shop.restaurant_id)
        assert bell.rings() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", ""),
        ("name", " Bar"),
        ("name", "Bar\n1"),
        ("name", "x" * 101),
        ("role", "owner"),
        ("role", "nobody"),
        ("token_hash", b"short"),
    ],
)
def test_a_terminal_that_cannot_be_is_refused(shop: Shop, column: str, value: object) -> None:
    values = {"name": "Bar 1", "role": "terminal", "token_hash": hash_of("x"), column: value}
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        shop.sql(
            "insert into pos.terminals (restaurant_id, name, role, token_hash) values (%s, %s, %s, %s)",
            shop.restaurant_id,
            values["name"],
            values["role"],
            values["token_hash"],
        )
    assert caught.value.diag.constraint_name == f"terminals_{column}"


def test_a_token_belongs_to_one_terminal_and_stays_in_its_restaurant(shop: Shop) -> None:
    enrol(shop, "Bar 1", token="same")
    with pytest.raises(psycopg.errors.UniqueViolation):
        enrol(shop, "Bar 2", token="same")
    with shop.open(f"beside-{shop.restaurant_id}") as other:
        enrol(other, "Bar 1")  # a name is unique in its restaurant only
        with pytest.raises(psycopg.Error, match="cannot be moved"):
            shop.sql(
                "update pos.terminals set restaurant_id = %s where restaurant_id = %s",
                other.restaurant_id,
                shop.restaurant_id,
            )
    with pytest.raises(psycopg.Error, match="cannot be truncated"):
        shop.sql("truncate pos.terminals")


def test_the_tokens_of_a_restaurant_go_with_it(alone: Shop) -> None:
    with alone.open("short-lived") as gone:
        token_hash = enrol(gone, "Bar 1")
        alone.sql("delete from pos.restaurants where restaurant_id = %s", gone.restaurant_id)
        assert found(alone, token_hash) == []


# --- roles


def mutations(shop: Shop, role: str | None) -> list[Mutation]:
    return [Mutation(t, action, body, restaurant_id=shop.restaurant_id, role=role) for t, action, body in WRITES]


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("role", [*get_args(auth.Role), "nobody", ""])
def test_what_a_role_may_not_do_is_refused_and_changes_nothing(shop: Shop, role: str, isolate: bool) -> None:
    answers = shop.apply(mutations(shop, role), isolate=isolate)
    for (type_, _, _), answer in zip(WRITES, answers, strict=True):
        if type_ == "DROP_EVERYTHING":
            assert answer.code == ("UNKNOWN_TYPE" if role == "manager" else "FORBIDDEN")
        else:
            assert answer.code == ("OK" if auth.may(role, type_) else "FORBIDDEN"), type_
            assert answer.field == (None if answer.code == "OK" else "type")
    assert {change.type for change in shop.log()} == {
        type_ for type_, action, _ in WRITES if action and type_ != "UPDATE_USERS" and auth.may(role, type_)
    }


def test_without_a_role_everything_is_allowed(shop: Shop) -> None:
    assert codes(shop.apply(mutations(shop, None)))[:-1] == ["OK"] * (len(WRITES) - 1)


def test_the_database_and_the_relay_agree_on_every_mutation_and_role(shop: Shop) -> None:
    asked = set(KINDS) - auth.READS
    for role in [*auth.ROLES, auth.NOBODY]:
        for type_ in asked:
            assert shop.one("select pos.may(%s, %s)", role, type_) == auth.may(role, type_), (role, type_)


def test_a_repeat_of_what_was_allowed_is_refused_to_who_may_not(shop: Shop) -> None:
    first = Mutation("UPDATE_TABLE", "add", NEW_TABLE, id="m1", restaurant_id=shop.restaurant_id, role="terminal")
    assert codes(shop.apply([first])) == ["OK"]
    again = Mutation("UPDATE_TABLE", "add", NEW_TABLE, id="m1", restaurant_id=shop.restaurant_id, role="display")
    assert codes(shop.apply([again])) == ["FORBIDDEN"]


@pytest.mark.parametrize("isolate", [False, True])
def test_nobody_saves_known_tables_or_new_sales_under_cover_of_a_batch(shop: Shop, isolate: bool) -> None:
    tables = [{**NEW_TABLE, "id": f"t{n}", "number": n} for n in range(6)]
    for table in tables:
        shop.table("add", table)
    before = shop.log()
    wanted: list[tuple[str, str, Row]] = [
        *(("UPDATE_TABLE", "update", {**table, "status": "occupied"}) for table in tables),
        *(("UPDATE_TABLE", "add", {**table, "seats": 2}) for table in tables),
        *(("UPDATE_ORDER", "add", {**NEW_ORDER, "id": f"o{n}"}) for n in range(6)),
    ]

    def saves(role: str) -> list[Mutation]:
        return [
            Mutation(type_, action, body, restaurant_id=shop.restaurant_id, id=f"{role} {n}", role=role)
            for n, (type_, action, body) in enumerate(wanted)
        ]

    assert set(codes(shop.apply([*saves("display"), *saves("nobody")], isolate=isolate))) == {"FORBIDDEN"}
    assert shop.log() == before
    mixed = [save for pair in zip(saves("display"), saves("terminal"), strict=True) for save in pair]
    assert codes(shop.apply(mixed, isolate=isolate)) == ["FORBIDDEN", "OK"] * len(wanted)
    assert {change.client_id for change in shop.log(len(before))} == {"t1"}
    shop.check()
