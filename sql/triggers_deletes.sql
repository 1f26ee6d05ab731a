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
