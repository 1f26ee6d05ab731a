-- What becomes of a row that is written: it is dropped where nothing changes, counted, and logged.

-- tables

create or replace function pos.tg_tables__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if current_setting('pos.stamping', true) = pg_trigger_depth()::text then
    return new;
  end if;
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
  if current_setting('pos.stamping', true) = pg_trigger_depth()::text then
    return null;
  end if;
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
  if current_setting('pos.stamping', true) = pg_trigger_depth()::text then
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
  if current_setting('pos.stamping', true) = pg_trigger_depth()::text then
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
