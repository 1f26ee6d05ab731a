"""Whole evenings in a restaurant, as `python -m tests.evening` plays them."""

from __future__ import annotations

import os

import pytest

from tests.evening import play

SEED = int(os.environ.get("EVENING_SEED", "1"))


@pytest.mark.parametrize(("seed", "parties"), [(SEED, 60), (SEED + 1, 8)], ids=["busy", "quiet"])
async def test_every_terminal_ends_the_evening_with_what_the_database_holds(
    database: str, seed: int, parties: int
) -> None:
    await play(database, seed=seed, parties=parties)
