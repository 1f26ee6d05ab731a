"""Changes made in SQL, each with the time at which it was made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import psycopg

from relay import protocol
from tests.bench.servers import Server
from tests.waiting import pause

BYTES = 300  # of the message a terminal receives
TABLE = {"id": "bench", "number": 1, "seats": 4, "status": "available"}

CHANGE = "select pos.update_table(1, 'update', %(text)s, 'bench')"
PAYLOAD = "update bench.tables set data = %(text)s where channel = %(channel)s"


class Publisher:
    """Makes changes that a server relays: for the relay in its tables, for a reference in the payload way's."""

    def __init__(self, conninfo: str, server: Server) -> None:
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._text: Callable[[int], str] = _row if server.is_relay else _message
        self._statement = (CHANGE if server.is_relay else PAYLOAD).encode()
        self._channel = server.channel
        self._connection.execute("insert into bench.tables values (%s, '') on conflict do nothing", (self._channel,))
        if server.is_relay:
            self._connection.execute("select pos.update_table(1, 'add', %s, 'bench')", (json.dumps(TABLE),))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _parameters(self, number: int) -> dict[str, str]:
        return {"channel": self._channel, "text": self._text(number)}

    def pace(self, changes: int, rate: float) -> float:
        """So many changes, `rate` a second; seconds by which the latest was late."""
        began, latest = time.monotonic(), 0.0
        for number in range(changes):
            wait = began + number / rate - time.monotonic()
            pause(max(0.0, wait))
            latest = max(latest, -wait)
            self._connection.execute(self._statement, self._parameters(number + 1))
        return latest

    def burst(self, changes: int) -> None:
        """So many changes in one transaction."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(self._statement, [self._parameters(number + 1) for number in range(changes)])


def _row(number: int) -> str:
    """A table's row that becomes a message of BYTES."""
    row = {"n": number, "t": time.time_ns(), **TABLE, "pad": ""}
    text = protocol.change(
        "UPDATE_TABLE",
        "update",
        json.dumps({**row, "version": 1000}),
        client_id="bench",
        timestamp=time.time_ns() // 1_000_000,
        revision=1000,
    )
    return json.dumps({**row, "pad": "x" * max(0, BYTES - len(text))})


def _message(number: int) -> str:
    """A message of BYTES, ready as it is."""
    head = f'{{"n":{number},"t":{time.time_ns()},"pad":"'
    return f'{head}{"x" * max(0, BYTES - len(head) - 2)}"}}'
