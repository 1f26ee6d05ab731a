"""Snapshots: encoded once whoever asks, and held up to a number of bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.database import State
from relay.frames import PIECE_BYTES, closing, middle, opening
from relay.snapshots import Snapshot, Snapshots
from tests.wires import HandMadeWire


def snapshot(size: int = 10, revision: int = 5) -> Snapshot:
    menu = json.dumps([{"id": "1", "name": "မုန့်ဟင်းခါး".ljust(size)}], ensure_ascii=False)
    return Snapshot(State("e1", revision, "[]", menu, '["Main"]', '{"a":1}', "[]"), read_at=0.0)


def read(frames: tuple[bytes, ...]) -> list[str]:
    wire = HandMadeWire()
    for frame in frames:
        wire.write(frame)
    return wire.texts


@given(st.text(max_size=9), st.integers(0, 3 * PIECE_BYTES), st.text(max_size=9))
def test_opening_middle_and_closing_are_one_message(head: str, size: int, tail: str) -> None:
    inside = "ျ" * (size // 3)
    assert read((opening(head), *middle(inside), closing(tail))) == [head + inside + tail]


@pytest.mark.parametrize("size", [10, 5 * PIECE_BYTES])
def test_a_snapshot_is_one_sync_response(size: int) -> None:
    [text] = read(snapshot(size).frames("first-sync", "r"))
    message = json.loads(text)
    assert (message["type"], message["ref"], message["clientId"]) == ("SYNC_RESPONSE", "r", "server")
    data = message["data"]
    assert (data["mode"], data["reason"], data["epoch"], data["revision"]) == ("snapshot", "first-sync", "e1", 5)
    assert (data["tables"], data["categories"], data["settings"], data["orderHistory"]) == ([], ["Main"], {"a": 1}, [])
    assert len(data["menuItems"][0]["name"]) == max(size, 12)


def test_a_small_snapshot_is_one_write() -> None:
    assert len(snapshot().frames("first-sync", None)) == 1


def test_a_large_snapshot_is_encoded_once_whatever_the_reason_and_whoever_asks() -> None:
    large = snapshot(5 * PIECE_BYTES)
    first, *others = (large.frames(*each) for each in (("too-old", None), ("first-sync", None), ("too-old", "r")))
    assert len(first) > 5
    for other in others:
        assert other is not first
        assert all(ours is theirs for ours, theirs in zip(first[1:-1], other[1:-1], strict=True))
    assert large.frames("too-old", None) is first
    assert sum(map(len, first)) < large.size


def test_snapshots_are_held_up_to_a_number_of_bytes() -> None:
    size = snapshot(1000).size
    held = Snapshots(3 * size)
    for restaurant_id in (1, 2, 3):
        held.keep(restaurant_id, snapshot(1000))
    assert held.get(1) is not None
    held.keep(4, snapshot(1000))
    assert [number for number in range(1, 5) if held.get(number)] == [1, 3, 4], "the one nobody asked for is let go"
    assert held.bytes == 3 * size
    held.keep(4, snapshot(10))
    assert held.bytes == 2 * size + snapshot(10).size


def test_one_snapshot_is_held_whatever_its_size() -> None:
    held = Snapshots(10)
    held.keep(1, snapshot(1000))
    held.keep(2, snapshot(2000))
    assert held.get(1) is None
    assert held.get(2) is not None
    assert held.bytes == snapshot(2000).size
