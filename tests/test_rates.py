"""How fast terminals may speak: what goes through at once, what a second gives back, and who is cut off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from relay.errors import ComeBack
from relay.rates import AT_ONCE_SECONDS, Rates
from relay.settings import Settings

NOW = 1_000_000.0
DEFAULT = Settings.read({})


class Taker:
    def __init__(self) -> None:
        self.busy_until = self.refused_until = 0.0


def rates(**limits: int) -> Rates:
    none: dict[str, Any] = dict.fromkeys(
        ("terminal_messages", "terminal_bytes", "restaurant_messages", "restaurant_bytes"), 0
    )
    return Rates(dataclasses.replace(DEFAULT, **none | limits))


def taken(found: Rates, terminal: Taker, restaurant: Taker | None, text: str | bytes, now: float, tries: int) -> int:
    """How many of so many messages are taken at a time."""
    return sum(found.take(terminal, restaurant, text, now) == 0.0 for _ in range(tries))


def test_by_default_a_terminal_may_say_a_thousand_messages_at_once_and_a_hundred_a_second() -> None:
    found, terminal = Rates(DEFAULT), Taker()
    assert taken(found, terminal, Taker(), "x" * 1000, NOW, 5000) == 1000
    assert taken(found, terminal, Taker(), "x" * 1000, NOW + 1, 5000) == 100
    assert taken(found, terminal, Taker(), "x" * 1000, NOW + 100, 5000) == 1000


def test_by_default_an_import_of_a_menu_with_photographs_goes_through() -> None:
    photo = "data:image/jpeg;base64," + "A" * 60_000
    assert taken(Rates(DEFAULT), Taker(), Taker(), photo, NOW, 500) == 500


@pytest.mark.parametrize("text", ["x" * 1000, "ရ" * 333 + "x", b"x" * 1000], ids=["ascii", "burmese", "binary"])
def test_bytes_are_counted_as_they_go_over_the_wire(text: str | bytes) -> None:
    found, terminal = rates(terminal_bytes=10_000), Taker()
    assert taken(found, terminal, None, text, NOW, 1000) == 100
    assert taken(found, terminal, None, text, NOW + 1, 1000) == 10


def test_a_message_larger_than_all_that_goes_at_once_gets_through_where_nothing_was_before() -> None:
    found, terminal = rates(terminal_bytes=1000), Taker()
    assert found.take(terminal, None, "x" * 50_000, NOW) == 0.0
    assert found.take(terminal, None, "x", NOW + 1) == pytest.approx(39, abs=0.1)
    assert found.take(terminal, None, "x", NOW + 41) == 0.0


def test_a_restaurant_has_a_rate_for_all_its_terminals() -> None:
    found, restaurant, other = rates(restaurant_messages=100), Taker(), Taker()
    assert sum(taken(found, Taker(), restaurant, "x", NOW, 100) for _ in range(20)) == 1000
    assert found.take(Taker(), restaurant, "x", NOW) > 0
    assert found.take(Taker(), other, "x", NOW) == 0.0


def test_what_a_restaurant_has_no_room_for_is_not_taken_from_the_terminal() -> None:
    found, terminal, restaurant = rates(terminal_messages=100, restaurant_messages=10), Taker(), Taker()
    assert taken(found, terminal, restaurant, "x", NOW, 5000) == 100
    assert taken(found, terminal, None, "x", NOW, 5000) == 900


@pytest.mark.parametrize("limit", ["terminal_messages", "terminal_bytes", "restaurant_messages", "restaurant_bytes"])
def test_zero_is_no_limit(limit: str) -> None:
    found: dict[str, Any] = {limit: 0}
    assert taken(Rates(dataclasses.replace(DEFAULT, **found)), Taker(), Taker(), "x", NOW, 500) == 500
    assert taken(rates(), Taker(), Taker(), "x" * 1000, NOW, 50_000) == 50_000


def refusals(found: Rates, terminal: Taker, text: str = "x", now: Callable[[int], float] = lambda _: NOW) -> list[int]:
    """When those that are refused may come again, until the terminal is cut off, or for 5,000 messages."""
    told: list[int] = []
    for number in range(5000):
        if wait := found.take(terminal, None, text, now(number)):
            try:
                refusal = found.refuse(terminal, text, wait, now(number))
            except ComeBack:
                break
            assert (refusal.code, refusal.retryable) == ("RATE_LIMITED", True)
            told.append(int(refusal.details["retryAfter"]))
    return told


def test_who_is_refused_is_told_when_to_send_it_again_each_later_than_the_one_before() -> None:
    told = refusals(Rates(DEFAULT), Taker())
    assert (told[0], told[-1]) == (1, AT_ONCE_SECONDS)
    assert told == sorted(told)


def test_a_flood_is_refused_for_long_and_then_cut_off() -> None:
    told = refusals(Rates(DEFAULT), Taker())
    assert 900 <= len(told) <= 1000


def test_a_flood_of_large_messages_is_cut_off_sooner() -> None:
    assert len(refusals(Rates(DEFAULT), Taker(), "x" * 1_000_000)) < 50


def test_a_terminal_that_is_a_little_too_fast_is_never_cut_off() -> None:
    told = refusals(Rates(DEFAULT), Taker(), now=lambda number: NOW + number / 190)
    assert len(told) > 1000


def test_a_terminal_in_a_restaurant_that_floods_is_refused_and_not_cut_off() -> None:
    found, restaurant, other = Rates(DEFAULT), Taker(), Taker()
    for number in range(2000):
        now = NOW + number / 50
        while found.take(Taker(), restaurant, "x", now) == 0.0:
            pass  # the whole restaurant has what others leave
        wait = found.take(other, restaurant, "x", now)
        assert "RESTAURANT" in str(found.refuse(other, "x", wait, now))


def test_the_sentence_says_which_limit_it_was() -> None:
    found, terminal = rates(terminal_messages=1), Taker()
    assert taken(found, terminal, None, "x", NOW, 20) == 10
    assert "RELAY_TERMINAL_MESSAGES" in str(found.refuse(terminal, "x", 1.0, NOW))
