"""The wire on an ASGI server that is not ours."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message
from websockets.exceptions import ConnectionClosed

from relay import wire as wire_module
from relay.asgi import ASGI_BUFFER_BYTES, AsgiWire, wire_of
from relay.frames import encode
from tests.served import serving, terminal
from tests.waiting import until


class Peer:
    """The far end of an ASGI server made by hand."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.failure: Exception | None = None

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        if self.failure:
            raise self.failure
        self.sent.append(message)

    def wire(self) -> AsgiWire:
        wire = wire_of({"type": "websocket"}, self.messages.get, self.send)
        assert isinstance(wire, AsgiWire)
        return wire


async def test_another_server_sends_the_texts_of_joined_frames_and_of_pieces() -> None:
    peer = Peer()
    wire = peer.wire()
    big = "ဟင်း" * 30_000
    wire.write(encode("one")[0] + encode("two")[0])
    for piece in encode(big):
        wire.write(piece)
    wire.close(1012, "5")
    wire.write(encode("too late")[0])
    await wire.stop()
    assert [message.get("text") for message in peer.sent] == ["one", "two", big, None]
    assert peer.sent[-1] == {"type": "websocket.close", "code": 1012, "reason": "5"}
    assert wire.buffered == 0


async def test_another_servers_slow_peer_makes_the_wire_full_until_it_has_drained() -> None:
    peer = Peer()
    peer.reads.clear()
    wire = peer.wire()
    drained: list[int] = []
    wire.on_writable = lambda: drained.append(wire.buffered)
    while wire.writable:
        wire.write(encode("x" * 1000)[0])
    assert ASGI_BUFFER_BYTES < wire.buffered <= ASGI_BUFFER_BYTES + 1000
    peer.reads.set()
    await until(lambda: wire.buffered == 0)
    assert len(drained) == 1
    assert 0 < drained[0] <= ASGI_BUFFER_BYTES // 4
    assert wire.writable
    await wire.stop()


async def test_another_servers_stopped_peer_is_given_up_after_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "CLOSE_SECONDS", 0.1)
    peer = Peer()
    peer.reads.clear()
    wire = peer.wire()
    wire.write(encode("stuck")[0])
    wire.close(1000)
    await wire.hear()
    assert wire.ended
    await wire.stop()
    assert peer.sent == []


async def test_another_servers_messages_are_received_one_by_one_until_the_peer_leaves() -> None:
    peer = Peer()
    wire = peer.wire()
    told: list[bool] = []
    wire.listen(lambda: told.append(wire.ended))
    hearing = asyncio.create_task(wire.hear())
    peer.messages.put_nowait({"type": "websocket.receive", "text": "hello"})
    peer.messages.put_nowait({"type": "websocket.receive", "bytes": b"binary"})
    await until(lambda: told == [False])
    assert wire.pull() == "hello"
    await until(lambda: told == [False, False])
    assert wire.pull() == b"binary"
    assert wire.pull() is None
    peer.messages.put_nowait({"type": "websocket.disconnect", "code": 1001})
    await hearing
    assert told == [False, False, True]
    assert wire.closed
    await wire.stop()
    assert peer.sent == []


async def test_another_servers_endpoint_may_leave_with_a_message_unheard() -> None:
    peer = Peer()
    wire = peer.wire()
    told: list[None] = []
    wire.listen(lambda: told.append(None))
    hearing = asyncio.create_task(wire.hear())
    peer.messages.put_nowait({"type": "websocket.receive", "text": "hello"})
    await until(lambda: told)
    wire.dismiss()
    await hearing
    await wire.stop()
    assert [message["type"] for message in peer.sent] == ["websocket.close"]


async def test_another_servers_lost_peer_ends_the_endpoint_quietly() -> None:
    peer = Peer()
    peer.failure = OSError()
    wire = peer.wire()
    wire.write(encode("lost")[0])
    await wire.hear()
    assert wire.ended
    assert wire.closed
    assert not wire.writable
    await wire.stop()


async def test_another_servers_failure_is_not_swallowed() -> None:
    peer = Peer()
    peer.failure = ZeroDivisionError()
    wire = peer.wire()
    wire.write(encode("lost")[0])
    with pytest.raises(ZeroDivisionError):
        await wire.stop()


async def test_uvicorns_own_protocol_serves_as_another_server() -> None:
    big = "x" * 3_000_000
    with serving(http="httptools", ws="websockets-sansio") as served:
        async with terminal(served) as one:
            await until(lambda: served.wires)
            [wire] = served.wires
            assert isinstance(wire, AsgiWire)
            served.do(lambda: wire.write(b"".join(encode("small") + encode(big))))
            assert [await one.recv(), await one.recv()] == ["small", big]
            await one.send("hello")
            await until(lambda: served.received == ["hello"])
            served.do(lambda: wire.close(1012, "5"))
            with pytest.raises(ConnectionClosed) as closed:
                await one.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await until(lambda: not served.server.server_state.tasks)
