"""What relays ask each other for the board: shared, bounded, and nothing but that."""

from __future__ import annotations

from typing import Any

from tests.sql.shop import Shop

NOTE = "select pos.note_instance(%s, 'kitchen', %s, '1.0')"


def boards(shop: Shop, call_id: Any, *known: str) -> list[tuple[Any, ...]]:
    """Of every relay its id, whether it is silent and has answered, and its answer."""
    query = "select instance_id, silent, answered, board from pos.read_boards(%s, %s)"
    return shop.sql(query, call_id, list(known))


def test_who_looks_at_the_same_moment_shares_a_call_and_each_restaurant_has_its_own(alone: Shop) -> None:
    [(first,)], [(second,)] = (alone.sql("select pos.call_boards(null)") for _ in range(2))
    [(other,)] = alone.sql("select pos.call_boards(%s)", alone.restaurant_id)
    assert first == second != other
    alone.sql("update pos.calls set created_at = created_at - interval '1 second'")
    [(later,)] = alone.sql("select pos.call_boards(null)")
    assert later not in (first, other)


def test_a_hundred_calls_within_ten_seconds_are_enough_and_keep_nobody_from_closing_a_terminal(alone: Shop) -> None:
    alone.sql("insert into pos.calls (kind, restaurant_id) select 'board', n from generate_series(1001, 1100) as n")
    assert alone.sql("select pos.call_boards(null)") == [(None,)]
    [(kick,)] = alone.sql("select pos.call_terminals('kick', null, 'a', null, null, false)")
    assert kick is not None
    alone.sql("update pos.calls set created_at = created_at - interval '11 seconds'")
    assert alone.sql("select pos.call_boards(null)") != [(None,)]


def test_an_answer_is_read_once_and_never_that_to_another_kind_of_call(alone: Shop) -> None:
    for name, port in (("one", 1), ("two", 2)):
        alone.sql(NOTE, name, port)
    [(call_id,)] = alone.sql("select pos.call_boards(null)")
    alone.sql("""select pos.answer_call(%s, 'two', '{"status": "healthy"}')""", call_id)
    assert boards(alone, call_id) == [("one", False, False, None), ("two", False, True, {"status": "healthy"})]
    assert boards(alone, call_id, "two") == [("one", False, False, None), ("two", False, True, None)]
    assert boards(alone, None) == [("one", False, False, None), ("two", False, False, None)]
    [(roll,)] = alone.sql("select pos.call_terminals('list', null, null, null, null, false)")
    alone.sql("select pos.answer_call(%s, 'two', '[]')", roll)
    assert boards(alone, roll) == [("one", False, False, None), ("two", False, False, None)]


def test_a_relay_that_was_started_again_takes_the_place_of_the_one_before(alone: Shop) -> None:
    alone.sql(NOTE, "before", 1)
    alone.sql(NOTE, "beside", 2)
    alone.sql("update pos.instances set started_at = now() - interval '1 hour', seen_at = now() - interval '1 minute'")
    assert boards(alone, None) == [("before", True, False, None), ("beside", True, False, None)]
    alone.sql(NOTE, "after", 1)
    assert boards(alone, None) == [("after", False, False, None), ("beside", True, False, None)]


def test_two_relays_of_one_name_that_both_run_are_both_shown(alone: Shop) -> None:
    alone.sql(NOTE, "one", 1)
    alone.sql("update pos.instances set started_at = started_at - interval '1 hour'")
    alone.sql(NOTE, "two", 1)
    alone.sql(NOTE, "one", 1)
    assert [one[0] for one in boards(alone, None)] == ["one", "two"]
