"""The SQL's habits, read from the catalogue: DESIGN.md, house rule 8."""

from __future__ import annotations

import re
from typing import LiteralString

import psycopg
import pytest

from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Row, Shop

# Of the installation, of its relays, and of transactions, not of a restaurant.
NO_RESTAURANT = {"installation", "batches", "staged_transactions", "instances", "calls", "call_answers"}

FUNCTIONS: LiteralString = "from pg_proc as p where p.pronamespace = 'pos'::regnamespace "
TABLES: LiteralString = (
    "from pg_class as c where c.relnamespace = 'pos'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') "
)


def names(shop: Shop, query: LiteralString) -> list[str]:
    return [str(name) for (name,) in shop.sql(query)]


def test_every_function_pins_a_search_path_that_ends_in_pg_temp(shop: Shop) -> None:
    loose: LiteralString = "and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)"
    assert names(shop, "select p.oid::regprocedure " + FUNCTIONS + loose) == []


def test_no_function_is_executable_by_public(shop: Shop) -> None:
    public: LiteralString = """and exists (
        select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a where a.grantee = 0)"""
    assert names(shop, "select p.oid::regprocedure " + FUNCTIONS + public) == []


def test_public_may_not_look_into_the_schema(shop: Shop) -> None:
    shop.sql("create role nobody_in_particular")
    try:
        for privilege in ("usage", "create"):
            assert not shop.one("select has_schema_privilege('nobody_in_particular', 'pos', %s)", privilege)
    finally:
        shop.sql("drop role nobody_in_particular")


def test_no_function_is_a_security_definer(shop: Shop) -> None:
    assert names(shop, "select p.oid::regprocedure " + FUNCTIONS + "and p.prosecdef") == []


def test_everything_has_a_comment(shop: Shop) -> None:
    bare = names(shop, "select p.oid::regprocedure " + FUNCTIONS + "and obj_description(p.oid, 'pg_proc') is null")
    bare += names(shop, "select c.oid::regclass " + TABLES + "and obj_description(c.oid, 'pg_class') is null")
    bare += names(
        shop,
        """select format('%s.%s', a.attrelid::regclass, a.attname)
           from pg_attribute as a join pg_class as c on c.oid = a.attrelid
           where c.relnamespace = 'pos'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
             and a.attnum > 0 and not a.attisdropped and col_description(a.attrelid, a.attnum) is null""",
    )
    bare += names(  # of composite types only those that are no table's
        shop,
        """select t.oid::regtype from pg_type as t left join pg_class as c on c.oid = t.typrelid
           where t.typnamespace = 'pos'::regnamespace and (t.typtype in ('e', 'd') or c.relkind = 'c')
             and obj_description(t.oid, 'pg_type') is null""",
    )
    bare += names(
        shop,
        """select n.nspname from pg_namespace as n
           where n.nspname = 'pos' and obj_description(n.oid, 'pg_namespace') is null""",
    )
    assert bare == []


def test_every_table_has_a_primary_key(shop: Shop) -> None:
    without: LiteralString = (
        "and not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')"
    )
    assert names(shop, "select c.relname " + TABLES + without) == []


def test_every_data_table_belongs_to_a_restaurant_and_is_keyed_by_it(shop: Shop) -> None:
    keyed: LiteralString = """and exists (
        select from pg_index as i
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = c.oid and i.indisprimary and a.attname = 'restaurant_id'
          and a.atttypid = 'bigint'::regtype and a.attnotnull)"""
    everything = set(names(shop, "select c.relname " + TABLES))
    # A staged change is keyed by its transaction; its restaurant stands beside.
    assert everything - set(names(shop, "select c.relname " + TABLES + keyed)) == NO_RESTAURANT | {"staged_changes"}


def test_a_primary_key_or_constraint_is_named_by_its_table(shop: Shop) -> None:
    strange = names(
        shop,
        """select k.conname from pg_constraint as k join pg_class as c on c.oid = k.conrelid
           where c.relnamespace = 'pos'::regnamespace and k.contype in ('p', 'u', 'c')
             and k.conname !~ ('^' || c.relname)""",
    )
    assert strange == []


def test_trigger_functions_are_named_by_table_and_verb(shop: Shop) -> None:
    strange = names(
        shop,
        """select format('%s on %s calls %s', t.tgname, c.relname, p.proname)
           from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_proc as p on p.oid = t.tgfoid
           where c.relnamespace = 'pos'::regnamespace and not t.tgisinternal
             and (t.tgname !~ '^[a-d]_[a-z]+(_[a-z]+)?$' or p.pronamespace <> 'pos'::regnamespace
                  or p.proname !~ ('^tg_(any|' || c.relname || ')__[a-z]+$'))""",
    )
    strange += names(
        shop, "select p.proname " + FUNCTIONS + "and (p.proname ~ '^tg_') <> (p.prorettype = 'trigger'::regtype)"
    )
    assert strange == []


def test_no_trigger_function_is_left_without_a_trigger(shop: Shop) -> None:
    unused: LiteralString = "and p.proname ~ '^tg_' and not exists (select from pg_trigger as t where t.tgfoid = p.oid)"
    assert names(shop, "select p.proname " + FUNCTIONS + unused) == []


def test_parameters_start_with_p_and_locals_with_v(shop: Shop) -> None:
    strange = names(
        shop,
        """select format('%s of %s', coalesce(a.name, 'a nameless one'), p.proname)
           from pg_proc as p
           cross join lateral unnest(
             coalesce(p.proargnames, array_fill(null::text, array[p.pronargs::integer])),
             coalesce(p.proargmodes, array_fill('i'::"char", array[p.pronargs::integer]))) as a (name, mode)
           where p.pronamespace = 'pos'::regnamespace and a.mode in ('i', 'b', 'v')
             and coalesce(a.name, '') !~ '^p_[a-z]'""",
    )
    for name, source in shop.sql("select p.proname, p.prosrc " + FUNCTIONS):
        for block in re.findall(r"^declare\n(.*?)^begin$", source, re.DOTALL | re.MULTILINE):
            strange += [
                f"{line} of {name}" for line in re.findall(r"^  (\w+)", block, re.MULTILINE) if line[:2] != "v_"
            ]
    assert strange == []


def test_what_reads_is_one_stable_statement(shop: Shop) -> None:
    # In read committed two statements are two states; and a volatile function takes a new snapshot for each.
    reads: LiteralString = """and p.proname ~ '^(read_.*|snapshot|changes_after|epoch|find_.*)$'"""
    found = shop.sql(
        """select p.proname, p.provolatile::text, l.lanname from pg_proc as p join pg_language as l on l.oid = p.prolang
           where p.pronamespace = 'pos'::regnamespace """
        + reads
    )
    assert len(found) >= 8
    assert [row for row in found if row[1:] != ("s", "sql")] == []


# Everything that the functions call and read, made anew in schemas that come first.

SHADOW_FUNCTIONS: LiteralString = """
do $$
declare
  v_function record;
begin
  create schema hostile;
  for v_function in
    select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, p.prorettype::regtype as returns
    from pg_proc as p
    where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind in ('f', 'a')
      and exists (select from pg_proc as q
                  where q.pronamespace = 'pos'::regnamespace and q.prosrc ~ ('\\m' || p.proname || '\\M'))
  loop
    begin
      execute format('create function hostile.%I(%s) returns %s language plpgsql as %L', v_function.proname,
                     v_function.arguments, v_function.returns, 'begin raise exception ''shadowed''; end');
    exception when others then
      null;  -- of pseudo-types, which plpgsql cannot take
    end;
  end loop;
  create function hostile.no(bigint, bigint) returns boolean language sql as 'select false';
  create operator hostile.= (leftarg = bigint, rightarg = bigint, function = hostile.no);
  create function hostile.no(text, text) returns boolean language sql as 'select false';
  create operator hostile.= (leftarg = text, rightarg = text, function = hostile.no);
  create function hostile.nothing(jsonb, jsonb) returns jsonb language sql as 'select null::jsonb';
  create operator hostile.|| (leftarg = jsonb, rightarg = jsonb, function = hostile.nothing);
end
$$"""

SHADOW_TABLES: LiteralString = """
do $$
declare
  v_table record;
begin
  for v_table in
    select c.oid::regclass as name, c.relname from pg_class as c
    where c.relkind = 'r'
      and (c.relnamespace = 'pos'::regnamespace or c.oid in ('pg_database'::regclass, 'pg_trigger'::regclass))
  loop
    execute format('create temp table %I (like %s)', v_table.relname, v_table.name);
  end loop;
  create temp table changed (restaurant_id bigint);
  create temp table deleted (restaurant_id bigint);
end
$$"""


def an_evening(shop: Shop) -> list[Row]:
    """A bit of everything, and the answers without their revisions' restaurant."""
    id = shop.restaurant_id
    taken: Row = {**NEW_ORDER, "createdAt": "2026-01-02T09:00:00Z"}
    answers = [
        shop.table("add", NEW_TABLE, id="m1"),
        shop.table("add_items", {"id": "t", "orderId": "X-1", "items": [{"id": "1", "price": 1.50}]}),
        shop.table("add", {**NEW_TABLE, "id": "u", "orderId": "X-1", "orderItems": '[{"id": "2"}]'}),
        shop.table("delete", {"id": "u"}, id="m2"),
        shop.table("update", {"id": "u", "seats": 2}),
        shop.dish("add_item", NEW_DISH),
        shop.dish("add_category", {"name": "Tea"}),
        shop.dish("delete_category", {"name": "Tea"}),
        shop.order("add", NEW_ORDER),
        shop.order("add", taken, "t2"),
        shop.order("add", {**taken, "createdAt": 1}, "t2", id="m3"),
        shop.order("void", {"id": NEW_ORDER["id"]}),
        shop.settings({"taxRate": 5}),
    ]
    shop.sql("insert into pos.tables (restaurant_id, id, number, seats) values (%s, 'p', 1, 2)", id)
    shop.sql("update pos.tables set number = number + 1 where restaurant_id = %s", id)
    shop.sql("insert into pos.order_history (restaurant_id, id, status, total) values (%s, 'p', 'done', 1)", id)
    shop.sql("delete from pos.menu_items where restaurant_id = %s", id)
    shop.order("clear", {})
    return [answer._asdict() for answer in answers]


def test_no_object_of_the_session_takes_the_place_of_the_schemas_own(alone: Shop) -> None:
    shop = alone
    with shop.open("hostile") as hostile:
        hostile.sql(SHADOW_FUNCTIONS)
        hostile.sql(SHADOW_TABLES)
        hostile.sql("set search_path = pg_temp, hostile, pg_catalog")
        for shadowed in ("now()", "count(*)", "pg_notify('', '')", "sha256('')"):
            with pytest.raises(psycopg.Error):
                hostile.sql("select " + shadowed)
        assert hostile.sql("select datname from pg_database") == []

        assert an_evening(hostile) == an_evening(shop)
        # An order made in SQL is dated by the clock.
        assert [c[1:5] for c in hostile.log()] == [c[1:5] for c in shop.log()]
        assert [c.text for c in hostile.log() if c.row_id != "p"] == [c.text for c in shop.log() if c.row_id != "p"]
        ours, theirs = shop.snapshot(), hostile.snapshot()
        assert (theirs["epoch"], theirs["revision"], theirs["tables"]) == (
            ours["epoch"],
            ours["revision"],
            ours["tables"],
        )
        assert hostile.sql("select type, action from pos.changes_after(%s, 3, 5, 100000)", hostile.restaurant_id) == [
            (change.type, change.action) for change in shop.log(3)[:5]
        ]
        assert hostile.sql("select slug from pos.find_restaurant('hostile')") == [("hostile",)]
        assert hostile.sql("select * from pos.prune('0 days', 100)")
        assert hostile.sql("select * from pos.prune_log(0, '0 days', 100, 100)")
