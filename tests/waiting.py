"""Waiting for what happens; nothing else in the tests sleeps."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_SECONDS = 0.01
WITHIN_SECONDS = 15.0  # enough on a machine that is shared; a test of how long something takes names its own bound


@overload
async def until(condition: Callable[[], Awaitable[T]], within: float = WITHIN_SECONDS, what: str = "") -> T: ...


@overload
async def until(condition: Callable[[], T], within: float = WITHIN_SECONDS, what: str = "") -> T: ...


async def until(condition: Callable[[], Any], within: float = WITHIN_SECONDS, what: str = "") -> Any:
    """Return the condition's first truthy value; AssertionError with its last one after `within` seconds.

    The condition may be a coroutine function. What it raises is not caught.
    """
    last: Any = "nothing"
    try:
        async with asyncio.timeout(within):
            while True:
                value = condition()
                last = await value if inspect.isawaitable(value) else value
                if last:
                    return last
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise _never(condition, within, what, last) from None


async def slow_down(seconds: float) -> None:
    """For a link that is slow and a till that rests on purpose; a test waits for what happens."""
    await asyncio.sleep(seconds)


def wait_until(condition: Callable[[], T], within: float = WITHIN_SECONDS, what: str = "") -> T:
    """The same where no event loop runs."""
    deadline = time.monotonic() + within
    while not (last := condition()):
        if time.monotonic() > deadline:
            raise _never(condition, within, what, last)
        time.sleep(POLL_SECONDS)
    return last


def pause(seconds: float) -> None:
    """For a load that is paced."""
    time.sleep(seconds)


def _never(condition: Callable[[], object], within: float, what: str, last: object) -> AssertionError:
    return AssertionError(f"not within {within} s: {what or inspect.getsource(condition).strip()}; last: {last!r}")
