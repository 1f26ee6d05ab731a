"""A batch is done in sets, and what comes of it is what comes of its mutations one after the other."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, LiteralString

import pytest

from tests.sql.shop import NEW_ORDER, NEW_TABLE, Mutation, Row, Shop, codes, doorbell

TABLES = 4
CLIENTS = ("t1", "t2", "t3")
SEEDS = range(12)
BATCHES = 5
OF_EACH: dict[str, LiteralString] = {
    "log": """select revision, type, action, row_id, version, data::text, size, client_id
              from pos.sync_log where restaurant_id = %s order by revision""",
    "tables": """select id, number, seats, status, order_id, reservation_time, customer, order_items::text,
                        order_total::text, extra::text, version, created_by, updated_by
                 from pos.tables where restaurant_id = %s order by id""",
    "orders": """select id, table_number, customer_name, order_date, status, total::text, items::text, created_at,
                        extra::text, version, revision, created_by, updated_by
                 from pos.order_history where restaurant_id = %s order by id""",
    "claims": """select order_id, table_id, client_id from pos.order_claims where restaurant_id = %s order by 1, 2""",
    "replacements": """select given_id, wanted_id, client_id, table_id from pos.order_replacements
                       where restaurant_id = %s order by 1""",
    "ledger": """select client_id, mutation_id, body_hash, revision, version, details from pos.mutations
                 where restaurant_id = %s order by 1, 2""",
    "head": "select revision, cleared_revision from pos.heads where restaurant_id = %s",
}


@pytest.fixture
def pair(shop: Shop) -> Iterator[list[tuple[Shop, Shop]]]:
    """Three restaurants, and for each one that is to become equal to it."""
    with ExitStack() as stack:
        numbers = [shop.restaurant_id * 100 + n for n in range(6)]
        shops = [stack.enter_context(shop.open(f"pair-{n}")) for n in numbers]
        for each in shops:
            for n in range(TABLES):
                each.table("add", {**NEW_TABLE, "id": f"t{n}", "number": n})
        yield list(zip(shops[:3], shops[3:], strict=True))


def any_mutation(dice: random.Random, shop: Shop, number: int) -> Mutation:
    """Mostly what a set can do, and now and then what it must not."""
    client, id = dice.choice(CLIENTS), dice.choice((None, f"m{number}", f"m{dice.randrange(number + 1)}"))
    version = dice.choice((None,) * 9 + (1,))
    order = f"POS-{dice.randrange(6):03d}"
    table: Row = {"id": f"t{dice.randrange(TABLES + (dice.random() < 0.1))}", "number": dice.randrange(TABLES)}
    table["number"] = int(table["id"][1:]) if dice.random() < 0.95 else table["number"]
    table |= {"seats": dice.choice((4, 4, 5)), "status": dice.choice(("available", "occupied"))}
    for name in dice.sample(("number", "seats", "status"), dice.choice((0, 0, 0, 1))):
        del table[name]
    table |= dice.choice(
        ({}, {"orderId": order}, {"orderId": None}, {"orderId": ""}, {"orderId": order, "orderItems": []})
    )
    table |= dice.choice(
        ({}, {"orderItems": [{"id": "1", "price": 5.0}]}, {"orderItems": '[{"id": "1", "price": 5.00}]'})
    )
    table |= dice.choice(({}, {"orderTotal": 5.50}, {"customer": None, "note": None}, {"version": 7, "waiter": "null"}))
    if dice.random() < 0.7:
        action = dice.choice(("update",) * 6 + ("add", "update_apart", "delete", "add_items"))
        body = {**table, "items": [{"id": dice.choice("12"), "price": 3}]} if action == "add_items" else table
        return Mutation("UPDATE_TABLE", action, body, client, id, version, shop.restaurant_id)
    sale: Row = {
        **NEW_ORDER,
        "id": order if dice.random() < 0.3 else f"X-{number}",
        "tableNumber": dice.randrange(TABLES),
    }
    sale |= {"status": dice.choice(("pending", "completed")), "createdAt": dice.choice((1, 2, "2026-01-02T03:04:05Z"))}
    if dice.random() < 0.1:
        del sale["total"]
    action = dice.choice(("add",) * 8 + ("update", "clear"))
    return Mutation("UPDATE_ORDER", action, {} if action == "clear" else sale, client, id, None, shop.restaurant_id)


def state(shop: Shop, what: str) -> Sequence[Any]:
    return shop.sql(OF_EACH[what], shop.restaurant_id)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_comes_to_what_its_mutations_come_to_one_after_the_other(
    pair: list[tuple[Shop, Shop]], seed: int
) -> None:
    dice = random.Random(seed)
    for number in range(BATCHES):
        batch = [any_mutation(dice, dice.choice(pair)[0], 100 * number + n) for n in range(dice.choice((4, 12, 40)))]
        together = pair[0][0].apply(batch)
        by_restaurant = {first.restaurant_id: second for first, second in pair}
        one_by_one = [
            second.mutate(replace(one, restaurant_id=second.restaurant_id))
            for one in batch
            for second in [by_restaurant[one.restaurant_id]]
        ]
        for place, one in enumerate(batch):
            assert together[place]._replace(message="") == one_by_one[place]._replace(message=""), (place, one)
        for first, second in pair:
            for what in OF_EACH:
                assert state(first, what) == state(second, what), what
            first.check()


def test_what_is_simple_is_not_done_one_by_one(pair: list[tuple[Shop, Shop]]) -> None:
    shops = [shop for both in pair for shop in both]
    tables = [
        Mutation("UPDATE_TABLE", "update", {**NEW_TABLE, "id": f"t{n}", "number": n, "seats": 9, "orderId": f"O-{n}"},
                 f"c{n}", "m1", restaurant_id=shop.restaurant_id)
        for n in range(TABLES) for shop in shops
    ]  # fmt: skip
    sales = [
        Mutation("UPDATE_ORDER", "add", {**NEW_ORDER, "id": f"S-{n}"}, f"c{n}", "m2", restaurant_id=shop.restaurant_id)
        for n in range(TABLES) for shop in shops
    ]  # fmt: skip
    first = shops[0]
    first.sql("set track_functions = 'pl'")
    calls: LiteralString = "select coalesce(sum(calls), 0) from pg_stat_xact_user_functions where funcname = %s"
    with doorbell(first.conninfo) as bell:
        with first.connection.transaction():
            assert set(codes(first.apply(tables + sales))) == {"OK"}
            assert (
                first.one(calls, "mutate_entered"),
                first.one(calls, "apply_tables"),
                first.one(calls, "apply_orders"),
            ) == (
                0,
                1,
                1,
            )
        assert sorted(bell.rings()) == sorted(shop.restaurant_id for shop in shops)
    for shop in shops:
        shop.check()


def test_two_mutations_of_one_row_are_two_changes_in_their_order(pair: list[tuple[Shop, Shop]]) -> None:
    batch = [
        Mutation(
            "UPDATE_TABLE",
            "update",
            {"id": "t1", "seats": seats},
            f"c{seats}",
            f"m{seats}",
            restaurant_id=first.restaurant_id,
        )
        for seats in (5, 6, 6, 7)
        for first, _ in pair
    ]
    before = pair[0][0].head
    answers = pair[0][0].apply(batch)
    assert [(a.revision, a.version) for a in answers[::3]] == [
        (before + 1, 2),
        (before + 2, 3),
        (before + 2, 3),
        (before + 3, 4),
    ]
    for first, _ in pair:
        assert [c.data["seats"] for c in first.log(before)] == [5, 6, 7]
        first.check()


def test_a_role_that_may_not_write_may_not_in_a_set_either(pair: list[tuple[Shop, Shop]]) -> None:
    shop = pair[0][0]
    ids = [shop.restaurant_id] * TABLES
    codes_: LiteralString = """select array_agg(code) from pos.apply(gen_random_uuid(),
        %s::bigint[], %s::text[], %s::text[],
        array_fill('UPDATE_TABLE'::text, array[4]), array_fill('update'::text, array[4]), %s::text[],
        array_fill(null::bigint, array[4]), false, %s::text[])"""
    clients = [f"c{n}" for n in range(TABLES)]
    bodies = [f'{{"id": "t{n}", "seats": 9}}' for n in range(TABLES)]
    roles = ["terminal", "display", "manager", None]
    found = shop.one(codes_, ids, clients, [None] * TABLES, bodies, roles)
    assert found == ["OK", "FORBIDDEN", "OK", "OK"]
    shop.check()
