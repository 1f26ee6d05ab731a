-- From version 1: staff, what the web app's sessions need, and who may come in. Does nothing in any other database.

do $$
begin
  if not exists (select from pos.installation as i where i.version = 1) then
    return;
  end if;
  alter table pos.heads add column staff bigint not null default 0;
  alter table pos.tombstones
    drop constraint tombstones_kind,
    add constraint tombstones_kind check (kind in ('tables', 'menu_items', 'categories', 'staff'));
  alter table pos.sync_log add column database_user text, add column address inet;
  alter table pos.sync_log set (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 10000);
  -- Made again below: see tables.sql.
  alter table pos.tables drop constraint tables_key;
  alter table pos.order_history drop constraint order_history_key;
  drop index pos.order_replacements_wanted_id;
  -- What is in it is a minute old at most.
  drop table pos.messages;
  -- Made again with more columns in what they return.
  drop function pos.prune(interval, interval, integer);
  drop function pos.read_heads(bigint[]);
  drop function pos.read_changes(bigint[], bigint[], integer, bigint);
  drop function pos.read_messages(bigint[], bigint[]);
  drop function pos.snapshot(bigint, integer);
  drop function pos.send_message(bigint, text, jsonb);
  drop function pos.settle_order_id(pos.tables, pos.tables, text);
  -- Made again with the role of who asks.
  drop function pos.mutate_entered(bigint, text, text, text, text, jsonb, bigint);
  drop function pos.apply(uuid, bigint[], text[], text[], text[], text[], text[], bigint[], boolean);
  drop function pos.take_revision(bigint);
  alter table pos.order_counters add column used_at timestamptz not null default now();
end
$$;
