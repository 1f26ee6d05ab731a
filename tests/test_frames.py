"""Frames are read back by another implementation."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from relay.frames import PIECE_BYTES, decode, encode

SIZES = st.integers(0, 300 * 1024)


def received(data: bytes) -> list[str]:
    """The texts that the websockets library reads from a server's bytes."""
    peer = Protocol(Side.CLIENT, max_size=None)
    peer.receive_data(data)
    assert peer.parser_exc is None
    texts: list[str] = []
    parts: list[bytes] = []
    for frame in peer.events_received():
        assert isinstance(frame, Frame)
        assert frame.opcode is (Opcode.CONT if parts else Opcode.TEXT)
        parts.append(bytes(frame.data))
        if frame.fin:
            texts.append(b"".join(parts).decode())
            parts.clear()
    assert not parts
    return texts


@example(0)
@example(125)
@example(126)
@example(65535)
@example(65536)
@example(65537)
@example(131072)
@example(131073)
@given(SIZES)
def test_a_text_of_any_size_is_read_back_whole(size: int) -> None:
    text = "x" * (size % 3) + "ဟင်း" * (size // 12)  # 3 bytes a letter: a piece ends within one
    assert received(b"".join(encode(text))) == [text]
    exact = "y" * size
    assert received(b"".join(encode(exact))) == [exact]


@given(SIZES)
def test_every_piece_is_one_frame_of_at_most_the_limit(size: int) -> None:
    pieces = encode(b"x" * size)
    frames = [list(decode(piece)) for piece in pieces]
    assert all(len(found) == 1 and len(found[0][1]) <= PIECE_BYTES for found in frames)
    assert [found[0][0] for found in frames] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) == max(1, -(-size // PIECE_BYTES))


@given(st.lists(SIZES, max_size=5))
def test_joined_messages_are_read_back_one_by_one(sizes: list[int]) -> None:
    texts = [str(number) + "x" * size for number, size in enumerate(sizes)]
    joined = b"".join(b"".join(encode(text)) for text in texts)
    assert received(joined) == texts
    assert b"".join(payload for _, payload in decode(joined)).decode() == "".join(texts)
