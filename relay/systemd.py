"""Tells systemd that this relay serves, that its loop turns, that it stops (sd_notify(3), systemd.service(5))."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from .logs import fields

log = logging.getLogger("relay.systemd")

PAUSE_SECONDS = 1.0  # between two looks at the relay; a watchdog has more


def tell(state: str, *, again: bool = False) -> bool:
    """Send a state, such as "READY=1", to the service manager, where there is one; whether it was told.

    A datagram to the socket that NOTIFY_SOCKET names ("@…" is an abstract one). A fault is logged, but not `again`.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.log(
            logging.DEBUG if again else logging.WARNING, "the service manager cannot be told", extra=fields(error=error)
        )
        return False
    return True


async def report(hears: Callable[[], bool]) -> None:
    """Say READY=1 once the relay hears its database, and from the start that the loop turns, until cancelled."""
    ready, told = False, True
    while os.environ.get("NOTIFY_SOCKET"):
        if not ready and hears():
            ready = told = tell("READY=1", again=not told)
        told = tell("WATCHDOG=1", again=not told)
        await asyncio.sleep(PAUSE_SECONDS)
