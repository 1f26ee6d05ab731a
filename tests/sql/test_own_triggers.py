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
      return new;
    end
    $$;
    create trigger tell {} update on pos.tables for each row execute function public.tell();
"""

# Whatever somebody asks for: a table has six seats at most and table t7 stays as it is, and no sale is below 1,000.
HOUSE = """
    create function {0}.rule() returns trigger language plpgsql as $$
    begin
      if tg_table_name = 'tables' then
        new.seats := least(new.seats, 6);
      else
        new.total := greatest(new.total, 1000);
      end if;
      return case when new.id <> 't7' then new end;
    end
    $$;
    create trigger rule before insert or update on pos.tables for each row execute function {0}.rule();
    create trigger rule before insert on pos.order_history for each row execute function {0}.rule();
"""

# Whatever becomes of a sale: the board counts it, and the sale of the day names it.
BOOK = """
    create function public.book() returns trigger language plpgsql as $$
    begin
      update pos.tables set extra = extra || jsonb_build_object('sales', coalesce((extra ->> 'sales')::integer, 0) + 1)
      where id = 'board';
      update pos.order_history set extra = extra || jsonb_build_object('last', new.id, 'total', new.total)
      where id = 'day';
      return null;
    end
    $$;
    create trigger book after update on pos.order_history
      for each row when (new.id <> 'day') execute function public.book();
"""

# A sale is noted on its table.
NOTE = """
    create function public.note() returns trigger language plpgsql as $$
    begin
      update pos.tables set extra = extra || jsonb_build_object('sale', new.id) where number = new.table_number;
      return null;
    end
    $$;
    create trigger note after insert on pos.order_history for each row execute function public.note();
"""


@pytest.fixture(params=["after", "before"])
def shop(alone: Shop, request: pytest.FixtureRequest) -> Shop:
    alone.table("add", NEW_TABLE | {"id": "t", "number": 1})
    alone.table("add", NEW_TABLE | {"id": "board", "number": 2})
    alone.order("add", NEW_ORDER)
    alone.sql(OWN.format(request.param))
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


@pytest.mark.parametrize("place", ["public", "pos"])
@pytest.mark.parametrize("way", ["alone", "batch"])
def test_what_an_own_trigger_makes_of_a_row_is_what_everybody_is_told(alone: Shop, way: str, place: str) -> None:
    tables = [NEW_TABLE | {"id": f"t{n}", "number": n} for n in range(8)]
    assert {answer.code for answer in alone.apply([Mutation("UPDATE_TABLE", "add", row) for row in tables])} == {"OK"}
    alone.sql(HOUSE.format(place))
    asked = [Mutation("UPDATE_TABLE", "update", {"id": row["id"], "seats": 9}) for row in tables]
    asked += [Mutation("UPDATE_ORDER", "add", NEW_ORDER | {"id": f"o{n}"}) for n in range(8)]
    for part in [asked] if way == "batch" else [[one] for one in asked]:
        assert {answer.code for answer in alone.apply(part)} == {"OK"}
    assert alone.head == 8 + 7 + 8
    alone.check()


@pytest.mark.parametrize("way", ["psql", "before a mutation", "before a batch"])
def test_what_an_own_trigger_writes_when_an_order_is_stamped_is_logged(alone: Shop, way: str) -> None:
    alone.table("add", NEW_TABLE | {"id": "board"})
    for id in ("day", "a", "b"):
        alone.order("add", NEW_ORDER | {"id": id})
    alone.sql(BOOK)
    with alone.connection.transaction():
        alone.sql("update pos.order_history set total = 9 where id <> 'day'")
        # What came before is stamped here, and what is asked for comes after it.
        if way == "before a mutation":
            assert alone.table("update", {"id": "board", "seats": 5}).code == "OK"
        if way == "before a batch":
            assert alone.apply([Mutation("UPDATE_TABLE", "update", {"id": "board", "seats": n}) for n in (5, 6)])
    alone.check()
    latest = {change.row_id: change.revision for change in alone.log() if change.type == "UPDATE_ORDER"}
    assert dict(alone.sql("select id, revision from pos.order_history")) == latest


def test_what_an_own_trigger_writes_comes_before_what_the_batch_does_next(alone: Shop) -> None:
    tables = [NEW_TABLE | {"id": f"t{n}", "number": n} for n in range(4)]
    assert {answer.code for answer in alone.apply([Mutation("UPDATE_TABLE", "add", row) for row in tables])} == {"OK"}
    alone.sql(NOTE)
    # Two rounds, each done in a set.
    batch = [Mutation("UPDATE_ORDER", "add", NEW_ORDER | {"id": f"o{n}", "tableNumber": n}) for n in range(4)]
    batch += [Mutation("UPDATE_TABLE", "update", {"id": f"t{n}", "seats": 7}) for n in range(4)]
    assert {answer.code for answer in alone.apply(batch)} == {"OK"}
    alone.check()
