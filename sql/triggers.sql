-- Triggers on the five data tables. A BEFORE ROW trigger drops what does not change and counts the version; an AFTER
-- STATEMENT trigger logs what is left. They fire for any writer, psql included.

create or replace function pos.next_version(p_restaurant_id bigint, p_kind text, p_id text) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_version bigint;
begin
  -- A delete of this id that is on its way is waited for: until it is committed its tombstone cannot be seen.
  case p_kind
    when 'tables' then
      perform 1 from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = p_id for key share;
    when 'menu_items' then
      perform 1 from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = p_id for key share;
    when 'categories' then
      perform 1 from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = p_id for key share;
  end case;
  delete from pos.tombstones as t
  where t.restaurant_id = p_restaurant_id and t.kind = p_kind and t.id = p_id
  returning t.version into v_version;
  return coalesce(v_version, 0) + 1;
end
$$;
comment on function pos.next_version(bigint, text, text) is 'Version of a row that is made now: 1, or the next above its tombstone.';

create or replace function pos.tg_any__truncate() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'pos.% cannot be truncated: the terminals would not hear of it', tg_table_name
    using errcode = 'RL403', hint = format('delete from pos.%I where restaurant_id = …', tg_table_name);
end
$$;
comment on function pos.tg_any__truncate() is 'Refuses TRUNCATE, which no row trigger sees.';

-- restaurants: settings

create or replace function pos.tg_restaurants__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' or new.time_zone <> old.time_zone then
    perform now() at time zone new.time_zone;
  end if;
  if tg_op = 'UPDATE' then
    if new.restaurant_id <> old.restaurant_id then
      raise exception 'restaurant_id cannot be changed' using errcode = 'RL403';
    end if;
    new.settings_version := old.settings_version;
    -- As text: 5 and 5.0 are equal in jsonb, and digits are kept.
    if new.settings::text <> old.settings::text then
      new.settings_version := old.settings_version + 1;
    end if;
  end if;
  return new;
end
$$;
comment on function pos.tg_restaurants__write() is 'Checks the time zone and counts the changes of settings.';

create or replace function pos.tg_restaurants__log() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    -- Creation is no change: revision 0.
    insert into pos.heads (restaurant_id) values (new.restaurant_id);
  elsif pos.applying() is null then
    insert into pos.staged_changes (restaurant_id, type, action, version, data)
    values (new.restaurant_id, 'UPDATE_SETTINGS', 'update', new.settings_version, new.settings);
    perform pos.await_commit();
  else
    perform pos.write_log(new.restaurant_id, 'UPDATE_SETTINGS', 'update', null, new.settings_version, new.settings);
  end if;
  return null;
end
$$;
comment on function pos.tg_restaurants__log() is 'Gives a new restaurant its head; logs changed settings.';

create or replace function pos.tg_restaurants__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  delete from pos.sync_log as l where l.restaurant_id = old.restaurant_id;
  delete from pos.tombstones as t where t.restaurant_id = old.restaurant_id;
  delete from pos.mutations as m where m.restaurant_id = old.restaurant_id;
  delete from pos.order_claims as c where c.restaurant_id = old.restaurant_id;
  delete from pos.order_replacements as r where r.restaurant_id = old.restaurant_id;
  delete from pos.order_counters as n where n.restaurant_id = old.restaurant_id;
  delete from pos.messages as m where m.restaurant_id = old.restaurant_id;
  return null;
end
$$;
comment on function pos.tg_restaurants__delete() is 'Takes what belonged to a deleted restaurant along; its data tables must be empty already.';

create or replace trigger a_write before insert or update on pos.restaurants
  for each row execute function pos.tg_restaurants__write();
create or replace trigger b_head after insert on pos.restaurants
  for each row execute function pos.tg_restaurants__log();
create or replace trigger b_log after update on pos.restaurants
  for each row when (new.settings_version <> old.settings_version) execute function pos.tg_restaurants__log();
create or replace trigger c_delete after delete on pos.restaurants
  for each row execute function pos.tg_restaurants__delete();
create or replace trigger d_truncate before truncate on pos.restaurants
  for each statement execute function pos.tg_any__truncate();

-- tables

create or replace function pos.tg_tables__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'tables', new.id);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of a row cannot be changed' using errcode = 'RL403', hint = 'Insert the new row and delete the old one.';
    end if;
    -- Compared by image, not by value: 5 and 5.0 are equal, and digits are kept. What does not change is dropped here:
    -- no log row, no ring, and the statement reports one row less.
    new.version := old.version;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  if new.order_id is not null and (tg_op = 'INSERT' or new.order_id is distinct from old.order_id) then
    insert into pos.order_claims (restaurant_id, order_id, table_id, client_id)
    values (new.restaurant_id, new.order_id, new.id, pos.client_id())
    on conflict do nothing;
  end if;
  return new;
end
$$;
comment on function pos.tg_tables__write() is 'Drops what does not change, counts the version, notes which table carried which order.';

create or replace function pos.tg_tables__log() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_action constant text := case tg_op when 'INSERT' then 'add' else 'update' end;
begin
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_TABLE', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.tables))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_TABLE', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.tables) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_tables__log() is 'Logs the tables that a statement made or changed.';

create or replace trigger a_write before insert or update on pos.tables
  for each row execute function pos.tg_tables__write();
create or replace trigger b_log_insert after insert on pos.tables referencing new table as changed
  for each statement execute function pos.tg_tables__log();
create or replace trigger b_log_update after update on pos.tables referencing new table as changed
  for each statement execute function pos.tg_tables__log();

-- menu_items

create or replace function pos.tg_menu_items__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'menu_items', new.id);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of a row cannot be changed' using errcode = 'RL403', hint = 'Insert the new row and delete the old one.';
    end if;
    -- Compared by image, not by value: 5 and 5.0 are equal, and digits are kept. What does not change is dropped here:
    -- no log row, no ring, and the statement reports one row less.
    new.version := old.version;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  return new;
end
$$;
comment on function pos.tg_menu_items__write() is 'Drops what does not change and counts the version.';

create or replace function pos.tg_menu_items__log() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_action constant text := case tg_op when 'INSERT' then 'add_item' else 'update_item' end;
begin
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_MENU', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.menu_items))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_MENU', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.menu_items) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_menu_items__log() is 'Logs the dishes that a statement made or changed.';

create or replace trigger a_write before insert or update on pos.menu_items
  for each row execute function pos.tg_menu_items__write();
create or replace trigger b_log_insert after insert on pos.menu_items referencing new table as changed
  for each statement execute function pos.tg_menu_items__log();
create or replace trigger b_log_update after update on pos.menu_items referencing new table as changed
  for each statement execute function pos.tg_menu_items__log();

-- categories

create or replace function pos.tg_categories__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := clock_timestamp();
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'categories', new.name);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.name) <> (old.restaurant_id, old.name) then
      raise exception 'the name of a category cannot be changed' using errcode = 'RL403',
        hint = 'Insert the new category, move the dishes to it, delete the old one.';
    end if;
    new.version := old.version + 1;
    new.created_by := old.created_by;
    if new.position = old.position then
      return null;
    end if;
  end if;
  return new;
end
$$;
comment on function pos.tg_categories__write() is 'Drops what does not change and counts the version.';

create or replace function pos.tg_categories__log() returns trigger
language plpgsql set search_path = '' as $$
begin
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_MENU', 'add_category', c.name, c.version, jsonb_build_object('name', c.name))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_MENU', 'add_category', c.name, c.version, jsonb_build_object('name', c.name) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_categories__log() is 'Logs the categories that a statement made or moved.';

create or replace trigger a_write before insert or update on pos.categories
  for each row execute function pos.tg_categories__write();
create or replace trigger b_log_insert after insert on pos.categories referencing new table as changed
  for each statement execute function pos.tg_categories__log();
create or replace trigger b_log_update after update on pos.categories referencing new table as changed
  for each statement execute function pos.tg_categories__log();

-- order_history

create or replace function pos.tg_order_history__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if coalesce(current_setting('pos.stamping', true), '') <> '' then
    return new;
  end if;
  if tg_op = 'INSERT' then
    new.version := 1;
    new.created_by := pos.client_id();
    new.revision := 0;
    if pos.applying() is null then
      -- A sale written by hand has what the terminals expect of one.
      new.created_at := coalesce(new.created_at, pos.moment_of(new.extra -> 'createdAt'), now());
      new.order_date := coalesce(new.order_date, to_char(new.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
      if not new.extra ? 'createdAt' then
        new.extra := new.extra
          || jsonb_build_object('createdAt', to_char(new.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
      end if;
    end if;
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of an order cannot be changed' using errcode = 'RL403', hint = 'Void the order and insert another.';
    end if;
    new.version := old.version;
    new.revision := old.revision;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  if pos.applying() is not null then
    -- The head is locked, and one statement changes one order: the next revision will be this row's.
    select h.revision + 1 into new.revision from pos.heads as h where h.restaurant_id = new.restaurant_id;
  end if;
  return new;
end
$$;
comment on function pos.tg_order_history__write() is 'Drops what does not change, counts the version, marks the revision.';

create or replace function pos.tg_order_history__log() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_action constant text := case tg_op when 'INSERT' then 'add' else 'update' end;
begin
  if coalesce(current_setting('pos.stamping', true), '') <> '' then
    return null;
  end if;
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_ORDER', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.order_history))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_ORDER', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.order_history) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_order_history__log() is 'Logs the orders that a statement made or changed.';

create or replace function pos.tg_order_history__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'order % is not deleted: no sale may be lost', old.id
    using errcode = 'RL403', hint = 'update pos.order_history set status = ''void'' where …';
end
$$;
comment on function pos.tg_order_history__delete() is 'Refuses to delete a sale.';

create or replace trigger a_write before insert or update on pos.order_history
  for each row execute function pos.tg_order_history__write();
create or replace trigger b_log_insert after insert on pos.order_history referencing new table as changed
  for each statement execute function pos.tg_order_history__log();
create or replace trigger b_log_update after update on pos.order_history referencing new table as changed
  for each statement execute function pos.tg_order_history__log();
create or replace trigger c_delete before delete on pos.order_history
  for each row execute function pos.tg_order_history__delete();
create or replace trigger d_truncate before truncate on pos.order_history
  for each statement execute function pos.tg_any__truncate();

-- Deletes of the other three: a tombstone, and the id for the terminals.

create or replace function pos.deleted_row(p_kind text, p_id text, p_version bigint) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  return case p_kind
    when 'categories' then jsonb_build_object('name', p_id)
    else jsonb_build_object('id', p_id, 'version', p_version)
  end;
end
$$;
comment on function pos.deleted_row(text, text, bigint) is 'What a delete carries.';

create or replace function pos.log_deletes(
  p_type text, p_action text, p_kind text, p_restaurant_ids bigint[], p_ids text[], p_versions bigint[]
) returns void
language plpgsql set search_path = '' as $$
begin
  if p_ids is null then
    return;
  end if;
  insert into pos.tombstones as t (restaurant_id, kind, id, version)
  select d.restaurant_id, p_kind, d.id, d.version from unnest(p_restaurant_ids, p_ids, p_versions) as d (restaurant_id, id, version)
  on conflict (restaurant_id, kind, id) do update
    set version = greatest(t.version, excluded.version), deleted_at = excluded.deleted_at;
  if pos.applying() is not null then
    perform pos.write_log(d.restaurant_id, p_type, p_action, d.id, d.version, pos.deleted_row(p_kind, d.id, d.version))
    from unnest(p_restaurant_ids, p_ids, p_versions) as d (restaurant_id, id, version);
    return;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select d.restaurant_id, p_type, p_action, d.id, d.version, pos.deleted_row(p_kind, d.id, d.version)
  from unnest(p_restaurant_ids, p_ids, p_versions) as d (restaurant_id, id, version);
  perform pos.await_commit();
end
$$;
comment on function pos.log_deletes(text, text, text, bigint[], text[], bigint[]) is 'Logs deleted rows and leaves their tombstones.';

create or replace function pos.tg_tables__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.log_deletes('UPDATE_TABLE', 'delete', 'tables',
    array_agg(d.restaurant_id), array_agg(d.id), array_agg(d.version + 1)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_tables__delete() is 'Logs the tables that a statement deleted.';

create or replace function pos.tg_menu_items__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.log_deletes('UPDATE_MENU', 'delete_item', 'menu_items',
    array_agg(d.restaurant_id), array_agg(d.id), array_agg(d.version + 1)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_menu_items__delete() is 'Logs the dishes that a statement deleted.';

create or replace function pos.tg_categories__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.log_deletes('UPDATE_MENU', 'delete_category', 'categories',
    array_agg(d.restaurant_id), array_agg(d.name), array_agg(d.version + 1)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_categories__delete() is 'Logs the categories that a statement deleted.';

create or replace trigger c_delete after delete on pos.tables referencing old table as deleted
  for each statement execute function pos.tg_tables__delete();
create or replace trigger d_truncate before truncate on pos.tables
  for each statement execute function pos.tg_any__truncate();
create or replace trigger c_delete after delete on pos.menu_items referencing old table as deleted
  for each statement execute function pos.tg_menu_items__delete();
create or replace trigger d_truncate before truncate on pos.menu_items
  for each statement execute function pos.tg_any__truncate();
create or replace trigger c_delete after delete on pos.categories referencing old table as deleted
  for each statement execute function pos.tg_categories__delete();
create or replace trigger d_truncate before truncate on pos.categories
  for each statement execute function pos.tg_any__truncate();

-- The log itself.

create or replace function pos.tg_staged_transactions__stamp() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.stamp();
  return null;
end
$$;
comment on function pos.tg_staged_transactions__stamp() is 'At the commit of plain SQL: stamps what it changed.';

do $$
begin
  -- There is no `create or replace constraint trigger`.
  if not exists (select from pg_catalog.pg_trigger where tgrelid = 'pos.staged_transactions'::regclass and tgname = 'a_stamp') then
    create constraint trigger a_stamp after insert on pos.staged_transactions
      deferrable initially deferred for each row execute function pos.tg_staged_transactions__stamp();
  end if;
end
$$;

create or replace function pos.tg_sync_log__truncate() returns trigger
language plpgsql set search_path = '' as $$
begin
  update pos.installation as i set epoch_seed = gen_random_uuid();
  update pos.heads as h set floor = h.revision + 1;
  return null;
end
$$;
comment on function pos.tg_sync_log__truncate() is 'A truncated log is another history: a new epoch, every terminal takes a snapshot.';

create or replace trigger d_truncate after truncate on pos.sync_log
  for each statement execute function pos.tg_sync_log__truncate();
