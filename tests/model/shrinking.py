"""Cuts a history that fails down to a short one that fails too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.model.steps import Event, Send, Step, Type, Wish

T = TypeVar("T")

NEEDED = {"id", "name", "items"}  # without these a message is another one: it cannot be understood


def shrunk(history: list[Event], fails: Callable[[list[Event]], bool], seconds: float) -> list[Event]:
    """The shortest history found within this time of which nothing can be left out."""
    deadline = time.monotonic() + seconds
    progress = True
    while progress:
        progress = False
        for attempt in _simpler(history):
            if time.monotonic() > deadline:
                return history
            if fails(attempt):
                history, progress = attempt, True
                break
    return history


def _simpler(history: list[Event]) -> Iterator[list[Event]]:
    """Histories with less in them, those with much less first."""
    yield from _without_some(history)
    for place, event in enumerate(history):
        for less in _less(event):
            yield [*history[:place], less, *history[place + 1 :]]


def _without_some(found: Sequence[T], least: int = 0) -> Iterator[list[T]]:
    size = len(found) // 2
    while size:
        for start in range(len(found) - size, -1, -size):  # the end first: most of it came after the failure
            if len(found) - size >= least:
                yield [*found[:start], *found[start + size :]]
        size //= 2
    if len(found) == 1 > least:
        yield []


def _less(event: Event) -> Iterator[Event]:
    if isinstance(event, Type):
        for statements in _without_some(event.statements, 1):
            yield replace(event, statements=statements)
    elif isinstance(event, Send):
        if len(event.by) > 1:
            yield from (Send([one]) for one in event.by)
        for place, (who, steps) in enumerate(event.by):
            others = [*event.by[:place]], [*event.by[place + 1 :]]
            attempts = [*_without_some(steps, 1)]
            for at, step in enumerate(steps):
                attempts += [[*steps[:at], less, *steps[at + 1 :]] for less in _plainer(step)]
            for some in attempts:
                yield Send([*others[0], (who, some), *others[1]])


def _plainer(step: Step) -> Iterator[Step]:
    if isinstance(step, Wish) and step.fault is None:
        if step.version is not None:
            yield replace(step, version=None)
        for name in sorted(step.body.keys() - NEEDED):
            yield replace(step, body={key: value for key, value in step.body.items() if key != name})
