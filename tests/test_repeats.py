"""What is said again and again does not fill the log, and hides nothing else."""

from __future__ import annotations

import logging

import pytest

from relay import logs, repeats
from relay.repeats import MOST, SECONDS, Repeats
from tests.test_logs import lines, logging_as_before

__all__ = ["logging_as_before"]

log = logging.getLogger("relay.listener")


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def say(times: int) -> None:
    for number in range(times):
        log.info("a terminal is not let in", extra=logs.fields(number=number))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(logs, "Repeats", lambda: Repeats(found))
    return found


def test_a_thousand_lines_of_one_place_are_a_few_that_say_so(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    say(1000)
    found = lines(capsys)
    assert len(found) == MOST
    assert [repeats.MORE in line for line in found] == [False] * (MOST - 1) + [True]
    log.info("another")
    assert len(lines(capsys)) == 1
    clock.now += SECONDS + 1
    say(2)
    assert [f"left_out={1000 - MOST}" in line for line in lines(capsys)] == [True, False]


def test_what_comes_slowly_is_told_in_full(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    for _ in range(10):
        say(MOST - 1)
        clock.now += SECONDS + 1
    found = lines(capsys)
    assert len(found) == 10 * (MOST - 1)
    assert not [line for line in found if "left_out" in line]


def test_debug_leaves_nothing_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "text")
    say(1000)
    assert len(lines(capsys)) == 1000
