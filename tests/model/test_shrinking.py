"""The search for a short history, without a relay."""

from __future__ import annotations

from random import Random

from tests.model.shrinking import shrunk
from tests.model.steps import Event, Send, Wish, history


def wishes(events: list[Event]) -> list[Wish]:
    steps = [step for event in events if isinstance(event, Send) for _, some in event.by for step in some]
    return [step for step in steps if isinstance(step, Wish)]


def test_a_seed_is_a_history() -> None:
    assert history(Random(7), 50) == history(Random(7), 50) != history(Random(8), 50)


def test_what_has_no_part_in_a_failure_is_left_out() -> None:
    """A failure that needs a clear after a menu's change is found as these two messages and nothing else."""

    def fails(events: list[Event]) -> bool:
        types = [(wish.type, wish.action) for wish in wishes(events)]
        menu = [place for place, (type_, _) in enumerate(types) if type_ == "UPDATE_MENU"]
        return bool(menu) and ("UPDATE_ORDER", "clear") in types[menu[0] :]

    long = history(Random(3), 60)
    assert fails(long)
    short = shrunk(long, fails, 10.0)
    assert [wish.type for wish in wishes(short)] == ["UPDATE_MENU", "UPDATE_ORDER"]
    assert len(short) <= 2
    assert set(wishes(short)[0].body) <= {"id", "name"}


def test_the_search_ends_when_its_time_is_over() -> None:
    long = history(Random(3), 60)
    assert shrunk(long, lambda _: True, 0.0) == long
