-- Triggers on the five data tables. A BEFORE ROW trigger drops what does not change and counts the version; an AFTER
-- STATEMENT trigger logs what is left. They fire for any writer, psql included.

create or replace function pos.next_version(p_restaurant_id bigint, p_kind text, p_id text) returns bigint
language plpgsql set search_path = '' set enable_seqscan = off as $$
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
    when 'staff' then
      perform 1 from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = p_id for key share;
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

create or replace function pos.tg_restaurants__mark() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.count_staff(array[new.restaurant_id]);
  return null;
end
$$;
comment on function pos.tg_restaurants__mark() is 'Tells the relays of a changed complete mark.';

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
  delete from pos.app_terminals as a where a.restaurant_id = old.restaurant_id;
  delete from pos.actors as a where a.restaurant_id = old.restaurant_id;
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
create or replace trigger b_mark after update on pos.restaurants
  for each row when (new.complete <> old.complete) execute function pos.tg_restaurants__mark();
create or replace trigger c_delete after delete on pos.restaurants
  for each row execute function pos.tg_restaurants__delete();
create or replace trigger d_truncate before truncate on pos.restaurants
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
