"""What makes two windows do things at one moment: one that does not hear of the other's yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from playwright.async_api import WebSocketRoute

from tests.pages.floor import Floor, Window
from tests.relays import relay_process
from tests.waiting import until


class Deaf:
    """Between a window and its relay: it sends what it does, and does not hear what comes until it is let through."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.is_deaf = False
        self._held: list[tuple[WebSocketRoute, str | bytes]] = []

    async def connect(self) -> None:
        """Put it between."""
        await self.window.page.route_web_socket("**/ws", self._between)
        await self.window.reload()
        await self.window.stands("live")

    def hear(self) -> None:
        """Let everything through, in order."""
        self.is_deaf = False
        for terminal, text in self._held:
            terminal.send(text)
        self._held.clear()

    async def misses(self, text: str) -> None:
        """Wait until something is held back."""
        await until(lambda: any(text in str(one) for _, one in self._held), what=f"{text} to be missed")

    def _between(self, terminal: WebSocketRoute) -> None:
        relay = terminal.connect_to_server()
        relay.on_message(lambda text: self._held.append((terminal, text)) if self.is_deaf else terminal.send(text))


async def deafened(window: Window) -> Deaf:
    """The window, with somebody between it and its relay who lets everything through so far."""
    deaf = Deaf(window)
    await deaf.connect()
    return deaf


@asynccontextmanager
async def cut_off(floor: Floor) -> AsyncIterator[tuple[Window, Window]]:
    """Two windows at relays of their own that show two guests with a dish at table 4; the first has lost its relay."""
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await window.seat(4, 2)
        await window.order("Mohinga")
        await floor.agree(window, other)
        await floor.relay.kill()
        await window.stands("offline")
        yield window, other


async def pay(window: Window, number: int, payment: str) -> None:
    """Take the payment of a table."""
    await window.open(number)
    await window.button("Pay").click()
    await window.page.get_by_role("dialog").get_by_role("button", name=payment).click()


def query(conninfo: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(sql.encode()).fetchall()


def sales(conninfo: str) -> list[tuple[Any, ...]]:
    """Every sale that is recorded: its sum and how it was paid, in the order in which they came."""
    return query(conninfo, "select total, extra ->> 'payment' from pos.order_history order by revision")


def table(conninfo: str, number: int) -> dict[str, Any]:
    """A table as the database has it."""
    sql = f"select status, order_items, order_id, extra -> 'guests', seats from pos.tables where number = {number:d}"
    ((status, items, order, guests, seats),) = query(conninfo, sql)
    quantities = sorted((line["name"].split(" / ")[-1], line["quantity"]) for line in items or [])
    return {"status": status, "items": quantities, "order": order, "guests": guests, "seats": seats}
