"""Nothing is compressed: no extension is accepted, and a frame that would unpack to much more costs nothing.

RFC 7692 is where such frames come from, and RFC 6455, section 5.2, says that they end the connection.
"""

from __future__ import annotations

import zlib

import pytest
import websockets
from websockets.frames import Frame, Opcode

from tests.bench.processes import resident_bytes
from tests.e2e.strangers import closed
from tests.relays import LocalRelay, relay_process
from tests.terminals import Terminal

RSV1 = 0x40
UNPACKED = 64 << 20
BOMBS = 50
MOST_GROWTH = 5 << 20


def bomb() -> bytes:
    """A frame of 64 KiB that a permessage-deflate would unpack to 64 MiB (RFC 7692, section 7.2.1)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(UNPACKED)) + packer.flush(zlib.Z_SYNC_FLUSH)
    plain = Frame(Opcode.TEXT, packed.removesuffix(b"\x00\x00\xff\xff")).serialize(mask=True)
    return bytes([plain[0] | RSV1]) + plain[1:]


@pytest.mark.parametrize(
    "offered",
    ["permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame", "permessage-bzip2"],
)
async def test_whatever_is_offered_nothing_is_compressed(relay: LocalRelay, offered: str) -> None:
    headers = {"Sec-WebSocket-Extensions": offered}
    async with await Terminal(relay.url).connect(additional_headers=headers) as one:
        assert one._socket is not None
        assert one._socket.response is not None
        assert "Sec-WebSocket-Extensions" not in one._socket.response.headers
        assert one.snapshots


async def test_a_compressed_frame_is_refused_before_it_is_unpacked(database: str) -> None:
    text = bomb()
    assert len(text) < 100_000
    async with relay_process(database) as relay, Terminal(relay.url) as one:
        before = resident_bytes(relay.pid)
        for _ in range(BOMBS):
            async with websockets.connect(relay.url, compression="deflate") as socket:
                assert socket.protocol.extensions == []
                socket.transport.write(text)
                assert (await closed(socket, 15.0)) == (1002, "a reserved bit is set")
        grown = resident_bytes(relay.pid) - before
        print(f"{BOMBS} frames of {len(text) >> 10} KiB that unpack to {UNPACKED >> 20} MiB: {grown >> 10} KiB more")
        assert grown < MOST_GROWTH
        await one.table("add", {"id": "t1", "number": 1, "seats": 4, "status": "available"})
