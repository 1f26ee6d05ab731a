-- UPDATE_TABLE: the table itself, the order id that is settled with it, and lines of its open order.

create or replace function pos.moved_order_id(p_table pos.tables, p_wanted_id text, p_client_id text) returns text
language plpgsql set search_path = '' as $$
declare
  v_given_id text;
begin
  select r.given_id into v_given_id
  from pos.order_replacements as r
  join pos.tables as t on t.restaurant_id = r.restaurant_id and t.order_id = r.given_id and t.id = r.table_id
  where r.restaurant_id = p_table.restaurant_id and r.wanted_id = p_wanted_id and r.client_id = p_client_id
    and t.id <> p_table.id and t.order_items = p_table.order_items and t.order_items <> '[]'
  order by r.created_at desc limit 1;
  -- The guests take the id along that their order got at the other table.
  update pos.order_replacements as r set table_id = p_table.id
  where r.restaurant_id = p_table.restaurant_id and r.given_id = v_given_id;
  return v_given_id;
end
$$;
comment on function pos.moved_order_id(pos.tables, text, text) is 'The id that this terminal''s order, open with the same lines on another table, was given instead of the wanted one.';

create or replace function pos.settle_order_id(
  p_table pos.tables, p_current pos.tables, p_client_id text, p_moves boolean, out order_id text, out stale boolean
)
language plpgsql set search_path = '' as $$
declare
  v_wanted_id constant text := p_table.order_id;
  v_finished pos.order_history;
  v_other pos.tables;
begin
  stale := false;
  order_id := v_wanted_id;
  if p_current.order_id is distinct from v_wanted_id then
    order_id := coalesce(
      pos.replaced_order_id(p_table.restaurant_id, v_wanted_id, p_client_id, p_table.id),
      case when p_moves then pos.moved_order_id(p_table, v_wanted_id, p_client_id) end,
      v_wanted_id);
  end if;

  if not exists (select from pos.order_history as o where o.restaurant_id = p_table.restaurant_id and o.id = settle_order_id.order_id)
    and not exists (select from pos.tables as t where t.restaurant_id = p_table.restaurant_id
                    and t.order_id = settle_order_id.order_id and t.id <> p_table.id) then
    return;
  end if;
  select o.* into v_finished from pos.order_history as o
  where o.restaurant_id = p_table.restaurant_id and o.id = settle_order_id.order_id and pos.is_finished(o.status);
  if found then
    -- This table carried it: somebody edits an order that is paid. Another one did: two sales want one id. After a
    -- clear terminals begin to count anew, so then it is another sale too.
    stale := (v_finished.table_number = p_table.number
        or exists (select from pos.order_claims as c
                   where c.restaurant_id = p_table.restaurant_id and c.order_id = v_finished.id and c.table_id = p_table.id))
      and v_finished.revision > (select h.cleared_revision from pos.heads as h where h.restaurant_id = p_table.restaurant_id);
    if stale is not true then
      stale := false;
      order_id := pos.replace_order_id(p_table.restaurant_id, v_wanted_id, p_client_id, p_table.id);
    end if;
    return;
  end if;

  select t.* into v_other from pos.tables as t
  where t.restaurant_id = p_table.restaurant_id and t.order_id = settle_order_id.order_id and t.id <> p_table.id
  order by t.id limit 1 for update;
  if not found then
    return;
  end if;
  -- The same lines are the same order; where there are none yet, two terminals may have opened two with one number.
  if p_moves and coalesce(v_other.order_items, '[]') = coalesce(p_table.order_items, '[]')
    and (v_other.order_items <> '[]' or pos.has_claimed(p_table.restaurant_id, settle_order_id.order_id, p_client_id)) then
    -- The guests moved.
    update pos.tables as t
    set status = 'available', order_id = null, order_items = null, order_total = null, customer = null, reservation_time = null,
        extra = t.extra - array['orderId', 'orderItems', 'orderTotal', 'customer', 'reservationTime']
    where t.restaurant_id = v_other.restaurant_id and t.id = v_other.id;
  else
    order_id := pos.replace_order_id(p_table.restaurant_id, v_wanted_id, p_client_id, p_table.id);
  end if;
end
$$;
comment on function pos.settle_order_id(pos.tables, pos.tables, text, boolean) is 'Which order id a table gets for the one it wants; stale when that order is paid. p_moves: an open order with the same lines moves here.';

create or replace function pos.store_table(p_row pos.tables, p_current pos.tables, p_client_id text) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_client_id constant text := coalesce(nullif(p_client_id, ''), 'database');
  v_stamping constant text := coalesce(current_setting('pos.stamping', true), '');
  v_revision bigint;
  v_version bigint;
  v_set text;
begin
  if p_current.id is null then
    insert into pos.tables (restaurant_id, id, number, seats, status, order_id, reservation_time, customer, order_items, order_total, extra)
    values (p_row.restaurant_id, p_row.id, p_row.number, p_row.seats, p_row.status, p_row.order_id, p_row.reservation_time,
            p_row.customer, p_row.order_items, p_row.order_total, p_row.extra)
    returning version into v_version;
    return pos.done(p_row.restaurant_id, v_version);
  end if;
  if p_row *= p_current then
    return pos.done(p_row.restaurant_id, p_row.version);
  end if;
  if p_row.order_id is distinct from p_current.order_id and p_row.order_id is not null then
    insert into pos.order_claims (restaurant_id, order_id, table_id, client_id)
    values (p_row.restaurant_id, p_row.order_id, p_row.id, v_client_id)
    on conflict do nothing;
  end if;
  -- The triggers of this statement stand back: they would cost as much again as this, and do the same. Not those of what
  -- a trigger of somebody's own writes meanwhile, one level deeper: so the revision is taken when the row is written.
  v_set := set_config('pos.stamping', (pg_trigger_depth() + 1)::text, true);
  with written as (
    update pos.tables as t
    set (number, seats, status, order_id, reservation_time, customer, order_items, order_total, extra, version, updated_by, updated_at)
      = row(p_row.number, p_row.seats, p_row.status, p_row.order_id, p_row.reservation_time, p_row.customer,
            p_row.order_items, p_row.order_total, p_row.extra, p_row.version + 1, v_client_id, clock_timestamp())
    where t.restaurant_id = p_row.restaurant_id and t.id = p_row.id
    returning t.id, t.version, pos.row_of(t) as data
  )
  select pos.write_log(p_row.restaurant_id, 'UPDATE_TABLE', 'update', w.id, w.version, w.data), w.version
  into v_revision, v_version from written as w;
  v_set := set_config('pos.stamping', v_stamping, true);
  if v_revision is null then
    -- A trigger of somebody's own has dropped it.
    return pos.done(p_row.restaurant_id, p_row.version);
  end if;
  return row('OK', null, null, v_revision, v_version, null)::pos.result;
end
$$;
comment on function pos.store_table(pos.tables, pos.tables, text) is 'Writes a table that is settled, in the place of the current one (null: a new table), and its change into the log.';

create or replace function pos.mutate_table(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_action text := p_action;
  v_current pos.tables;
  v_new pos.tables;
  v_exists boolean;
  v_missing text;
  v_holder pos.tables;
  v_free bigint;
  v_stale boolean;
begin
  if coalesce(p_action, '') not in ('add', 'add_apart', 'update', 'update_apart', 'delete', 'delete_apart', 'add_items', 'update_item', 'void_item') then
    return pos.unknown_action('UPDATE_TABLE', p_action);
  end if;
  select t.* into v_current from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = v_id for update;
  v_exists := found;
  if p_action like '%_apart' then
    v_action := regexp_replace(p_action, '_apart$', '');
    if v_action = 'add' and v_exists and v_current.created_by <> p_client_id then
      v_id := pos.id_apart(p_restaurant_id, 'tables', v_id);
      v_exists := false;
      v_current := null;
    end if;
  end if;
  if v_action = 'delete' and not v_exists then
    if p_action = 'delete_apart' then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_TABLE', v_action, 'tables', v_id);
    end if;
    return pos.done(p_restaurant_id, null);
  end if;
  if not v_exists and v_action <> 'add' and pos.is_deleted(p_restaurant_id, 'tables', v_id) then
    return pos.refused('GONE', format('table %s was deleted; add it to make it again', v_id), 'id');
  end if;
  if p_if_version <> coalesce(v_current.version, 0) then
    return pos.conflict(format('table %s has version %s', v_id, coalesce(v_current.version, 0)), 'ifVersion', pos.row_of(v_current));
  end if;
  if v_action = 'delete' then
    delete from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = v_id;
    return pos.done(p_restaurant_id, v_current.version + 1);
  end if;
  if p_action in ('add_items', 'update_item', 'void_item') then
    if not v_exists then
      return pos.refused('VALIDATION', format('there is no table %s', v_id), 'id');
    end if;
    return pos.mutate_lines(v_current, p_client_id, p_action, p_body);
  end if;

  if not v_exists and not p_body ?& array['number', 'seats', 'status'] then
    v_missing := pos.missing_field(p_body, array['number', 'seats', 'status']);
    return pos.refused('VALIDATION', format('%s is required to make a table', v_missing), v_missing);
  end if;
  v_new := v_current;
  v_new.restaurant_id := p_restaurant_id;
  v_new.id := v_id;
  v_new.number := coalesce((p_body ->> 'number')::numeric::integer, v_current.number);
  v_new.seats := coalesce((p_body ->> 'seats')::numeric::integer, v_current.seats);
  v_new.status := coalesce(p_body ->> 'status', v_current.status);
  v_new.order_id := nullif(p_body ->> 'orderId', '');
  v_new.reservation_time := p_body ->> 'reservationTime';
  v_new.customer := nullif(p_body -> 'customer', 'null');
  v_new.order_items := case when p_body ? 'orderItems' then pos.lines_of(p_body -> 'orderItems') end;
  v_new.order_total := (p_body ->> 'orderTotal')::numeric;
  v_new.extra := case when p_body::text like '%null%' then
      pos.extra_of(p_body,
        array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'],
        array['orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'])
    else p_body - array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'] end;
  if p_body ->> 'orderId' = '' then
    v_new.extra := v_new.extra || '{"orderId": ""}';
  end if;

  if v_new.number is distinct from v_current.number then
    select t.* into v_holder from pos.tables as t
    where t.restaurant_id = p_restaurant_id and t.number = v_new.number and t.id <> v_id;
  end if;
  if v_holder.id is not null then
    select n.number::bigint + 1 into v_free
    from pos.tables as n
    where n.restaurant_id = p_restaurant_id and n.number >= v_new.number
      and not exists (select from pos.tables as t where t.restaurant_id = p_restaurant_id and t.number = n.number::bigint + 1)
    order by n.number limit 1;
    if v_action <> 'add' or v_exists or p_mutation_id is not null or v_free > 2147483647 then
      return pos.conflict(format('number %s is taken by table %s', v_new.number, v_holder.id), 'number',
                          pos.row_of(case when v_exists then v_current else v_holder end));
    end if;
    v_new.number := v_free;
  end if;
  if v_new.order_id is not null then
    select s.order_id, s.stale into v_new.order_id, v_stale from pos.settle_order_id(v_new, v_current, p_client_id, p_action not like '%_apart') as s;
    if v_stale then
      return pos.conflict(format('order %s is finished', v_new.order_id), 'orderId', pos.row_of(v_current));
    end if;
  end if;
  return pos.store_table(v_new, v_current, p_client_id);
end
$$;
comment on function pos.mutate_table(bigint, text, text, text, jsonb, bigint) is 'UPDATE_TABLE. add_apart, update_apart and delete_apart are the web app''s, whose terminals choose ids without knowing of each other: a table id that another one made is another table''s, an order id that is open elsewhere another order''s.';

create or replace function pos.merged_lines(p_lines jsonb, p_action text, p_items jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with given as (
    -- A line that is named twice gets the fields of both; of a field given twice, the later one.
    select i.item ->> 'id' as id, min(i.place) as place, jsonb_object_agg(f.key, f.value order by i.place) as item
    from jsonb_array_elements(p_items) with ordinality as i (item, place)
    cross join lateral jsonb_each(i.item) as f
    group by i.item ->> 'id'
  ), kept as (
    select l.place, case when g.id is null then l.line else l.line || g.item end as line
    from jsonb_array_elements(p_lines) with ordinality as l (line, place)
    left join given as g on g.id = l.line ->> 'id'
    where g.id is null or p_action <> 'void_item'
  ), added as (
    select g.place, g.item as line
    from given as g
    where p_action = 'add_items'
      and not exists (select from jsonb_array_elements(p_lines) as l (line) where l.line ->> 'id' = g.id)
  )
  select coalesce(jsonb_agg(a.line order by a.added, a.place), '[]')
  from (select k.line, k.place, false as added from kept as k union all select d.line, d.place, true from added as d) as a;
$$;
comment on function pos.merged_lines(jsonb, text, jsonb) is 'Lines of an order after add_items, update_item or void_item; a line is known by its id.';

create or replace function pos.mutate_lines(p_current pos.tables, p_client_id text, p_action text, p_body jsonb) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_new pos.tables := p_current;
  v_lines constant jsonb := coalesce(p_current.order_items, '[]');
  v_wanted_id constant text := nullif(p_body ->> 'orderId', '');
  v_merged jsonb;
  v_unknown text;
  v_stale boolean;
begin
  -- Lines meant for an order that is no longer the one on the table must not land on the next guests' bill,
  if v_wanted_id <> p_current.order_id
    and pos.replaced_order_id(p_current.restaurant_id, v_wanted_id, p_client_id, p_current.id) is distinct from p_current.order_id then
    return pos.conflict(format('order %s is not the one open on table %s', v_wanted_id, p_current.id), 'orderId',
                        pos.row_of(p_current));
  end if;
  -- nor on a bill that is paid.
  if exists (select from pos.order_history as o where o.restaurant_id = p_current.restaurant_id
             and o.id = p_current.order_id and pos.is_finished(o.status)) then
    return pos.conflict(format('order %s is finished', p_current.order_id), 'orderId', pos.row_of(p_current));
  end if;
  if p_action = 'update_item' then
    select i.item ->> 'id' into v_unknown from jsonb_array_elements(p_body -> 'items') as i (item)
    where not exists (select from jsonb_array_elements(v_lines) as l (line) where l.line ->> 'id' = i.item ->> 'id') limit 1;
    if found then
      return pos.conflict(format('table %s has no line %s', p_current.id, v_unknown), 'items', pos.row_of(p_current));
    end if;
  end if;
  v_merged := pos.merged_lines(v_lines, p_action, p_body -> 'items');
  if v_merged::text <> v_lines::text then
    v_new.order_items := v_merged;
    v_new.order_total := pos.total_of(v_new.order_items, p_current.order_total);
    v_new.extra := p_current.extra - array['orderItems', 'orderTotal'];
    if v_new.status = 'available' and p_action = 'add_items' then
      v_new.status := 'occupied';
    end if;
  end if;
  if p_action = 'add_items' and p_current.order_id is null and v_wanted_id is not null then
    v_new.order_id := v_wanted_id;
    v_new.extra := v_new.extra - 'orderId';
    select s.order_id, s.stale into v_new.order_id, v_stale from pos.settle_order_id(v_new, p_current, p_client_id, true) as s;
    if v_stale then
      return pos.conflict(format('order %s is finished', v_wanted_id), 'orderId', pos.row_of(p_current));
    end if;
  end if;
  return pos.store_table(v_new, p_current, p_client_id);
end
$$;
comment on function pos.mutate_lines(pos.tables, text, text, jsonb) is 'UPDATE_TABLE add_items, update_item, void_item: merges lines of the open order and sums them up.';
