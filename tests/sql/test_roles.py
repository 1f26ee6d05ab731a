"""Least privilege: what roles.sql gives each role is exactly what is listed here, and nobody gets any further."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors, sql

from relay import schema
from tests.least import ROLES, as_role, install_roles
from tests.sql.shop import NEW_DISH, NEW_ORDER, NEW_TABLE, Mutation, Shop, add_restaurant
from tests.sql.test_catalogue import FUNCTIONS, SHADOW_FUNCTIONS, SHADOW_TABLES, names
from tests.sql.test_schema import programs

__all__ = ["programs"]

RELAY = Path(schema.__file__).parent
# Commands of people, who connect as the owner or a member of it.
OF_PEOPLE = {"backups", "restaurants", "rollcall", "terminals"}

RELAY_CALLS = {
    "answer_call", "apply", "call_boards", "changes_after", "checklist", "close_batch", "epoch", "find_restaurant",
    "find_terminals", "forget_instance", "mark_at", "meet_terminal", "note_actors", "note_instance", "note_lagging",
    "note_terminals", "open_calls", "prove", "prune", "prune_log", "read_boards", "read_changes", "read_heads",
    "read_lists", "read_messages", "read_orders", "read_staff", "read_terminals", "seal_password", "snapshot",
    "standing",
}  # fmt: skip
ADMIN_CALLS = {"call_terminals", "prune", "prune_log", "read_call"}
UNAIDED = {"changes_after", "epoch", "mark_at", "prove", "read_changes", "read_heads", "standing"}
READ_BY_HAND = {"restaurants", "heads", "tables", "menu_items", "categories", "order_history", "sync_log", "actors"}
EVERYTHING = {"select", "insert", "update", "delete"}
TABLE_GRANTS: dict[str, dict[str, set[str]]] = {
    "pos_relay": {name: {"select"} for name in ("sync_log", "heads", "installation")},
    "pos_admin": {"terminals": EVERYTHING, **{name: {"select"} for name in ("restaurants", "heads", "installation")}},
    "pos_reader": {name: {"select"} for name in READ_BY_HAND},
}
FUNCTION_GRANTS = {"pos_relay": RELAY_CALLS, "pos_admin": ADMIN_CALLS, "pos_reader": {"history_of"}}


@pytest.fixture
def owner(alone: Shop) -> Shop:
    """The default restaurant, as its database's superuser sees it."""
    install_roles(alone.conninfo)
    return alone


@pytest.fixture
def relay(owner: Shop) -> Iterator[Shop]:
    """The same, as pos_relay."""
    with Shop(as_role(owner.conninfo, "pos_relay")) as shop:
        yield shop


# --- the catalogue


def test_everything_belongs_to_the_owner_who_cannot_log_in(owner: Shop) -> None:
    assert owner.sql("select rolcanlogin, rolsuper, rolbypassrls from pg_roles where rolname = 'pos_owner'") == [
        (False, False, False)
    ]
    strange = names(owner, "select p.oid::regprocedure " + FUNCTIONS + "and p.proowner <> 'pos_owner'::regrole")
    strange += names(
        owner,
        """select c.oid::regclass from pg_class as c
           where c.relnamespace = 'pos'::regnamespace and c.relowner <> 'pos_owner'::regrole""",
    )
    strange += names(
        owner,
        """select t.oid::regtype from pg_type as t
           where t.typnamespace = 'pos'::regnamespace and t.typowner <> 'pos_owner'::regrole""",
    )
    strange += names(
        owner, "select nspname from pg_namespace where nspname = 'pos' and nspowner <> 'pos_owner'::regrole"
    )
    assert strange == []


def test_only_triggers_and_what_the_relay_calls_lend_the_owners_rights(owner: Shop) -> None:
    definers = names(owner, "select p.proname " + FUNCTIONS + "and p.prosecdef and p.prorettype <> 'trigger'::regtype")
    assert set(definers) == (RELAY_CALLS | ADMIN_CALLS) - UNAIDED
    triggers: LiteralString = "and not p.prosecdef and p.prorettype = 'trigger'::regtype"
    assert names(owner, "select p.oid::regprocedure " + FUNCTIONS + triggers) == []
    loose: LiteralString = "and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)"
    assert names(owner, "select p.oid::regprocedure " + FUNCTIONS + loose) == []


@pytest.mark.parametrize("role", ["pos_relay", "pos_admin", "pos_reader"])
def test_a_role_may_do_what_is_listed_and_nothing_else(owner: Shop, role: str) -> None:
    tables: dict[str, set[str]] = defaultdict(set)
    for table, privilege in owner.sql(
        """select c.relname, lower(a.privilege_type) from pg_class as c, aclexplode(c.relacl) as a
           where c.relnamespace = 'pos'::regnamespace and a.grantee in (%s::regrole, 0)""",
        role,
    ):
        tables[table].add(privilege)
    assert tables == TABLE_GRANTS[role]
    columns = owner.sql(
        """select a.attrelid::regclass, a.attname from pg_attribute as a join pg_class as c on c.oid = a.attrelid
           where c.relnamespace = 'pos'::regnamespace and a.attacl is not null"""
    )
    assert columns == []
    functions = owner.sql(
        """select p.proname from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
           where p.pronamespace = 'pos'::regnamespace and a.grantee in (%s::regrole, 0)""",
        role,
    )
    assert {name for (name,) in functions} == FUNCTION_GRANTS[role]
    assert owner.one("select has_schema_privilege(%s, 'pos', 'usage')", role)
    assert not owner.one("select has_schema_privilege(%s, 'pos', 'create')", role)
    assert not owner.one("select has_database_privilege(%s, current_database(), 'create')", role)
    assert not owner.one("select pg_has_role(%s, 'pos_owner', 'member')", role)
    attributes = owner.sql(
        "select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = %s",
        role,
    )
    assert attributes == [(False,) * 5]


def test_the_relay_may_call_all_that_its_code_names() -> None:
    named = set()
    for path in RELAY.glob("*.py"):
        if path.stem not in OF_PEOPLE:
            named |= set(re.findall(r"\bpos\.(\w+)\(", path.read_text()))
    assert len(named) > 10
    assert named - RELAY_CALLS == set()


def test_the_relay_is_bounded_by_its_role_too(relay: Shop) -> None:
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert relay.one("select setting::int from pg_settings where name = %s", name) > 0, name


# --- attacks


def test_the_relay_cannot_write_or_read_a_data_table_by_hand(owner: Shop, relay: Shop) -> None:
    owner.table("add", NEW_TABLE)
    tables = names(
        owner, "select c.relname from pg_class as c where c.relnamespace = 'pos'::regnamespace and c.relkind = 'r'"
    )
    assert len(tables) > 15
    for table in tables:
        attempts = [
            f"insert into pos.{table} default values",
            f"delete from pos.{table}",
            f"truncate pos.{table}",
            f"drop table pos.{table}",
            f"alter table pos.{table} disable trigger all",
            f"alter table pos.{table} disable row level security",
            f"create trigger t after insert on pos.{table} execute function suppress_redundant_updates_trigger()",
        ]
        if table not in TABLE_GRANTS["pos_relay"]:
            attempts.append(f"select from pos.{table}")
        column = owner.one(
            "select attname from pg_attribute where attrelid = ('pos.' || %s)::regclass and attnum = 1", table
        )
        attempts.append(f"update pos.{table} set {column} = {column}")
        for attempt in attempts:
            with pytest.raises(errors.InsufficientPrivilege):
                relay.connection.execute(attempt.encode())


@pytest.mark.parametrize(
    "attempt",
    [
        "set role pos_owner",
        "set session authorization pos_owner",
        "grant pos_owner to pos_relay",
        "create table pos.mine (n int)",
        "create function pos.mine() returns int language sql as 'select 1'",
        "create or replace function pos.epoch() returns text language sql as 'select null'",
        "alter function pos.apply security invoker",
        "alter schema pos rename to mine",
        "create schema mine",
        "select pos.stamp()",
        "select pos.write_log(1, 'UPDATE_TABLE', 'add', '1', 1, '{}')",
        "select pos.mutate(1, 'c', null, 'UPDATE_SETTINGS', 'update', '{}', null)",
        "select pos.import_backup(1, '{}', '{}', true)",
        "select pos.add_restaurant('mine', 'Mine', true)",
        "select pos.call_terminals('kick', null, 'a', null, null, false)",
        "select pos.read_call(gen_random_uuid(), '{}')",
        "select pos.tg_tables__log()",
    ],
)
def test_the_relay_cannot_become_more_than_it_is(relay: Shop, attempt: str) -> None:
    with pytest.raises((errors.InsufficientPrivilege, errors.WrongObjectType, errors.FeatureNotSupported)) as refused:
        relay.connection.execute(attempt.encode())
    assert "permission denied" in str(refused.value) or "must" in str(refused.value)


MUTATIONS = [
    Mutation("UPDATE_TABLE", "add", NEW_TABLE, id="m1"),
    Mutation("UPDATE_TABLE", "add_items", {"id": "t", "orderId": "X-1", "items": [{"id": "1", "price": 1.5}]}),
    Mutation("UPDATE_MENU", "add_item", NEW_DISH),
    Mutation("UPDATE_MENU", "add_category", {"name": "Tea"}),
    Mutation("UPDATE_ORDER", "add", NEW_ORDER),
    Mutation("UPDATE_SETTINGS", "update", {"taxRate": 5}),
    Mutation("UPDATE_TABLE", "delete", {"id": "t"}),
]


def let_make_temporary_objects(owner: Shop) -> None:
    """As where roles.sql was run by somebody who may not take it from public, or a DBA has granted it again."""
    grant = sql.SQL("grant temporary on database {} to public")
    owner.connection.execute(grant.format(sql.Identifier(owner.connection.info.dbname)))


# A domain named as a type of the functions, whose check runs whatever the attacker wrote.
HOSTILE_TYPES: LiteralString = """
do $$
declare
  v_type text;
begin
  create function pg_temp.spring() returns boolean language plpgsql as
    'begin raise exception ''the trap is sprung as %'', current_user; end';
  foreach v_type in array array['text', 'jsonb', 'bytea', 'uuid', 'xid8', 'int8', 'timestamptz', 'bool', 'int4']
  loop
    execute format('create domain pg_temp.%I as pg_catalog.%I check (pg_temp.spring())', v_type, v_type);
  end loop;
end
$$"""


def test_no_temporary_type_runs_with_the_owners_rights(owner: Shop, relay: Shop) -> None:
    let_make_temporary_objects(owner)
    relay.sql(HOSTILE_TYPES)
    with pytest.raises(errors.RaiseException, match="the trap is sprung as pos_relay"):
        relay.sql("select 'a'::text")
    relay.sql("set search_path = pg_catalog, pg_temp")  # its own statements are not what this is about
    answers = relay.apply(MUTATIONS)
    assert [answer.code for answer in answers] == ["OK"] * len(MUTATIONS)
    assert relay.snapshot()["revision"] == owner.head


def test_nothing_of_the_relays_session_takes_the_place_of_the_schemas_own(owner: Shop, relay: Shop) -> None:
    # Its own role may not create a schema; so one that somebody else made stands first in its path.
    owner.sql(SHADOW_FUNCTIONS)
    owner.sql("grant usage on schema hostile to pos_relay")
    let_make_temporary_objects(owner)
    owner.sql(SHADOW_TABLES)
    relay.sql(
        """do $$ declare v_name text; begin
             foreach v_name in array array['heads', 'sync_log', 'tables', 'restaurants', 'changed', 'pg_database'] loop
               execute format('create temp table %I (restaurant_id bigint, revision bigint)', v_name);
             end loop; end $$"""
    )
    relay.sql("set search_path = pg_temp, hostile, pg_catalog")
    assert [answer.code for answer in relay.apply(MUTATIONS)] == ["OK"] * len(MUTATIONS)
    relay.sql("reset search_path")
    assert relay.snapshot()["revision"] == owner.head == len(MUTATIONS)


def test_no_setting_of_the_session_hides_a_change(owner: Shop, relay: Shop) -> None:
    for name, value in (("stamping", "on"), ("applying", "1"), ("client_id", "somebody"), ("revision", "7")):
        relay.sql("select set_config('pos.' || %s, %s, false)", name, value)
    assert [answer.code for answer in relay.apply(MUTATIONS)] == ["OK"] * len(MUTATIONS)
    assert owner.head == len(MUTATIONS)
    owner.check()
    assert {change.client_id for change in owner.log()} == {"t1"}


# --- who comes in at all


def test_only_the_listed_roles_may_connect_and_what_is_granted_later_stays(owner: Shop) -> None:
    """C8: whoever can connect may listen to every doorbell, and ring it."""
    database = sql.Identifier(owner.connection.info.dbname)

    def may(role: str) -> bool:
        return bool(owner.one("select has_database_privilege(%s, current_database(), 'connect')", role))

    owner.sql("create role stranger login")
    owner.sql("create role maria login in role pos_owner")
    try:
        assert [role for role in (*ROLES, "maria", "stranger") if may(role)] == [*ROLES, "maria"]
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(as_role(owner.conninfo, "stranger"))
        for role in ROLES[1:]:
            assert not owner.one("select has_database_privilege(%s, current_database(), 'temporary')", role), role
        owner.connection.execute(sql.SQL("grant connect on database {} to public").format(database))
        install_roles(owner.conninfo)
        psycopg.connect(as_role(owner.conninfo, "stranger")).close()
    finally:
        owner.sql("drop role stranger, maria")


# --- row-level security


def test_policies_hold_those_who_read_by_hand_and_not_the_owners_functions(owner: Shop) -> None:
    """Not forced: functions run as the owner, and take the restaurant from the session of the terminal."""
    guarded = owner.sql(
        """select relname, relforcerowsecurity from pg_class
           where relnamespace = 'pos'::regnamespace and relrowsecurity order by 1"""
    )
    assert guarded == [(table, False) for table in sorted(READ_BY_HAND)]


def test_a_reader_sees_the_restaurant_it_names_and_without_one_nothing(owner: Shop) -> None:
    other_id = add_restaurant(owner.connection, "other")
    with Shop(owner.conninfo, other_id) as other:
        for shop in (owner, other):
            shop.table("add", NEW_TABLE)
            shop.dish("add_item", NEW_DISH)
            shop.dish("add_category", {"name": "Tea"})
            shop.order("add", NEW_ORDER)
            shop.sql("select pos.note_actors(%s, '{t1}', '{\"\"}', '{\"\"}', '{\"\"}')", [shop.restaurant_id])
    owner.sql("create role accountant login in role pos_reader")
    try:
        with Shop(as_role(owner.conninfo, "accountant")) as reader:

            def seen() -> dict[str, set[int]]:
                return {
                    table: {
                        id for (id,) in reader.connection.execute(f"select restaurant_id from pos.{table}".encode())
                    }
                    for table in READ_BY_HAND
                }

            assert seen() == {table: set() for table in READ_BY_HAND}
            for id in (owner.restaurant_id, other_id):
                reader.sql("select set_config('pos.restaurant_id', %s, false)", str(id))
                assert seen() == {table: {id} for table in READ_BY_HAND}
            for attempt in ("select from pos.staff", "select from pos.mutations", "delete from pos.tables"):
                with pytest.raises(errors.InsufficientPrivilege):
                    reader.connection.execute(attempt.encode())
    finally:
        owner.sql("drop role accountant")
