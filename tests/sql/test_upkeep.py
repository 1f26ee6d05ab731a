"""Pruning: what goes, what stays, and that the log stays whole."""

from __future__ import annotations

from typing import LiteralString

import pytest

from tests.sql.shop import NEW_ORDER, NEW_TABLE, Shop


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


PRUNE: LiteralString = "select changes, mutations, tombstones, messages, batches from pos.prune(%s, %s, %s)"
AGE: dict[str, LiteralString] = {
    "sync_log": "update pos.sync_log set created_at = now() - interval '10 days' where revision <= %s",
    "mutations": "update pos.mutations set created_at = now() - interval '10 days' where mutation_id = %s",
    "tombstones": "update pos.tombstones set deleted_at = now() - interval '10 days' where id = %s",
}


def prune(shop: Shop, keep: str = "7 days", keep_log: str = "7 days", rows: int = 1000) -> dict[str, int]:
    [found] = shop.sql(PRUNE, keep, keep_log, rows)
    return dict(zip(("changes", "mutations", "tombstones", "messages", "batches"), found, strict=True))


def revisions(shop: Shop) -> list[int]:
    return [change.revision for change in shop.log()]


def floor(shop: Shop) -> int:
    return int(shop.one("select floor from pos.heads where restaurant_id = %s", shop.restaurant_id))


def change(shop: Shop, times: int) -> None:
    for n in range(times):
        shop.settings({"n": shop.head + n})


def test_old_changes_go_and_the_floor_rises_with_them(shop: Shop) -> None:
    change(shop, 6)
    assert (floor(shop), prune(shop)["changes"]) == (1, 0)
    shop.sql(AGE["sync_log"], 4)
    assert prune(shop)["changes"] == 4
    assert (revisions(shop), floor(shop), shop.head) == ([5, 6], 5, 6)
    assert prune(shop)["changes"] == 0


def test_the_newest_change_stays_however_old(shop: Shop) -> None:
    change(shop, 3)
    shop.sql(AGE["sync_log"], 3)
    assert prune(shop)["changes"] == 2
    assert (revisions(shop), floor(shop)) == ([3], 3)
    with shop.open("untouched") as untouched:
        assert prune(shop)["changes"] == 0
        assert floor(untouched) == 1


def test_no_more_goes_at_once_than_is_asked_for(shop: Shop) -> None:
    with shop.open("other") as other:
        change(shop, 6)
        change(other, 6)
        shop.sql(AGE["sync_log"], 6)
        assert prune(shop, rows=4)["changes"] == 4
        assert (revisions(shop), floor(shop), len(revisions(other))) == ([5, 6], 5, 6)
        assert prune(shop, rows=4)["changes"] == 4
        assert (revisions(shop), floor(shop)) == ([6], 6)
        assert (revisions(other), floor(other)) == ([4, 5, 6], 4)


def test_a_clock_that_was_set_back_makes_no_hole(shop: Shop) -> None:
    change(shop, 6)
    shop.sql(AGE["sync_log"], 6)
    shop.sql("update pos.sync_log set created_at = now() where revision = 3")
    assert prune(shop)["changes"] == 2
    assert (revisions(shop), floor(shop)) == ([3, 4, 5, 6], 3)


def test_a_restaurant_that_is_busy_has_its_turn_the_next_time(shop: Shop) -> None:
    with shop.open("other") as other, shop.again(autocommit=False) as busy:
        change(shop, 3)
        change(other, 3)
        shop.sql(AGE["sync_log"], 3)
        busy.settings({"n": "busy"})
        assert prune(other)["changes"] == 2
        assert (revisions(shop), revisions(other)) == ([1, 2, 3], [3])
        busy.connection.commit()
        assert prune(other)["changes"] == 3


def test_only_one_prunes_at_a_time(shop: Shop) -> None:
    change(shop, 3)
    shop.settings({"n": "old"}, id="old")
    shop.sql(AGE["mutations"], "old")
    shop.sql("set lock_timeout = '100ms'")
    with shop.again(autocommit=False) as first:
        assert prune(first)["mutations"] == 1
        # It does not wait for the first one's rows, or for anything.
        assert set(prune(shop).values()) == {0}


def test_the_ledger_and_tombstones_stay_their_time_whatever_else_goes(shop: Shop) -> None:
    for id in ("old", "new"):
        shop.table("add", {**NEW_TABLE, "id": id})
        shop.table("delete", {"id": id}, id=id)
    # Much older than the log is kept, not as old as they are.
    assert prune(shop, keep_log="0 days")["changes"] == 3
    assert shop.table("delete", {"id": "old"}, id="old").revision == 2
    assert shop.table("update", {**NEW_TABLE, "id": "old"}).code == "GONE"

    shop.sql(AGE["mutations"], "old")
    shop.sql(AGE["tombstones"], "old")
    gone = prune(shop)
    assert (gone["mutations"], gone["tombstones"]) == (1, 1)
    assert shop.sql("select mutation_id from pos.mutations") == [("new",)]
    assert shop.table("update", {**NEW_TABLE, "id": "old"}).version == 1
    assert shop.table("update", {**NEW_TABLE, "id": "new", "number": 41}).code == "GONE"


def test_messages_go_after_a_minute_and_batches_after_an_hour(shop: Shop) -> None:
    for _ in range(2):
        shop.message({"kitchen": "bell"})
        shop.apply([])
    assert set(prune(shop).values()) == {0}
    shop.sql("update pos.messages set created_at = now() - interval '61 seconds' where number = 1")
    shop.sql("update pos.batches set created_at = now() - interval '61 minutes' where ctid = '(0,1)'")
    gone = prune(shop)
    assert (gone["messages"], gone["batches"]) == (1, 1)
    assert shop.sql("select number from pos.messages") == [(2,)]


def test_no_sale_is_ever_pruned(shop: Shop) -> None:
    shop.order("add", {**NEW_ORDER, "status": "completed"})
    shop.order("clear", {})
    shop.sql(AGE["sync_log"], 2)
    prune(shop, keep="0 days", keep_log="0 days")
    assert shop.row("order_history", str(NEW_ORDER["id"]))["status"] == "completed"
