"""What every command does alike: read the settings, run, and end with one sentence and an exit status on a fault."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from . import logs
from .errors import LET_IN, DatabaseUnavailable, RelayError, SettingsError, UnknownRestaurant
from .settings import Settings

T = TypeVar("T")

FAULT, UNAVAILABLE, USAGE = 1, 69, 78  # the last two as in sysexits.h


def read_settings() -> Settings:
    """The settings of the environment; where they are wrong the process ends and says all that is."""
    try:
        settings = Settings.read()
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"relay: {problem}", err=True)
        sys.exit(USAGE)
    logs.configure(settings.log_level, settings.log_format)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; it may raise what `telling` tells."""
    with telling():
        return asyncio.run(work)


class telling:
    """Ends the process with one sentence and an exit status, instead of a traceback, for what a person can mend."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, RelayError):
            click.echo(f"relay: {error}{_what_to_do(error)}", err=True)
            known = {DatabaseUnavailable: UNAVAILABLE, SettingsError: USAGE}
            sys.exit(next((status for kind, status in known.items() if isinstance(error, kind)), FAULT))


def _what_to_do(error: RelayError) -> str:
    """What to do about an error, where its own sentence, which terminals may be told too, does not say it."""
    if isinstance(error, UnknownRestaurant):
        return "; relay restaurant list shows them"
    if isinstance(error, DatabaseUnavailable) and error.refused:
        return f"\nrelay: {LET_IN}"
    if type(error) is DatabaseUnavailable and not error.sent:
        return f"\nrelay: {Settings.read().elsewhere()}"
    return ""
