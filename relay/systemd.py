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


def tell(state: str) -> None:
    """Send a state, such as "READY=1", to the service manager; nothing where there is none.

    A datagram to the socket that NOTIFY_SOCKET names ("@…" is an abstract one). A fault is logged.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning("the service manager cannot be told", extra=fields(error=error))


async def report(hears: Callable[[], bool]) -> None:
    """Say READY=1 once the relay hears its database, and from the start that the loop turns, until cancelled."""
    ready = False
    while os.environ.get("NOTIFY_SOCKET"):
        if not ready and hears():
            ready = True
            tell("READY=1")
        tell("WATCHDOG=1")
        await asyncio.sleep(PAUSE_SECONDS)
