"""Pruning: what goes, what stays, and that the log stays whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import pytest

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Shop, waiting
from tests.waiting import wait_until


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


KINDS: LiteralString = "mutations, tombstones, messages, batches, claims, replacements, counters"
PRUNE: LiteralString = "select " + KINDS + " from pos.prune(%s, %s)"
PRUNE_LOG: LiteralString = "select restaurant_id, changes from pos.prune_log(%s, %s, %s, %s)"
OLD: LiteralString = "now() - interval '10 days'"
AGE: dict[str, LiteralString] = {
    "sync_log": "update pos.sync_log set created_at = now() - interval '10 days' where revision <= %s",
    "mutations": "update pos.mutations set created_at = now() - interval '10 days' where mutation_id = %s",
    "tombstones": "update pos.tombstones set deleted_at = now() - interval '10 days' where id = %s",
}


def prune(shop: Shop, keep: str = "7 days", rows: int = 1000) -> dict[str, int]:
    [found] = shop.sql(PRUNE, keep, rows)
    return dict(zip(KINDS.split(", "), found, strict=True))


def prune_log(shop: Shop, keep: str = "7 days", keep_rows: int = 1000, rows: int = 1000, after: int = 0) -> int:
    """One batch, of one restaurant; how many went."""
    found = shop.sql(PRUNE_LOG, after, keep, keep_rows, rows)
    return int(found[0][1]) if found else 0


def revisions(shop: Shop) -> list[int]:
    return [change.revision for change in shop.log()]


def floor(shop: Shop) -> int:
    return int(shop.one("select floor from pos.heads where restaurant_id = %s", shop.restaurant_id))


def change(shop: Shop, times: int) -> None:
    for n in range(times):
        shop.settings({"n": shop.head + n})


def test_roll_calls_go_after_a_minute_and_a_silent_relay_after_an_hour(shop: Shop) -> None:
    for name in ("old", "silent", "new"):
        assert shop.one("select pos.note_instance(%s, 'machine', 1, '1')", name) is False
    calls = [shop.one("select pos.call_terminals('list', null, null, null, null, false)") for _ in range(2)]
    for call in calls:
        shop.sql("select pos.answer_call(%s, 'new', '[]')", call)
    shop.sql("update pos.calls set created_at = now() - interval '61 s' where call_id = %s", calls[0])
    shop.sql("update pos.call_answers set answered_at = now() - interval '61 s' where call_id = %s", calls[0])
    shop.sql("update pos.instances set seen_at = now() - interval '61 min' where instance_id = 'old'")
    shop.sql("update pos.instances set seen_at = now() - interval '59 min' where instance_id = 'silent'")
    prune(shop)
    assert shop.sql("select call_id from pos.calls") == [(calls[1],)]
    assert shop.sql("select call_id from pos.call_answers") == [(calls[1],)]
    query: LiteralString = "select instance_id, silent, answered from pos.read_call(%s, '{}') order by instance_id"
    assert shop.sql(query, calls[1]) == [("new", False, True), ("silent", True, False)]


def test_old_changes_go_and_the_floor_rises_with_them(shop: Shop) -> None:
    change(shop, 6)
    assert (floor(shop), prune_log(shop)) == (1, 0)
    shop.sql(AGE["sync_log"], 4)
    assert prune_log(shop) == 4
    assert (revisions(shop), floor(shop), shop.head) == ([5, 6], 5, 6)
    assert prune_log(shop) == 0


def test_changes_beyond_so_many_go_however_young(shop: Shop) -> None:
    change(shop, 6)
    assert prune_log(shop, keep_rows=6) == 0
    assert prune_log(shop, keep_rows=2) == 4
    assert (revisions(shop), floor(shop)) == ([5, 6], 5)


def test_the_newest_change_stays_however_old(shop: Shop) -> None:
    change(shop, 3)
    shop.sql(AGE["sync_log"], 3)
    assert prune_log(shop) == 2
    assert (revisions(shop), floor(shop)) == ([3], 3)
    with shop.open("untouched") as untouched:
        assert prune_log(shop, "0 days", keep_rows=1) == 0
        assert floor(untouched) == 1


def test_no_more_goes_at_once_than_is_asked_for(shop: Shop) -> None:
    with shop.open("other") as other:
        change(shop, 6)
        change(other, 6)
        shop.sql(AGE["sync_log"], 6)
        assert prune_log(shop, rows=4) == 4
        assert (revisions(shop), floor(shop), len(revisions(other))) == ([5, 6], 5, 6)
        assert prune_log(shop, rows=4) == 1
        assert (revisions(shop), floor(shop)) == ([6], 6)
        assert shop.sql(PRUNE_LOG, 0, "7 days", 1000, 4) == [(other.restaurant_id, 4)]
        assert shop.sql(PRUNE_LOG, other.restaurant_id, "7 days", 1000, 4) == []
        assert (revisions(other), floor(other)) == ([5, 6], 5)


def test_a_clock_that_was_set_back_makes_no_hole(shop: Shop) -> None:
    change(shop, 6)
    shop.sql(AGE["sync_log"], 6)
    shop.sql("update pos.sync_log set created_at = now() where revision = 3")
    assert prune_log(shop) == 2
    assert (revisions(shop), floor(shop)) == ([3, 4, 5, 6], 3)


def test_a_restaurant_whose_head_is_held_has_its_turn_the_next_time(shop: Shop) -> None:
    with shop.open("other") as other, shop.again(autocommit=False) as busy:
        change(shop, 3)
        change(other, 3)
        shop.sql(AGE["sync_log"], 3)
        busy.settings({"n": "busy"})
        assert shop.sql(PRUNE_LOG, 0, "7 days", 1000, 1000) == [(other.restaurant_id, 2)]
        assert (revisions(shop), floor(shop), revisions(other)) == ([1, 2, 3], 1, [3])
        busy.connection.commit()
        assert prune_log(other) == 3


def test_no_writer_waits_for_changes_to_be_let_go(shop: Shop) -> None:
    with shop.again(autocommit=False) as slow, shop.again() as pruning, ThreadPoolExecutor(1) as pool:
        change(shop, 6)
        shop.sql(AGE["sync_log"], 6)
        # Somebody holds a row that is to go, so the pruning stands still in its middle.
        slow.sql("select from pos.sync_log where revision = 3 for update")
        gone = pool.submit(prune_log, pruning)
        wait_until(lambda: waiting(shop), what="the pruning to wait for the row")
        shop.sql("set lock_timeout = '50ms'")
        change(shop, 1)
        slow.connection.rollback()
        gone.result()
    prune_log(shop)  # where the machine was so busy that it gave up
    assert shop.head == 7
    assert revisions(shop) == list(range(floor(shop), 8))
    assert floor(shop) >= 6


def test_a_terminal_that_lags_is_waited_for_but_not_for_ever(shop: Shop) -> None:
    note: LiteralString = "select pos.note_lagging(%s, %s, %s)"
    change(shop, 6)
    shop.sql(note, "a", [shop.restaurant_id], [4])
    shop.sql(note, "b", [shop.restaurant_id], [2])
    assert prune_log(shop, keep_rows=1) == 2
    assert (revisions(shop), floor(shop)) == ([3, 4, 5, 6], 3)
    shop.sql(note, "b", [], [])
    assert prune_log(shop, keep_rows=1) == 2
    # What is older than an hour goes, and so does what an instance asked for that has not been heard of for a minute.
    shop.sql("update pos.sync_log set created_at = now() - interval '61 minutes' where revision = 5")
    shop.sql(note, "a", [shop.restaurant_id], [4])
    assert prune_log(shop, "1 minute") == 1
    change(shop, 1)
    shop.sql(note, "a", [shop.restaurant_id], [5])
    assert prune_log(shop, keep_rows=1) == 0
    shop.sql("update pos.lagging set seen_at = now() - interval '61 seconds'")
    assert prune_log(shop, keep_rows=1) == 1
    assert (revisions(shop), floor(shop)) == ([7], 7)


def test_only_one_prunes_at_a_time(shop: Shop) -> None:
    change(shop, 3)
    shop.settings({"n": "old"}, id="old")
    shop.sql(AGE["mutations"], "old")
    shop.sql("set lock_timeout = '100ms'")
    with shop.again(autocommit=False) as first:
        assert prune(first)["mutations"] == 1
        # It does not wait for the first one's rows, or for anything.
        assert set(prune(shop).values()) == {0}
        shop.sql(AGE["sync_log"], 4)
        assert prune_log(first) == 3
        assert prune_log(shop) == 0


def test_what_somebody_holds_is_let_go_the_next_time(shop: Shop) -> None:
    for id in ("held", "free"):
        shop.dish("add_item", {**NEW_DISH, "id": id})
        shop.dish("delete_item", {"id": id})
        shop.sql(AGE["tombstones"], id)
    shop.next_order_id()
    shop.sql("update pos.order_counters set used_at = " + OLD)
    shop.sql("set lock_timeout = '100ms'")
    with shop.again(autocommit=False) as forgotten:
        # These take the tombstone and the counter.
        forgotten.sql("insert into pos.menu_items (restaurant_id, id, name, price) values (1, 'held', 'Soup', 500)")
        forgotten.next_order_id()
        gone = prune(shop)
        assert (gone["tombstones"], gone["counters"]) == (1, 0)
        forgotten.connection.rollback()
    assert shop.sql("select id from pos.tombstones") == [("held",)]
    gone = prune(shop)
    assert (gone["tombstones"], gone["counters"]) == (1, 1)


def test_the_ledger_and_tombstones_stay_their_time_whatever_else_goes(shop: Shop) -> None:
    for id in ("old", "new"):
        shop.table("add", {**NEW_TABLE, "id": id})
        shop.table("delete", {"id": id}, id=id)
    # Much older than the log is kept, not as old as they are.
    assert prune_log(shop, "0 days") == 3
    assert shop.table("delete", {"id": "old"}, id="old").revision == 2
    assert shop.table("update", {**NEW_TABLE, "id": "old"}).code == "GONE"

    shop.sql(AGE["mutations"], "old")
    shop.sql(AGE["tombstones"], "old")
    gone = prune(shop)
    assert (gone["mutations"], gone["tombstones"]) == (1, 1)
    assert shop.sql("select mutation_id from pos.mutations") == [("new",)]
    assert shop.table("update", {**NEW_TABLE, "id": "old"}).version == 1
    assert shop.table("update", {**NEW_TABLE, "id": "new", "number": 41}).code == "GONE"


def test_messages_go_after_a_minute_and_batches_after_a_day(shop: Shop) -> None:
    for _ in range(2):
        shop.message({"kitchen": "bell"})
        shop.apply([])
    shop.sql("update pos.batches set created_at = now() - interval '23 hours'")
    assert set(prune(shop).values()) == {0}
    shop.sql("update pos.messages set created_at = now() - interval '61 seconds' where number = 1")
    shop.sql(
        "update pos.batches set created_at = now() - interval '25 hours'"
        " where batch_id = (select min(batch_id::text)::uuid from pos.batches)"
    )
    gone = prune(shop)
    assert (gone["messages"], gone["batches"]) == (1, 1)
    assert shop.sql("select number from pos.messages") == [(2,)]


def test_no_sale_is_ever_pruned(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "status": "completed"})
    shop.order("clear", {})
    shop.sql(AGE["sync_log"], 2)
    prune(shop, keep="0 days")
    prune_log(shop, "0 days")
    assert shop.row("order_history", str(NEW_ORDER["id"]))["status"] == "completed"


CLAIM_ORDERS: LiteralString = "select order_id from pos.order_claims order by order_id"


def grow_old(shop: Shop) -> None:
    """All that is known of order ids was noted long ago."""
    shop.sql("update pos.order_claims set created_at = " + OLD)
    shop.sql("update pos.order_replacements set created_at = " + OLD)
    shop.sql("update pos.order_counters set used_at = " + OLD)


def pay_long_ago(shop: Shop, id: str) -> None:
    """A finished sale whose last change is old; only a replica's role may write that."""
    shop.sql("set session_replication_role = replica")
    shop.sql("update pos.order_history set updated_at = " + OLD + " where id = %s", id)
    shop.sql("set session_replication_role = origin")


def test_what_is_known_of_an_order_id_stays_as_long_as_the_order_is_open(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "id": "1", "number": 1, "orderId": "A-1"}, "t1")
    shop.table("add", {**NEW_TABLE, "id": "2", "number": 2, "orderId": "A-1"}, "t2")  # another order: it gets A-2
    grow_old(shop)
    gone = prune(shop)
    assert (gone["claims"], gone["replacements"]) == (0, 0)
    # The second terminal still calls it A-1.
    shop.table("update", {"id": "2", "orderId": "A-1", "seats": 9}, "t2")
    assert shop.row("tables", "2")["orderId"] == "A-2"

    pending = {**NEW_ORDER, "id": "A-1", "tableNumber": 2, "status": "pending", "createdAt": 2}
    assert shop.order("add", pending, "t2").details == {"orderId": "A-2"}
    shop.table("update", {"id": "2"}, "t2")
    shop.table("update", {"id": "1"}, "t1")
    pay_long_ago(shop, "A-2")
    # On no table now, but not paid; of A-1 nothing is known but that a table carried it long ago.
    gone = prune(shop)
    assert (gone["claims"], gone["replacements"]) == (1, 0)
    assert shop.sql(CLAIM_ORDERS) == [("A-2",)]


def test_a_late_repeat_of_a_renamed_sale_is_known_its_time_after_it_was_paid(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "id": "A-1", "status": "completed", "createdAt": 1}, "t1")
    paid = {**NEW_ORDER, "id": "A-1", "status": "completed", "createdAt": 2}
    assert shop.order("add", paid, "t2").details == {"orderId": "A-2"}
    grow_old(shop)
    assert prune(shop)["replacements"] == 0
    head = shop.head
    assert shop.order("add", paid, "t2").details == {"orderId": "A-2"}
    assert shop.head == head

    pay_long_ago(shop, "A-2")
    assert prune(shop)["replacements"] == 1
    assert shop.row("order_history", "A-2")["status"] == "completed"


def test_an_edit_of_an_order_that_was_paid_lately_is_stale_however_old_the_order(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "id": "1", "number": 1, "orderId": "A-1"})
    shop.order("add", {**NEW_ORDER, "id": "A-1", "tableNumber": 7, "status": "completed"})
    shop.table("update", {"id": "1"})
    grow_old(shop)
    assert prune(shop)["claims"] == 0
    assert shop.table("update", {"id": "1", "orderId": "A-1"}).code == "CONFLICT"
    pay_long_ago(shop, "A-1")
    assert prune(shop)["claims"] == 1


def test_a_counter_of_order_ids_goes_when_its_form_is_long_out_of_use(shop: Shop) -> None:
    first = shop.next_order_id()
    assert prune(shop)["counters"] == 0
    assert shop.next_order_id() > first
    grow_old(shop)
    assert shop.next_order_id() > first  # used again
    assert prune(shop)["counters"] == 0
    grow_old(shop)
    assert prune(shop)["counters"] == 1
