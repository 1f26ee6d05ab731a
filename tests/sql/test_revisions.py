"""Revision order is commit order, whoever writes and however."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import LiteralString

import psycopg
import pytest
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure

from tests.sql.shop import NEW_TABLE, Mutation, Shop, doorbell, waiting
from tests.waiting import wait_until


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


WRITERS = 8
TRANSACTIONS = 50  # each
RESTAURANTS = 3
TABLES = 80
GAVE_WAY = (LockNotAvailable, DeadlockDetected, SerializationFailure)


class Writer:
    """Transactions of all kinds, with pauses inside, a tenth of them rolled back."""

    def __init__(self, shop: Shop, restaurants: list[int], seed: int) -> None:
        self._shop = shop
        self._restaurants = restaurants
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        with self._shop.again(autocommit=False) as shop:
            # As a relay does, so that nobody waits for long.
            shop.sql("set lock_timeout = '50ms'")
            shop.connection.commit()
            for _ in range(TRANSACTIONS):
                deed = self._random.choice([self._plain, self._plain, self._batch, self._both, self._savepoint])
                try:
                    deed(shop)
                    if self._random.random() < 0.1:
                        shop.connection.rollback()
                        self.done["rolled back"] += 1
                    else:
                        shop.connection.commit()
                        self.done[deed.__name__] += 1
                except GAVE_WAY:
                    shop.connection.rollback()
                    self.done["gave way"] += 1

    def _pause(self, shop: Shop) -> None:
        shop.sql("select pg_sleep(%s)", self._random.uniform(0, 0.005))

    def _rows(self) -> list[tuple[int, str]]:
        # In order, so that two people seldom deadlock.
        some = [(self._random.choice(self._restaurants), str(self._random.randrange(TABLES))) for _ in range(3)]
        return sorted(set(some))

    def _plain(self, shop: Shop) -> None:
        for restaurant_id, id in self._rows():
            shop.sql(
                "update pos.tables set seats = (seats + 1) %% 1000 where restaurant_id = %s and id = %s",
                restaurant_id,
                id,
            )
            self._pause(shop)

    def _batch(self, shop: Shop) -> None:
        shop.apply(
            [
                Mutation(
                    "UPDATE_TABLE", "update", {"id": id, "mood": self._random.random()}, restaurant_id=restaurant_id
                )
                for restaurant_id, id in self._rows()
            ]
        )
        self._pause(shop)

    def _both(self, shop: Shop) -> None:
        self._plain(shop)
        [restaurant_id, id] = self._rows()[0]
        shop.sql("select pos.update_table(%s, 'update', %s)", restaurant_id, f'{{"id": "{id}", "seats": 3}}')
        self._pause(shop)
        shop.sql("update pos.tables set seats = 4 where restaurant_id = %s and id = %s", restaurant_id, id)

    def _savepoint(self, shop: Shop) -> None:
        self._plain(shop)
        shop.sql("savepoint s")
        self._plain(shop)
        shop.sql("rollback to savepoint s")
        self._plain(shop)


def poll(shop: Shop, restaurants: list[int], stop: threading.Event) -> dict[int, list[int]]:
    """What a reader of `revision > cursor` sees."""
    seen: dict[int, list[int]] = {restaurant_id: [] for restaurant_id in restaurants}
    with shop.again() as reader:
        while True:
            last = stop.is_set()
            for restaurant_id, revisions in seen.items():
                after = revisions[-1] if revisions else 0
                revisions += [row[0] for row in reader.sql(NEXT, restaurant_id, after)]
            if last:
                return seen


NEXT = "select revision from pos.sync_log where restaurant_id = %s and revision > %s order by revision"


def test_a_reader_of_what_follows_its_cursor_never_misses_a_change(shop: Shop) -> None:
    shops = [shop, *(shop.open(f"r{n}") for n in range(1, RESTAURANTS))]
    for each in shops:
        each.sql(
            """insert into pos.tables (restaurant_id, id, number, seats)
               select %s, n, n, 4 from generate_series(0, %s) as n""",
            each.restaurant_id,
            TABLES - 1,
        )
    restaurants = [each.restaurant_id for each in shops]
    writers = [Writer(shop, restaurants, seed) for seed in range(WRITERS)]
    stop = threading.Event()
    with ThreadPoolExecutor(WRITERS + 1) as pool:
        reader = pool.submit(poll, shop, restaurants, stop)
        running = [pool.submit(writer.run) for writer in writers]
        wait(running)
        stop.set()
        seen = reader.result()
    for one in running:
        one.result()

    done = sum((writer.done for writer in writers), Counter[str]())
    assert min(done[kind] for kind in ("_plain", "_batch", "_both", "_savepoint", "rolled back")) > 5, done
    for each in shops:
        # First: a number that a rollback has taken away makes a hole too, and would tell nothing of the order.
        missed = {change.revision for change in each.log()} - set(seen[each.restaurant_id])
        assert not missed, f"the reader was past {len(missed)} changes when they were committed"
        each.check()
        if each is not shop:
            each.connection.close()
    assert shop.sql("select from pos.staged_changes") == shop.sql("select from pos.staged_transactions") == []


def test_what_a_savepoint_takes_back_is_not_logged(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    with shop.connection.transaction():
        shop.sql("update pos.tables set seats = 5")
        shop.sql("savepoint s")
        shop.sql("update pos.tables set seats = 6")
        shop.sql("rollback to savepoint s")
    assert [change.data["seats"] for change in shop.log(1)] == [5]
    with shop.connection.transaction():
        shop.sql("savepoint s")
        shop.sql("update pos.tables set seats = 6")
        shop.sql("rollback to savepoint s")
        shop.sql("update pos.tables set seats = 7")
    with shop.connection.transaction():
        shop.sql("savepoint s")
        shop.sql("update pos.tables set seats = 8")
        shop.sql("rollback to savepoint s")
    assert [change.data["seats"] for change in shop.log(2)] == [7]
    shop.check()


def test_constraints_set_immediate_in_the_middle_lose_nothing(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    with shop.connection.transaction():
        shop.sql("update pos.tables set seats = 5")
        shop.sql("set constraints all immediate")
        assert shop.head == 2
        shop.sql("update pos.tables set seats = 6")
        shop.sql("set constraints all deferred")
        shop.sql("update pos.tables set seats = 7")
        shop.sql("insert into pos.order_history (restaurant_id, id, status, total) values (1, 'o', 'pending', 1)")
        shop.sql("set constraints all immediate")
        shop.sql("delete from pos.tables")
    assert [change.action for change in shop.log(1)] == ["update", "update", "update", "add", "delete"]
    assert shop.one("select revision from pos.order_history") == 5
    shop.check()


@pytest.mark.parametrize("first", ["plain SQL", "a function"])
def test_plain_sql_and_a_function_in_one_transaction_are_logged_as_they_came(shop: Shop, first: str) -> None:
    shop.table("add", NEW_TABLE)
    steps: list[Callable[[], object]] = [
        lambda: shop.sql("update pos.tables set seats = seats + 1"),
        lambda: shop.table("update", {"id": "t", "seats": 10}),
        lambda: shop.sql("update pos.tables set seats = seats + 1"),
        lambda: shop.sql("update pos.tables set seats = seats + 1"),
        lambda: shop.table("update", {"id": "t", "seats": 20}),
    ]
    with shop.connection.transaction():
        for step in steps if first == "plain SQL" else steps[1:]:
            step()
    seats = [5, 10, 11, 12, 20]
    assert [change.data["seats"] for change in shop.log(1)] == (seats if first == "plain SQL" else seats[1:])
    assert {change.client_id for change in shop.log(1)} == {"database", "t1"}
    shop.check()


def test_plain_sql_after_a_function_is_plain_sql_again(shop: Shop) -> None:
    with shop.open("other") as other, shop.again(autocommit=False) as both:
        other.table("add", NEW_TABLE)
        other.table("add", {**NEW_TABLE, "id": "u", "number": 41})
        both.table("add", NEW_TABLE)
        both.sql("update pos.tables set seats = 9 where restaurant_id = %s and id = 't'", other.restaurant_id)
        # Its rows are blocked, not the restaurant.
        other.sql("set lock_timeout = '100ms'")
        assert other.table("update", {"id": "u", "seats": 9}).revision == 3
        both.connection.commit()
        assert [(c.row_id, c.client_id) for c in other.log(2)] == [("u", "t1"), ("t", "database")]
        other.check()


def test_a_transaction_over_two_restaurants_gives_each_its_own_revisions(shop: Shop) -> None:
    with shop.open("other") as other, doorbell(shop.conninfo) as bell:
        for each in (shop, other):
            each.table("add", NEW_TABLE)
        other.dish("add_category", {"name": "Tea"})
        bell.rings()
        shop.sql("update pos.tables set seats = 8")
        assert (shop.head, other.head) == (2, 3)
        assert sorted(bell.rings()) == [shop.restaurant_id, other.restaurant_id]
        shop.check()
        other.check()


def test_restaurants_are_locked_in_one_order_whoever_writes(shop: Shop) -> None:
    with shop.open("other") as other, shop.again(autocommit=False) as holder, ThreadPoolExecutor(1) as pool:
        for each in (other, shop):
            each.table("add", NEW_TABLE)
        head: LiteralString = "select from pos.heads where restaurant_id = %s for update nowait"
        holder.sql(head, shop.restaurant_id)
        # The upper one is not touched while the lower one is waited for: nobody can wait for both in a circle.
        writer = pool.submit(shop.sql, "update pos.tables set seats = 8")
        wait_until(lambda: waiting(other) == 1, what="a commit that waits")
        other.sql(head, other.restaurant_id)
        holder.connection.commit()
        writer.result()


def test_a_begin_forgotten_in_psql_blocks_its_rows_and_not_the_restaurant(shop: Shop) -> None:
    for n in (1, 2):
        shop.table("add", {**NEW_TABLE, "id": str(n), "number": n})
    shop.sql("set lock_timeout = '200ms'")
    with shop.again(autocommit=False) as forgotten:
        forgotten.sql("update pos.tables set seats = 9 where id = '1'")
        assert shop.table("update", {"id": "2", "seats": 5}).revision == 3
        assert shop.order("clear", {}).revision == 4
        shop.sql("update pos.tables set seats = 6 where id = '2'")
        with pytest.raises(LockNotAvailable):
            shop.table("update", {"id": "1", "seats": 5})
        assert shop.head == 5
        forgotten.connection.commit()
    assert [(c.row_id, c.version) for c in shop.log(2) if c.row_id] == [("2", 2), ("2", 3), ("1", 2)]
    shop.check()


def test_whoever_waits_for_a_row_is_logged_after_whoever_held_it(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    with shop.again(autocommit=False) as first, shop.again() as second, ThreadPoolExecutor(1) as pool:
        first.sql("update pos.tables set seats = seats + 1")
        waits = pool.submit(second.sql, "update pos.tables set seats = seats * 10")
        wait_until(lambda: waiting(shop) == 1, what="a second writer that waits")
        first.connection.commit()
        waits.result()
    assert [change.data["seats"] for change in shop.log(1)] == [5, 50]


def test_in_repeatable_read_a_change_is_logged_in_its_place_or_refused(shop: Shop) -> None:
    shop.table("add", NEW_TABLE)
    with shop.again(autocommit=False) as other:
        other.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.sql("update pos.tables set seats = 5")
        other.connection.commit()
        assert shop.head == 2
        # The head has moved since this transaction's state was read.
        other.sql("update pos.tables set seats = 6")
        shop.settings({"theme": "dark"})
        with pytest.raises(SerializationFailure):
            other.connection.commit()
        assert [change.type for change in shop.log(2)] == ["UPDATE_SETTINGS"]
        shop.check()
