-- How a restaurant begins: empty, or with the app's export (relay import). Both set the mark `complete`.

create or replace function pos.default_settings(p_name text) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object(
    'id', 1, 'restaurantName', p_name, 'description', 'Professional Point of Sale System', 'currency', 'MMK',
    'taxRate', 5, 'serviceCharge', 0, 'serviceChargeEnabled', false, 'theme', 'light', 'language', 'en',
    'sessionTimeout', 60);
$$;
comment on function pos.default_settings(text) is 'The settings that the app begins with; it knows none but complete ones.';

create or replace function pos.add_restaurant(p_slug text, p_name text, p_empty boolean) returns bigint
language sql set search_path = '' as $$
  insert into pos.restaurants (slug, name, complete, settings)
  values (p_slug, p_name, p_empty, case when p_empty then pos.default_settings(p_name) else '{}' end)
  returning restaurant_id;
$$;
comment on function pos.add_restaurant(text, text, boolean) is 'Makes a restaurant; an empty one has all its lists, and nothing in them.';

create or replace function pos.import_one(p_restaurant_id bigint, p_type text, p_action text, p_body jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_result constant pos.result := pos.mutate_entered(p_restaurant_id, 'import', null, p_type, p_action, p_body, null);
begin
  if v_result.code = 'OK' then
    return true;
  elsif v_result.code = 'CONFLICT' then
    return false;
  end if;
  raise exception '% %: %', p_type, coalesce(p_body ->> 'id', p_body ->> 'name'), v_result.message using errcode = 'RL400';
end
$$;
comment on function pos.import_one(bigint, text, text, jsonb) is 'One row of an export by the rules of a message; false where what is here is newer.';

create or replace function pos.import_rows(p_restaurant_id bigint, p_kind text, p_rows jsonb, p_fill boolean) returns void
language plpgsql set search_path = '' as $$
declare
  v_type constant text := case p_kind when 'tables' then 'UPDATE_TABLE' else 'UPDATE_MENU' end;
  v_suffix constant text := case p_kind when 'tables' then '' when 'menu_items' then '_item' else '_category' end;
  v_key constant text := case p_kind when 'categories' then 'name' else 'id' end;
  v_here text[];
  v_id text;
  v_row jsonb;
begin
  v_here := case p_kind
    when 'tables' then array(select t.id from pos.tables as t where t.restaurant_id = p_restaurant_id)
    when 'menu_items' then array(select m.id from pos.menu_items as m where m.restaurant_id = p_restaurant_id)
    when 'categories' then array(select c.name from pos.categories as c where c.restaurant_id = p_restaurant_id)
  end;
  if not p_fill then
    foreach v_id in array v_here loop
      continue when exists (select from jsonb_array_elements(p_rows) as r (row) where r.row ->> v_key = v_id);
      perform pos.import_one(p_restaurant_id, v_type, 'delete' || v_suffix, jsonb_build_object(v_key, v_id));
    end loop;
    if p_kind = 'tables' then
      -- In one statement: two tables may have changed their numbers. A number that the file has twice was settled.
      update pos.tables as t set number = n.number
      from (
        select min(r.row ->> 'id') as id, (r.row ->> 'number')::numeric::integer as number
        from jsonb_array_elements(p_rows) as r (row) group by 2 having count(*) = 1
      ) as n
      where t.restaurant_id = p_restaurant_id and t.id = n.id;
    end if;
  end if;
  for v_row in select r.row from jsonb_array_elements(p_rows) with ordinality as r (row, place) order by r.place loop
    v_id := v_row ->> v_key;
    if v_id = any (v_here) then
      if not p_fill and p_kind <> 'categories' then
        perform pos.import_one(p_restaurant_id, v_type, 'update' || v_suffix, v_row);
      end if;
    elsif not p_fill or not pos.is_deleted(p_restaurant_id, p_kind, v_id) then
      perform pos.import_one(p_restaurant_id, v_type, 'add' || v_suffix, v_row);
    end if;
  end loop;
end
$$;
comment on function pos.import_rows(bigint, text, jsonb, boolean) is 'A list of an export: fills what is missing here, or makes the list here equal to it.';

create or replace function pos.import_orders(p_restaurant_id bigint, p_orders jsonb, p_fill boolean) returns integer
language plpgsql set search_path = '' as $$
declare
  v_order jsonb;
  v_here pos.order_history;
  v_kept integer := 0;
  v_done integer := 0;
begin
  -- Oldest first: a snapshot has the orders that were changed last.
  for v_order in
    select o.row from jsonb_array_elements(p_orders) with ordinality as o (row, place)
    order by pos.moment_of(o.row -> 'createdAt') nulls first, o.place
  loop
    v_done := v_done + 1;
    if v_done % 50 = 0 then
      raise debug '% sales are done', v_done;  -- for the bar of relay import
    end if;
    if p_fill then
      select h.* into v_here from pos.order_history as h where h.restaurant_id = p_restaurant_id and h.id = v_order ->> 'id';
      continue when found and pos.is_same_sale(v_here, v_order, 'import') is not false;
    end if;
    if not pos.import_one(p_restaurant_id, 'UPDATE_ORDER', 'add', v_order) then
      v_kept := v_kept + 1;
    end if;
  end loop;
  return v_kept;
end
$$;
comment on function pos.import_orders(bigint, jsonb, boolean) is 'The sales of an export. None is ever deleted, and a finished one stays finished: how many were kept for that.';

create or replace function pos.import_users(p_restaurant_id bigint, p_users jsonb, p_fill boolean) returns integer
language plpgsql set search_path = '' as $$
declare
  v_user jsonb;
  v_changed integer := 0;
  v_rows integer;
begin
  -- The default users are announced by every fresh browser: one that the shop has deleted must not come in by that.
  with gone as (
    delete from pos.staff as s
    where s.restaurant_id = p_restaurant_id
      and (not p_fill or s.announced)
      and not exists (select from jsonb_array_elements(p_users) as u (row) where u.row ->> 'id' = s.id)
    returning 1
  ) select count(*) into v_changed from gone;
  insert into pos.tombstones (restaurant_id, kind, id, version)
  select p_restaurant_id, 'staff', d.id, 1 from unnest(array['1', '2', '3']) as d (id)
  where not exists (select from jsonb_array_elements(p_users) as u (row) where u.row ->> 'id' = d.id)
    and not exists (select from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = d.id)
  on conflict do nothing;
  for v_user in select u.row from jsonb_array_elements(p_users) with ordinality as u (row, place) order by u.place loop
    update pos.staff as s
    set data = v_user - array['id', 'password'], password = coalesce(v_user ->> 'password', s.password), announced = false
    where s.restaurant_id = p_restaurant_id and s.id = v_user ->> 'id'
      and (not p_fill or s.announced);
    get diagnostics v_rows = row_count;
    v_changed := v_changed + v_rows;
    insert into pos.staff (restaurant_id, id, data, password)
    select p_restaurant_id, v_user ->> 'id', v_user - array['id', 'password'], v_user ->> 'password'
    where not exists (select from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_user ->> 'id')
      and (not p_fill or not pos.is_deleted(p_restaurant_id, 'staff', v_user ->> 'id'));
    get diagnostics v_rows = row_count;
    v_changed := v_changed + v_rows;
  end loop;
  return v_changed;
end
$$;
comment on function pos.import_users(bigint, jsonb, boolean) is 'The users of an export; how many changed.';

create or replace function pos.import_backup(p_restaurant_id bigint, p_backup jsonb, p_users jsonb, p_replace boolean)
returns table (list text, changes bigint)
language plpgsql set search_path = '' as $$
declare
  v_complete boolean;
  v_before bigint;
  v_kept integer;
  v_users integer;
begin
  perform pos.enter(p_restaurant_id);
  perform set_config('pos.client_id', 'import', true);
  select r.complete, h.revision into v_complete, v_before
  from pos.restaurants as r join pos.heads as h on h.restaurant_id = r.restaurant_id
  where r.restaurant_id = p_restaurant_id for update of r;

  -- Not marked complete: what terminals changed here meanwhile is newer than the export.
  perform pos.import_one(p_restaurant_id, 'UPDATE_SETTINGS', 'update',
    case when v_complete then p_backup -> 'settings'
         else (p_backup -> 'settings') || (select r.settings from pos.restaurants as r where r.restaurant_id = p_restaurant_id) end);
  perform pos.import_rows(p_restaurant_id, 'categories', (
    select coalesce(jsonb_agg(jsonb_build_object('name', c.name) order by c.place), '[]')
    from jsonb_array_elements(p_backup -> 'categories') with ordinality as c (name, place)), not v_complete);
  perform pos.import_rows(p_restaurant_id, 'menu_items', p_backup -> 'menuItems', not v_complete);
  perform pos.import_rows(p_restaurant_id, 'tables', p_backup -> 'tables', not v_complete);
  v_kept := pos.import_orders(p_restaurant_id, p_backup -> 'orderHistory', not v_complete);
  perform set_config('pos.client_id', 'import', true);
  v_users := pos.import_users(p_restaurant_id, p_users, not v_complete);
  update pos.restaurants as r set complete = true where r.restaurant_id = p_restaurant_id;
  perform pos.leave(p_restaurant_id);

  return query
    select k.list, k.changes from (
      select t.list, (
        select count(*) from pos.sync_log as l
        where l.restaurant_id = p_restaurant_id and l.revision > v_before and l.type = t.type
          and (t.actions is null or l.action like t.actions)) as changes
      from (values ('settings', 'UPDATE_SETTINGS', null), ('categories', 'UPDATE_MENU', '%_category'),
                   ('dishes', 'UPDATE_MENU', '%_item'), ('tables', 'UPDATE_TABLE', null),
                   ('orders', 'UPDATE_ORDER', null)) as t (list, type, actions)
      union all select 'users', v_users
    ) as k;
  if v_complete and not p_replace and (v_users > 0 or exists (
    select from pos.sync_log as l where l.restaurant_id = p_restaurant_id and l.revision > v_before)) then
    raise exception 'the restaurant is complete and has other data than this file'
      using errcode = 'RL409', hint = 'To make its lists equal to the file, give --replace; sales are only added.';
  end if;
  return query select 'kept', v_kept::bigint;
end
$$;
comment on function pos.import_backup(bigint, jsonb, jsonb, boolean) is 'The app''s export: fills a restaurant that is not marked complete; one that is, only with p_replace. How much changed, by list.';
