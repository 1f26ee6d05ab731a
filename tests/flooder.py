"""A terminal that sends so many messages a second, whatever it is told.

A process of its own: `python -m tests.flooder HOST PORT PATH A_SECOND`. It comes back at once when it is cut off. When
a line comes on its standard input it prints as JSON what it was told, and ends.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import Counter

from websockets.frames import Frame, Opcode

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MESSAGE = {"type": "UPDATE_TABLE", "clientId": "flooder", "data": {"action": "update", "data": {"id": "f", "seats": 2}}}
FRAME = Frame(Opcode.TEXT, json.dumps(MESSAGE | {"id": "the same"}).encode()).serialize(mask=True)
CUT_OFF = re.compile(rb"\x03\xf5messages come[^\x00]*retry after 10 s")  # 1013 and its reason
TOGETHER = 50  # messages in one write


def flood(host: str, port: int, path: str, a_second: int) -> Counter[str]:
    """Send so many messages a second until standard input ends; what was sent and told."""
    found: Counter[str] = Counter()
    began = time.monotonic()
    while not _over():
        with socket.create_connection((host, port)) as terminal:
            found["connections"] += 1
            terminal.sendall(HANDSHAKE.format(path=path).encode())
            heard = b""
            try:
                while not _over():
                    if found["sent"] < (time.monotonic() - began) * a_second:
                        terminal.sendall(FRAME * TOGETHER)
                        found["sent"] += TOGETHER
                    readable, _, _ = select.select([terminal], [], [], 0.001)
                    if readable:
                        if not (data := terminal.recv(1 << 20)):
                            break
                        heard += data
                        if CUT_OFF.search(data):
                            break
            except OSError:
                pass  # it was cut off while it sent
        found["limited"] += heard.count(b'"RATE_LIMITED"')
        found["cut off"] += len(CUT_OFF.findall(heard))
    return found


def _over() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable)


if __name__ == "__main__":
    host, port, path, a_second = sys.argv[1:]
    print(json.dumps(flood(host, int(port), path, int(a_second))))
