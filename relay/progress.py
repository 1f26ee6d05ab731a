"""A bar for who waits at a terminal: on standard error, and only where that is a screen. In a pipe there is nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Step = Callable[[int, str], None]  # how much of the length is done by now, and what is under way


@contextmanager
def bar(label: str, length: int) -> Iterator[Step | None]:
    """A bar of this length, 1 at least; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(
        length=max(length, 1), label=label, file=sys.stderr, show_eta=True, item_show_func=lambda item: item
    ) as shown:

        def step(done: int, what: str = "") -> None:
            shown.update(min(done, shown.length or done) - shown.pos, what)

        yield step
        step(shown.length or 0)
