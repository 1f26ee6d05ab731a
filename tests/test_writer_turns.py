"""Whose mutations go into the next batch: everybody has a turn, whatever the others send."""

from __future__ import annotations

from typing import cast

from relay.database import Database
from relay.protocol import Mutation
from relay.reader import Reader
from relay.settings import Settings
from relay.ways import Ways
from relay.writer import BATCH_CHARACTERS, Writer


def mutation(restaurant_id: int, characters: int) -> Mutation:
    return Mutation(restaurant_id, "till", None, "UPDATE_MENU", "update_item", "x" * characters, None)


async def test_one_sale_does_not_wait_for_all_photographs_of_another_restaurant() -> None:
    writer = Writer(cast("Database", None), Settings.read({}), cast("Reader", None), Ways())
    for _ in range(50):
        writer.submit(mutation(1, BATCH_CHARACTERS // 3))
    writer.submit(mutation(2, 10))
    batches = [{pending.mutation.restaurant_id for pending in writer._take_batch()} for _ in range(2)]
    assert 2 in batches[0] | batches[1]
    writer.give_up()
