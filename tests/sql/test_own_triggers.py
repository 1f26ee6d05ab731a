"""A trigger that a DBA has added: what it writes is counted and logged, whoever made the change that it fires at."""

from __future__ import annotations

import pytest

from tests.sql.shop import NEW_ORDER, NEW_TABLE, Mutation, Shop

# Whatever becomes of table t shows on the board, and in the note of the order.
OWN = """
    create function public.tell() returns trigger language plpgsql as $$
    begin
      if new.id = 't' then
        update pos.tables set extra = extra || jsonb_build_object('seen', new.version) where id = 'board';
        update pos.order_history set extra = extra || jsonb_build_object('seen', new.version);
      end if;
      return null;
    end
    $$;
    create trigger tell after update on pos.tables for each row execute function public.tell();
"""


@pytest.fixture
def shop(alone: Shop) -> Shop:
    alone.table("add", NEW_TABLE | {"id": "t", "number": 1})
    alone.table("add", NEW_TABLE | {"id": "board", "number": 2})
    alone.order("add", NEW_ORDER)
    alone.sql(OWN)
    return alone


def seat(shop: Shop, way: str, seats: int) -> None:
    if way == "psql":
        shop.sql("update pos.tables set seats = %s where id = 't'", seats)
    elif way == "alone":
        shop.table("update", {"id": "t", "seats": seats})
    else:
        # Enough of them to be done in a set.
        mutations = [Mutation("UPDATE_TABLE", "add", NEW_TABLE | {"id": f"t{n}", "number": 10 + n}) for n in range(8)]
        assert {answer.code for answer in shop.apply(mutations)} == {"OK"}
        mutations = [Mutation("UPDATE_TABLE", "update", {"id": f"t{n}", "seats": seats}) for n in range(8)]
        mutations.append(Mutation("UPDATE_TABLE", "update", {"id": "t", "seats": seats}))
        assert {answer.code for answer in shop.apply(mutations)} == {"OK"}


@pytest.mark.parametrize("way", ["psql", "alone", "batch"])
def test_what_an_own_trigger_writes_has_its_revision_and_version(shop: Shop, way: str) -> None:
    before = shop.head
    seat(shop, way, 9)
    changed = {change.row_id for change in shop.log(before)}
    assert {"t", "board", NEW_ORDER["id"]} <= changed
    shop.check()
