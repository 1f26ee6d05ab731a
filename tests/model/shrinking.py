"""Cuts a history that fails down to a short one that fails too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.model.steps import Event, Send, Step, Type, Wish

NEEDED = {"id", "name", "items"}  # without these a message is another one: it cannot be understood

Fails = Callable[[list[Event]], bool]


def shrunk(history: list[Event], fails: Fails, seconds: float) -> list[Event]:
    """The shortest history found within this time; given enough of it, nothing in it can be left out."""
    deadline = time.monotonic() + seconds

    def fails_in_time(attempt: list[Event]) -> bool:
        return time.monotonic() < deadline and fails(attempt)

    while time.monotonic() < deadline:
        shorter = _with_less_in_them(_fewer(history, fails_in_time), fails_in_time)
        if shorter == history:
            break
        history = shorter
    return history


def _fewer(history: list[Event], fails: Fails) -> list[Event]:
    """Without all that can be left out: halves first, single events last, the end before the beginning."""
    size = max(1, len(history) // 2)
    while size:
        end = len(history)
        while end > 0:
            attempt = [*history[: max(0, end - size)], *history[end:]]
            if attempt and fails(attempt):
                history = attempt
            end -= size
        size //= 2
    return history


def _with_less_in_them(history: list[Event], fails: Fails) -> list[Event]:
    for place in range(len(history)):
        simpler = _less(history[place])
        while (event := next(simpler, None)) is not None:
            attempt = [*history[:place], event, *history[place + 1 :]]
            if fails(attempt):
                history, simpler = attempt, _less(event)
    return history


def _less(event: Event) -> Iterator[Event]:
    if isinstance(event, Type):
        for at in range(len(event.statements) if len(event.statements) > 1 else 0):
            yield replace(event, statements=[*event.statements[:at], *event.statements[at + 1 :]])
    elif isinstance(event, Send):
        if len(event.by) > 1:
            yield from (Send([one]) for one in event.by)
        for place, (who, steps) in enumerate(event.by):
            for some in _simpler(steps):
                yield Send([*event.by[:place], (who, some), *event.by[place + 1 :]])


def _simpler(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    if len(steps) > 3:
        yield steps[len(steps) // 2 :]
        yield steps[: len(steps) // 2]
    if len(steps) > 1:
        yield from ([*steps[:at], *steps[at + 1 :]] for at in reversed(range(len(steps))))
    for at, step in enumerate(steps):
        yield from ([*steps[:at], less, *steps[at + 1 :]] for less in _plainer(step))


def _plainer(step: Step) -> Iterator[Step]:
    if isinstance(step, Wish) and step.fault is None:
        if step.version is not None:
            yield replace(step, version=None)
        for name in sorted(step.body.keys() - NEEDED):
            yield replace(step, body={key: value for key, value in step.body.items() if key != name})
