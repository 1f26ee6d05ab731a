"""A repeated mutation has one effect and gets the first one's answer; only what was applied is remembered."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Mutation, Shop, codes, doorbell


def everything(shop: Shop) -> list[Mutation]:
    """One mutation of each kind, each with an id."""
    kinds = [
        ("UPDATE_TABLE", "add", NEW_TABLE),
        ("UPDATE_TABLE", "add_items", {"id": "t", "items": [{"id": "1", "price": 2}]}),
        ("UPDATE_TABLE", "update", {"id": "t", "seats": 5}),
        ("UPDATE_MENU", "add_item", NEW_DISH),
        ("UPDATE_MENU", "add_category", {"name": "Tea"}),
        ("UPDATE_ORDER", "add", NEW_ORDER),
        ("UPDATE_ORDER", "clear", {}),
        ("UPDATE_SETTINGS", "update", {"theme": "dark"}),
        ("NEXT_ORDER_ID", None, {}),
        ("MESSAGE", None, {"kitchen": "bell"}),
        ("UPDATE_TABLE", "delete", {"id": "t"}),
    ]
    return [
        Mutation(type_, action, body, "t1", f"m{n}", restaurant_id=shop.restaurant_id)
        for n, (type_, action, body) in enumerate(kinds)
    ]


def messages(shop: Shop) -> int:
    return int(shop.one("select messages from pos.heads where restaurant_id = %s", shop.restaurant_id))


def test_a_repeat_gets_the_first_answer_and_has_no_effect(shop: Shop) -> None:
    first = [shop.mutate(mutation) for mutation in everything(shop)]
    assert set(codes(first)) == {"OK"}
    before = shop.snapshot(), shop.log(), messages(shop)
    # One by one, on another instance, in a batch, and in blocks of their own.
    with shop.again() as elsewhere, doorbell(shop.conninfo) as bell:
        assert [elsewhere.mutate(mutation) for mutation in everything(shop)] == first
        assert elsewhere.apply(everything(shop)) == first
        assert elsewhere.apply(everything(shop), isolate=True) == first
        assert shop.restaurant_id not in bell.rings()
    assert (shop.snapshot(), shop.log(), messages(shop)) == before
    shop.check()


def test_a_repeat_that_overtakes_its_first_waits_for_it(shop: Shop) -> None:
    mutation = Mutation("UPDATE_TABLE", "add", NEW_TABLE, "t1", "m1")
    with shop.again(autocommit=False) as first, shop.again() as second, ThreadPoolExecutor(1) as pool:
        answer = first.mutate(mutation)
        repeat = pool.submit(second.mutate, mutation)
        first.connection.commit()
        assert repeat.result() == answer
    assert shop.head == 1


def test_an_id_belongs_to_its_client_and_restaurant(shop: Shop) -> None:
    with shop.open(f"beside-{shop.restaurant_id}") as other:
        assert shop.table("add", NEW_TABLE, "t1", id="m1").revision == 1
        assert shop.settings({"theme": "dark"}, "t2", id="m1").revision == 2
        assert other.settings({"theme": "dark"}, "t1", id="m1").revision == 1


def test_the_same_id_with_another_body_is_refused(shop: Shop) -> None:
    shop.table("add", NEW_TABLE, id="m1")
    others = [
        shop.table("add", {**NEW_TABLE, "seats": 5}, id="m1"),
        shop.table("add", '{"id": "t", "number": 40, "seats": 4.0, "status": "available"}', id="m1"),
        shop.table("update", NEW_TABLE, id="m1"),
        shop.table("add", NEW_TABLE, id="m1", if_version=1),
        shop.order("add", NEW_TABLE, id="m1"),
        shop.settings(NEW_TABLE, id="m1"),
    ]
    assert {(answer.code, answer.field) for answer in others} == {("VALIDATION", "id")}
    assert shop.head == 1
    # Another order of keys is the same body, and so is what is never stored.
    reordered = '{"version": 3, "status": "available", "seats": 4,  "number": 40, "id": "t"}'
    assert shop.table("add", reordered, id="m1").revision == 1


def test_after_an_error_the_same_id_may_be_tried_again(shop: Shop) -> None:
    assert shop.table("update", {"id": "t", "seats": 5}, id="m1").code == "VALIDATION"
    shop.table("add", NEW_TABLE)
    assert shop.table("update", {"id": "t", "seats": 5}, id="m1").version == 2
    assert shop.table("update", {"id": "t", "seats": 6}, id="m2", if_version=1).code == "CONFLICT"
    assert shop.table("update", {"id": "t", "seats": 6}, id="m2", if_version=2).version == 3
    shop.table("delete", {"id": "t"})
    assert shop.table("update", {"id": "t", "seats": 7}, id="m3").code == "GONE"
    shop.table("add", NEW_TABLE)
    assert shop.table("update", {"id": "t", "seats": 7}, id="m3").code == "OK"


def test_what_changed_nothing_is_remembered_too(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    assert shop.table("update", {"id": "t", "seats": 4}, id="m1").revision == 1
    assert shop.table("delete", {"id": "nobody"}, id="m2").revision == 1
    shop.table("add", {**NEW_TABLE, "id": "nobody", "number": 41})
    assert shop.table("update", {"id": "t", "seats": 4}, id="m1").revision == 1
    assert shop.table("delete", {"id": "nobody"}, id="m2").revision == 1
    assert "nobody" in shop.rows("tables")


def test_a_rollback_forgets(shop: Shop) -> None:
    with shop.again(autocommit=False) as other:
        other.table("add", NEW_TABLE, id="m1")
        other.connection.rollback()
    assert shop.table("add", {**NEW_TABLE, "seats": 5}, id="m1").revision == 1


# Batches that are sent again


def test_a_batch_sent_again_is_not_applied_again(shop: Shop) -> None:
    here = shop.restaurant_id
    batch = [
        Mutation("UPDATE_TABLE", "add", NEW_TABLE, id="m1", restaurant_id=here),
        Mutation("UPDATE_TABLE", "add", {**NEW_TABLE, "id": "u"}, restaurant_id=here),
        Mutation("NEXT_ORDER_ID", None, {}, id="m2", restaurant_id=here),
        Mutation("MESSAGE", None, {"kitchen": "bell"}, restaurant_id=here),
        Mutation("UPDATE_TABLE", "update", {"id": "nobody"}, id="m3", restaurant_id=here),
        Mutation("UPDATE_TABLE", "update", {"id": "nobody"}, restaurant_id=here),
    ]
    batch_id = uuid.uuid4()
    first = shop.apply(batch, batch_id)
    assert codes(first) == ["OK", "OK", "OK", "OK", "VALIDATION", "VALIDATION"]
    before = shop.snapshot(), messages(shop)
    again = shop.apply(batch, batch_id)
    assert codes(again) == ["OK", "REPEATED", "OK", "REPEATED", "VALIDATION", "VALIDATION"]
    assert [again[n] for n in (0, 2, 4, 5)] == [first[n] for n in (0, 2, 4, 5)]
    assert (shop.snapshot(), messages(shop)) == before
    # What was refused is not remembered, whatever the batch says.
    assert shop.table("update", {"id": "nobody"}, id="m3").code == "VALIDATION"


def test_what_a_batch_left_out_is_still_left_out_when_it_is_sent_again(shop: Shop) -> None:
    batch = [
        Mutation("UPDATE_TABLE", "add", {**NEW_TABLE, "status": "on fire"}, restaurant_id=shop.restaurant_id),
        Mutation("UPDATE_TABLE", "add", NEW_TABLE, restaurant_id=shop.restaurant_id),
    ]
    batch_id = uuid.uuid4()
    first = shop.apply(batch, batch_id)
    assert codes(first) == ["APART", "APART"]
    assert shop.apply(batch, batch_id) == first
    assert shop.head == 0


def test_a_batch_that_was_rolled_back_is_applied_when_it_is_sent_again(shop: Shop) -> None:
    batch = [Mutation("UPDATE_TABLE", "add", NEW_TABLE, restaurant_id=shop.restaurant_id)]
    batch_id = uuid.uuid4()
    with shop.again(autocommit=False) as other:
        other.apply(batch, batch_id)
        other.connection.rollback()
    assert codes(shop.apply(batch, batch_id)) == ["OK"]
    assert shop.head == 1
