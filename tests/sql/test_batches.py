"""Many mutations in one transaction: their order, who is left out, and what one that fails does to the others."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest

from relay.exchange import array
from tests.sql.shop import NEW_ORDER, NEW_TABLE, Mutation, Row, Shop, codes, doorbell, waiting
from tests.waiting import wait_until

LOCK_MS = 200
FAILS: Row = {**NEW_TABLE, "id": "bad", "number": 99, "status": "on fire"}


@pytest.fixture
def other(shop: Shop) -> Iterator[Shop]:
    """A second restaurant."""
    with shop.open(f"other-{shop.restaurant_id}") as made:
        yield made


def add(shop: Shop, table: str, number: int = 0, client: str = "t1", id: str | None = None) -> Mutation:
    body = {**NEW_TABLE, "id": table, "number": number or int(table)}
    return Mutation("UPDATE_TABLE", "add", body, client, id, restaurant_id=shop.restaurant_id)


def seats(shop: Shop, id: str, count: int) -> Mutation:
    return Mutation("UPDATE_TABLE", "update", {"id": id, "seats": count}, restaurant_id=shop.restaurant_id)


def test_answers_come_in_the_order_of_the_mutations_whatever_their_restaurants(shop: Shop, other: Shop) -> None:
    with doorbell(shop.conninfo) as bell:
        answers = shop.apply(
            [
                add(other, "1", client="a"),
                add(shop, "1", client="b"),
                seats(other, "1", 5),
                seats(shop, "9", 5),
                seats(other, "1", 6),
            ]
        )
        assert sorted(bell.rings()) == [shop.restaurant_id, other.restaurant_id]
    assert [(a.code, a.revision, a.version) for a in answers] == [
        ("OK", 1, 1),
        ("OK", 1, 1),
        ("OK", 2, 2),
        ("VALIDATION", None, None),
        ("OK", 3, 3),
    ]
    assert [change.client_id for change in shop.log() + other.log()] == ["b", "a", "t1", "t1"]
    shop.check()
    other.check()


def test_a_refusal_costs_the_others_of_its_restaurant_nothing(shop: Shop) -> None:
    taken = Mutation("UPDATE_ORDER", "add", {**NEW_ORDER, "createdAt": 1}, id="m1", restaurant_id=shop.restaurant_id)
    shop.order("add", NEW_ORDER)
    answers = shop.apply([add(shop, "1"), taken, add(shop, "2", 1, id="m2"), seats(shop, "1", 5)])
    assert codes(answers) == ["OK", "ORDER_ID_TAKEN", "CONFLICT", "OK"]
    assert shop.head == 3
    shop.check()


def test_a_failure_sets_its_restaurant_apart_and_leaves_the_others_alone(shop: Shop, other: Shop) -> None:
    fails = Mutation("UPDATE_TABLE", "add", FAILS, restaurant_id=shop.restaurant_id)
    with doorbell(shop.conninfo) as bell:
        answers = shop.apply([add(shop, "1", id="m1"), add(other, "1"), fails, add(other, "2")])
        assert bell.rings() == [other.restaurant_id]
    assert codes(answers) == ["APART", "OK", "APART", "OK"]
    assert (shop.head, other.head) == (0, 2)
    assert shop.sql("select from pos.mutations where restaurant_id = %s", shop.restaurant_id) == []
    assert shop.apply([add(shop, "1", id="m1")])[0].revision == 1


def test_in_blocks_of_their_own_one_that_fails_hurts_only_itself(shop: Shop) -> None:
    here = shop.restaurant_id
    bad: list[tuple[Mutation, str, str | None]] = [
        (Mutation("UPDATE_TABLE", "add", FAILS, restaurant_id=here), "SQLSTATE 23514", "tables_status"),
        (Mutation("UPDATE_TABLE", "add", '{"id": ', restaurant_id=here), "SQLSTATE 22P02", None),
        (Mutation("UPDATE_TABLE", "add", {**NEW_TABLE, "seats": "many"}, restaurant_id=here), "SQLSTATE 22P02", None),
        (Mutation("UPDATE_TABLE", "add", "[]", restaurant_id=here), "VALIDATION", "number"),
        (Mutation("UPDATE_TABLE", "add", '"x"', restaurant_id=here), "SQLSTATE 22023", None),
        (Mutation("UPDATE_STAFF", "add", {}, restaurant_id=here), "UNKNOWN_TYPE", "type"),
    ]
    good = [add(shop, str(n)) for n in range(1, len(bad) + 1)]
    answers = shop.apply([m for pair in zip(good, (b for b, _, _ in bad), strict=True) for m in pair], isolate=True)
    assert set(codes(answers[::2])) == {"OK"}
    assert [(a.code, a.field) for a in answers[1::2]] == [(code, field) for _, code, field in bad]
    assert shop.head == len(good)
    shop.check()


def test_a_restaurant_that_is_locked_is_left_out_and_the_others_do_not_wait_for_it(shop: Shop, other: Shop) -> None:
    shop.apply([add(shop, "1"), add(other, "1")])
    shop.sql("select set_config('lock_timeout', %s, false)", f"{LOCK_MS}ms")
    with shop.again(autocommit=False) as holder:
        holder.sql("update pos.tables set seats = 9 where restaurant_id = %s and id = '1'", shop.restaurant_id)
        started = time.monotonic()
        answers = shop.apply([add(shop, "2"), seats(other, "1", 5), seats(shop, "1", 5), seats(other, "1", 6)])
        waited = time.monotonic() - started
        assert codes(answers) == ["LOCKED", "OK", "LOCKED", "OK"]
        assert LOCK_MS / 1000 <= waited < LOCK_MS / 1000 + 1
        assert (shop.head, other.head) == (1, 3)
        holder.connection.rollback()
    assert codes(shop.apply([add(shop, "2"), seats(shop, "1", 5)])) == ["OK", "OK"]
    assert shop.one("show lock_timeout") == f"{LOCK_MS}ms"
    shop.check()
    other.check()


def test_only_the_first_of_many_locked_restaurants_is_waited_for(shop: Shop) -> None:
    shops = [shop.open(f"many-{shop.restaurant_id}-{n}") for n in range(12)]
    shop.sql("select set_config('lock_timeout', %s, false)", f"{LOCK_MS}ms")
    with shop.again(autocommit=False) as holder:
        holder.sql("select from pos.heads where restaurant_id = any (%s) for update", [s.restaurant_id for s in shops])
        started = time.monotonic()
        answers = shop.apply([*(add(each, "1") for each in shops), add(shop, "1")])
        waited = time.monotonic() - started
    assert codes(answers) == ["LOCKED"] * 12 + ["OK"]
    assert waited < 4 * LOCK_MS / 1000
    for each in shops:
        each.connection.close()


def test_in_blocks_of_their_own_only_what_wants_a_locked_row_is_held_up(shop: Shop) -> None:
    shop.apply([add(shop, "1"), add(shop, "2")])
    shop.sql("select set_config('lock_timeout', '50ms', false)")
    with shop.again(autocommit=False) as holder:
        holder.sql("update pos.tables set seats = 9 where restaurant_id = %s and id = '1'", shop.restaurant_id)
        answers = shop.apply(
            [seats(shop, "2", 5), seats(shop, "1", 5), seats(shop, "2", 6), seats(shop, "1", 6)], isolate=True
        )
        assert codes(answers) == ["OK", "LOCKED", "OK", "LOCKED"]
        holder.connection.commit()
    shop.check()


def test_a_batch_waits_for_its_lowest_restaurant_before_it_touches_another(shop: Shop, other: Shop) -> None:
    head: LiteralString = "select from pos.heads where restaurant_id = %s for update nowait"
    with shop.again(autocommit=False) as holder, shop.again() as writer, ThreadPoolExecutor(1) as pool:
        holder.sql(head, shop.restaurant_id)
        batch = pool.submit(writer.apply, [add(other, "1"), add(shop, "1")])
        wait_until(lambda: waiting(shop) == 1, what="a batch that waits")
        # So two batches never wait for each other in a circle.
        other.sql(head, other.restaurant_id)
        holder.connection.commit()
        assert codes(batch.result()) == ["OK", "OK"]


def test_an_empty_batch_is_nothing(shop: Shop) -> None:
    assert shop.apply([]) == []


def test_a_message_is_numbered_in_commit_order_and_has_no_revision(shop: Shop) -> None:
    with doorbell(shop.conninfo) as bell:
        answer = shop.message({"to": "t2", "version": 1, "bell": "ring"}, id="m1")
        assert bell.rings() == [shop.restaurant_id]
    assert (answer.code, answer.revision, answer.version) == ("OK", 0, None)
    shop.message({"bell": "again"}, "t3")
    found = shop.sql(
        "select number, client_id, to_client_id, data from pos.read_messages(%s, '{0}')", [shop.restaurant_id]
    )
    assert found == [
        (1, "t1", "t2", '{"to": "t2", "bell": "ring", "version": 1}'),
        (2, "t3", None, '{"bell": "again"}'),
    ]
    assert (shop.head, shop.log()) == (0, [])


def test_texts_arrive_as_they_were_sent(shop: Shop) -> None:
    texts = [
        "",
        " ",
        "NULL",
        "null",
        None,
        '"',
        "\\",
        '\\"',
        "a,b",
        "{}",
        "{",
        "}",
        "'",
        "%s",
        "\n\r\t\x01",
        "\u1019\ufeff\U0001f35c",
        "\\u0041",
    ]
    texts += [f"{one}{two}" for one in texts for two in texts if one and two]
    assert shop.one("select %s::text[]", array(texts)) == texts
    assert shop.one("select %s::text[]", array([])) == []


@pytest.mark.parametrize(
    ("chosen", "used"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_a_batch_is_committed_to_the_disk_whatever_the_default(shop: Shop, chosen: LiteralString, used: str) -> None:
    with shop.again(autocommit=False) as writer:
        writer.sql("set session synchronous_commit = " + chosen)
        assert codes(writer.apply([add(shop, "1")])) == ["OK"]
        assert writer.one("show synchronous_commit") == used
        writer.connection.rollback()


def test_a_batch_that_is_closed_is_not_applied_when_it_arrives(shop: Shop) -> None:
    applied, never = uuid.uuid4(), uuid.uuid4()
    shop.apply([add(shop, "1")], applied)
    assert not shop.one("select pos.close_batch(%s)", applied)
    for _ in range(2):  # its answer may be lost too
        assert shop.one("select pos.close_batch(%s)", never)
    with pytest.raises(psycopg.errors.SerializationFailure):
        shop.apply([add(shop, "2"), add(shop, "3")], never)
    assert set(shop.rows("tables")) == {"1"}


def test_a_batch_under_way_is_waited_for_before_it_is_closed(shop: Shop) -> None:
    for ends, closed in (("commit", False), ("rollback", True)):
        batch_id = uuid.uuid4()
        with shop.again(autocommit=False) as writer, ThreadPoolExecutor(1) as pool:
            writer.apply([add(shop, "1")], batch_id)
            asked = pool.submit(shop.one, "select pos.close_batch(%s)", batch_id)
            with shop.again() as watching:
                wait_until(lambda: waiting(watching))
            getattr(writer.connection, ends)()
            assert asked.result() is closed
