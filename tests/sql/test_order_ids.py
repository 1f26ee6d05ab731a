"""Order ids that the database gives: of today, never twice, past 999, beside those that terminals make."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import LiteralString
from zoneinfo import ZoneInfo

import pytest

from tests.sql.shop import NEW_ORDER, NEW_TABLE, Mutation, Row, Shop


def prefix(zone: str = "UTC") -> str:
    return datetime.now(ZoneInfo(zone)).strftime("POS-%m%d%Y-")


def instead_of(shop: Shop, id: str) -> str:
    """What a different sale with this id is told to take."""
    shop.order("add", {**NEW_ORDER, "id": id})
    answer = shop.order("add", {**NEW_ORDER, "id": id, "createdAt": 1}, "t2", id="m1")
    assert answer.details is not None
    return str(answer.details["suggestedId"])


@pytest.mark.parametrize("zone", ["UTC", "Asia/Yangon", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_an_order_id_is_dated_by_the_restaurants_time_zone(shop: Shop, zone: str) -> None:
    # Kiritimati and Pago Pago never have the same date.
    shop.sql("update pos.restaurants set time_zone = %s where restaurant_id = %s", zone, shop.restaurant_id)
    before = prefix(zone)
    found = shop.next_order_id()
    assert found in (f"{before}001", f"{prefix(zone)}001")


def test_order_ids_are_counted_up_and_never_given_twice(shop: Shop) -> None:
    with ThreadPoolExecutor(4) as pool:

        def ask(client: int) -> list[str]:
            with shop.again() as terminal:
                return [terminal.next_order_id(f"t{client}") for _ in range(10)]

        found = [id for ids in pool.map(ask, range(4)) for id in ids]
    assert sorted(found) == [f"{prefix()}{n:03}" for n in range(1, 41)]


def test_numbers_grow_past_999(shop: Shop) -> None:
    shop.next_order_id()
    shop.sql("update pos.order_counters set last_number = 998 where restaurant_id = %s", shop.restaurant_id)
    assert [shop.next_order_id() for _ in range(3)] == [f"{prefix()}{n}" for n in (999, 1000, 1001)]


def test_ids_that_terminals_made_are_passed_over(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "id": f"{prefix()}001"})
    shop.table("add", {**NEW_TABLE, "orderId": f"{prefix()}002"})
    shop.table("update", {"id": "t"})  # no longer open, and not in the history either
    assert shop.next_order_id() == f"{prefix()}003"
    # And what was given instead of another is given to nobody else.
    assert instead_of(shop, f"{prefix()}003") == f"{prefix()}004"
    assert shop.next_order_id() == f"{prefix()}005"


def test_a_terminal_that_counts_from_one_again_does_not_try_every_number(alone: Shop) -> None:
    many = 50_000
    # As a replica: nobody needs to be told of so many, and it takes a tenth of the time.
    alone.sql("set session_replication_role = replica")
    alone.sql(
        """insert into pos.order_history (restaurant_id, id, status, total, extra, created_by)
           select 1, n::text, 'completed', 500, jsonb_build_object('createdAt', n), 't1'
           from generate_series(1, %s) as s (n)""",
        many,
    )
    alone.sql("set session_replication_role = origin")
    looks: LiteralString = "select idx_scan from pg_stat_xact_user_tables where relid = 'pos.order_history'::regclass"
    sale: Row = {**NEW_ORDER, "createdAt": "2026-01-02T03:04:05Z"}
    with alone.connection.transaction():
        [answer] = alone.apply([Mutation("UPDATE_ORDER", "add", {**sale, "id": "1"}, "t2")])
        # Each costs tens of microseconds, and a relay gives a whole batch 700 milliseconds.
        assert alone.one(looks) < 2000
    assert answer.code == "OK"
    assert answer.details is not None
    given = int(answer.details["orderId"])
    assert many < given < 3 * many
    # The next ones are counted on from there.
    [answer] = alone.apply([Mutation("UPDATE_ORDER", "add", {**sale, "id": "2", "createdAt": 1.5}, "t2")])
    assert answer.details == {"orderId": str(given + 1)}


def test_an_order_id_that_is_rolled_back_is_given_to_the_next(shop: Shop) -> None:
    with shop.again(autocommit=False) as other:
        first = other.next_order_id()
        other.connection.rollback()
    assert shop.next_order_id() == first


FORMS: list[tuple[str, str]] = [
    ("POS-01022026-001", "POS-01022026-002"),
    ("POS-01022026-999", "POS-01022026-1000"),
    ("7", "8"),
    ("order", "order-2"),
    ("order-9", "order-10"),
    ("table 4, ၁၂", "table 4, ၁၂-2"),
    ("12345678901234567890", "12345678901234567891"),
    ("9" * 20, "99999" + "1" + "0" * 15),
    ("x" * 128, "x" * 100 + "-2"),
    ("x" * 127 + "9", "x" * 110 + "10"),
]


@pytest.mark.parametrize(("wanted", "given"), FORMS)
def test_a_replacement_has_the_form_of_the_id_it_replaces(shop: Shop, wanted: str, given: str) -> None:
    assert instead_of(shop, wanted) == given
    row: Row = {**NEW_ORDER, "id": wanted, "createdAt": 2}
    assert shop.order("add", row, "t3").code == "OK"


def test_each_restaurant_counts_by_itself(shop: Shop) -> None:
    with shop.open(f"beside-{shop.restaurant_id}") as other:
        assert shop.next_order_id() == other.next_order_id()


COUNT: LiteralString = "select count(*) from pos.order_replacements where restaurant_id = %s"


def test_what_is_refused_leaves_no_replacement_behind(shop: Shop) -> None:
    shop.order("add", NEW_ORDER)
    incomplete = {"id": NEW_ORDER["id"], "createdAt": 1, "tableNumber": 4}
    assert shop.order("add", incomplete, "t2").code == "VALIDATION"
    assert shop.order("add", {**NEW_ORDER, "createdAt": 1}, "t2", id="m1").code == "ORDER_ID_TAKEN"
    stale = shop.order("add", {**NEW_ORDER, "createdAt": 1}, "t2", if_version=1)
    assert (stale.code, stale.field, stale.details) == ("CONFLICT", "ifVersion", {"current": None})
    assert shop.one(COUNT, shop.restaurant_id) == 0
