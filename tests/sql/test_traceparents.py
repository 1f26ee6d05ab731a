"""The traces that a batch notes with its changes, and those of others, which it leaves alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from tests.sql.shop import NEW_TABLE, Row, Shop


def trace(digit: str) -> str:
    return f"00-{digit * 32}-{digit * 16}-01"


def apply(shop: Shop, clients: Sequence[str], bodies: Sequence[str], traceparents: Sequence[str | None]) -> list[int]:
    """The revisions of a batch of saved tables."""
    count = len(clients)
    rows = shop.sql(
        """select revision from pos.apply(%s, %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                                          %s::bigint[], false, %s::text[], %s::text[])""",
        uuid.uuid4(),
        [shop.restaurant_id] * count,
        list(clients),
        [None] * count,
        ["UPDATE_TABLE"] * count,
        ["update"] * count,
        list(bodies),
        [None] * count,
        [None] * count,
        list(traceparents),
    )
    return [revision for (revision,) in rows]


def kept(shop: Shop) -> dict[int, str | None]:
    query = "select revision, traceparent from pos.sync_log where restaurant_id = %s order by revision"
    return dict(shop.sql(query, shop.restaurant_id))


def saved(number: int, **more: object) -> str:
    row: Row = {**NEW_TABLE, "id": f"t{number}", "number": 100 + number, **more}
    return json.dumps(row)


def test_each_change_of_a_batch_has_the_trace_of_its_mutation(shop: Shop) -> None:
    traces = [trace("1"), None, trace("3"), trace("4"), trace("5")]
    revisions = apply(shop, ["a", "b", "a", "c", "a"], [saved(n) for n in range(5)], traces)
    assert [kept(shop)[revision] for revision in revisions] == traces
    again = apply(shop, ["a", "b", "a", "c", "a"], [saved(n, seats=6) for n in range(5)], traces)
    assert [kept(shop)[revision] for revision in again] == traces


def test_a_mutation_that_changes_nothing_takes_no_trace_from_anybody(shop: Shop) -> None:
    [first] = apply(shop, ["a"], [saved(1)], [trace("1")])
    # Its own of before, which is at the head.
    assert apply(shop, ["a"], [saved(1)], [trace("2")]) == [first]
    assert kept(shop)[first] == trace("1")
    # And one of somebody else, committed since this transaction began.
    with Shop(shop.conninfo, shop.restaurant_id) as late:
        late.sql("begin")
        late.sql("select now()")
        [other] = apply(shop, ["b"], [saved(1, seats=8)], [None])
        assert apply(late, ["a"], [saved(1, seats=8)], [trace("3")]) == [other]
        late.sql("commit")
    assert kept(shop)[other] is None


def test_what_is_no_traceparent_does_not_fail_a_sale(shop: Shop) -> None:
    [revision] = apply(shop, ["a"], [saved(1)], ["x" * 1000])
    assert kept(shop)[revision] == "x" * 55
