"""The window: its ceilings, and the chunks in which it is given out."""

from __future__ import annotations

import pytest

from relay.frames import PIECE_BYTES
from relay.window import CHUNK_BYTES, CHUNK_CHANGES, Window
from tests.wires import HandMadeWire, change, changes


def frames_of(window: Window, cursor: int) -> tuple[list[int], int]:
    """The revisions that a chunk carries, and where it leads."""
    frames, end = window.chunk(cursor)
    wire = HandMadeWire()
    for frame in frames:
        wire.write(frame)
    return wire.messages, end


def test_a_window_holds_no_more_changes_than_its_ceiling() -> None:
    window = Window(10, max_changes=5, max_bytes=1 << 20)
    window.append(changes(11, 14))
    assert (window.base, window.head) == (10, 14)
    window.append(changes(15, 22))
    assert (window.base, window.head) == (17, 22)
    assert frames_of(window, 17) == ([18, 19, 20, 21, 22], 22)


def test_a_window_holds_no_more_bytes_than_its_ceiling_but_always_the_newest_change() -> None:
    size = change(1, 100).size
    window = Window(0, max_changes=1000, max_bytes=3 * size)
    window.append(changes(1, 10, 100))
    assert (window.base, window.head, window.spare) == (7, 10, 0)
    window.append([change(11, 1000)])
    assert (window.base, window.head) == (10, 11)
    assert window.spare < 0
    window.append([change(12, 100)])
    assert (window.base, window.spare) == (11, 2 * size)


@pytest.mark.parametrize("revision", [10, 12, 11 - 5])
def test_a_change_that_does_not_follow_is_never_taken(revision: int) -> None:
    window = Window(10, 1000, 1 << 20)
    with pytest.raises(AssertionError, match="does not follow 10"):
        window.append([change(revision)])


def test_of_older_changes_the_newest_that_fit_are_put_in() -> None:
    size = change(1, 100).size
    by_bytes = Window(10, max_changes=1000, max_bytes=5 * size)
    by_number = Window(10, max_changes=5, max_bytes=1 << 20)
    for window in (by_bytes, by_number):
        window.append(changes(11, 12, 100))
        window.prepend(changes(9, 10, 100))
        assert window.base == 8
        window.prepend(changes(1, 8, 100))
        assert window.base == 7
        assert frames_of(window, 7) == ([8, 9, 10, 11, 12], 12)
    with pytest.raises(AssertionError, match="does not end at 7"):
        Window(7, 10, 1 << 20).prepend([change(6)])


def test_a_chunk_is_built_once_for_all_with_the_same_cursor() -> None:
    window = Window(0, 1000, 1 << 20)
    window.append(changes(1, 10))
    assert window.chunk(3) is window.chunk(3)
    assert window.chunk(3)[0][0] is not window.chunk(4)[0][0]
    window.append([change(11)])
    assert frames_of(window, 3) == (list(range(4, 12)), 11)


def test_chunks_end_where_those_of_others_end_however_far_apart_they_begin() -> None:
    window = Window(0, 1000, 1 << 20)
    window.append(changes(1, 2 * CHUNK_CHANGES + 5))
    for cursor in (0, 1, CHUNK_CHANGES - 1):
        assert window.chunk(cursor)[1] == CHUNK_CHANGES
    whole = window.chunk(CHUNK_CHANGES)
    assert whole[1] == 2 * CHUNK_CHANGES
    window.append([change(window.head + 1)])
    assert window.chunk(CHUNK_CHANGES) is whole, "what cannot grow any more is kept"


def test_a_chunk_is_no_larger_than_one_write() -> None:
    window = Window(0, 1000, 1 << 20)
    window.append(changes(1, 100, 10_000))
    cursor = 0
    while cursor < window.head:
        (frame,), cursor = window.chunk(cursor)
        assert len(frame) <= CHUNK_BYTES
    window.append([change(101, PIECE_BYTES)])
    assert frames_of(window, 100) == ([101], 101)


def test_a_large_change_keeps_its_frames_apart() -> None:
    window = Window(0, 1000, 1 << 24)
    large = change(2, 3 * PIECE_BYTES)
    window.append([change(1), large, change(3), change(4)])
    assert frames_of(window, 0) == ([1], 1)
    assert window.chunk(1) == (large.frames, 2)
    assert all(ours is theirs for ours, theirs in zip(window.chunk(1)[0], large.frames, strict=True))
    assert frames_of(window, 2) == ([3, 4], 4)


def test_the_chunks_kept_are_no_more_bytes_than_the_window() -> None:
    ceiling = 100_000
    window = Window(0, 1000, ceiling)
    window.append(changes(1, 500, 150))
    kept: list[tuple[bytes, ...]] = []
    for cursor in range(3 * CHUNK_CHANGES):
        kept.append(window.chunk(cursor)[0])
        held = sum(len(frames[0]) for frames, _ in window._chunks.values())
        assert held <= ceiling
    assert sum(len(frames[0]) for frames in kept) > 10 * ceiling
    assert len(window._chunks) > 5
    window.append(changes(501, 1500, 150))
    assert all(cursor >= window.base for cursor in window._chunks)
