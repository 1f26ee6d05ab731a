-- The short way of a batch: what most mutations are (a table that is known is saved again, a new sale is stored) is done
-- for all restaurants of the batch in one statement, and the rest of it one by one. What comes of it is the same as one
-- after the other: tests/sql/test_sets.py compares the two.
--
-- A statement takes what does not depend on each other. So each restaurant's mutations are cut into rounds, in their
-- order: a round ends before a row, an order id or a mutation id comes a second time. Round n of all restaurants is done
-- together. Whether a mutation is as simple as it looks is only seen in the rows; where one of a restaurant's round is
-- not, the whole round is done one by one.
--
-- `offset 0` inside an `exists`: otherwise the planner may read all of the ledger once, to look into it by hash.

create or replace function pos.plan_rounds(
  p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[], p_bodies text[],
  p_if_versions bigint[], p_roles text[], out places integer[], out rounds integer[], out kinds text[], out bodies jsonb[]
)
language plpgsql stable set search_path = '' as $$
begin
  select array_agg(r.place order by r.round, r.restaurant_id, r.place), array_agg(r.round order by r.round, r.restaurant_id, r.place),
         array_agg(r.kind order by r.round, r.restaurant_id, r.place), array_agg(r.body order by r.place)
  into places, rounds, kinds, bodies
  from (
    select c.place, c.restaurant_id, c.kind, c.body,
           sum(c.starts::integer) over (partition by c.restaurant_id order by c.place)::integer as round
    from (
      select k.place, k.restaurant_id, k.kind, k.body,
             k.kind is distinct from lag(k.kind) over (partition by k.restaurant_id order by k.place)
             or (k.kind <> 'one' and (
               -- By hash: where two are equal by chance, a round is shorter than it could be.
               row_number() over (partition by k.row_hash order by k.place) > 1
               or (k.order_hash is not null and row_number() over (partition by k.order_hash order by k.place) > 1)
               or (k.mutation_hash is not null and row_number() over (partition by k.mutation_hash order by k.place) > 1)
             )) as starts
      from (
        select m.place::integer, m.restaurant_id, m.body,
               case
                 when m.if_version is not null or jsonb_typeof(m.body) <> 'object' or not pos.may(coalesce(m.role, 'manager'), m.type) then 'one'
                 when m.type = 'UPDATE_TABLE' and m.action in ('add', 'update', 'update_apart') then 'table'
                 when m.type = 'UPDATE_ORDER' and m.action = 'add' then 'order'
                 else 'one'
               end as kind,
               hashtextextended(m.type || ' ' || coalesce(m.body ->> 'id', ''), m.restaurant_id) as row_hash,
               hashtextextended(case m.type when 'UPDATE_TABLE' then nullif(m.body ->> 'orderId', '') else m.body ->> 'id' end,
                                m.restaurant_id) as order_hash,
               hashtextextended(m.client_id || ' ' || m.mutation_id, m.restaurant_id) as mutation_hash
        from (
          select b.place, b.restaurant_id, b.client_id, b.mutation_id, b.type, b.action, b.if_version, p_roles[b.place] as role,
                 b.body::jsonb - array['version', 'revision', 'action'] as body
          from unnest(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions) with ordinality
            as b (restaurant_id, client_id, mutation_id, type, action, body, if_version, place)
        ) as m
      ) as k
    ) as c
  ) as r;
end
$$;
comment on function pos.plan_rounds(bigint[], text[], text[], text[], text[], text[], bigint[], text[]) is 'Cuts a batch into rounds; the places of its mutations in the order they are done, with the round and the kind of each (table, order, or one: never in a set), and the bodies in the order they came.';

create or replace function pos.apply_tables(
  p_places integer[], p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[],
  p_texts text[], p_bodies jsonb[], out places integer[], out revisions bigint[], out versions bigint[]
)
language plpgsql set search_path = '' as $$
begin
  with known as materialized (
    select g.place, g.restaurant_id, g.client_id, g.mutation_id, g.type, g.action, g.text, g.body, h.revision as head,
           count(*) over (partition by g.restaurant_id) as given
    from (
      select x.place, p_restaurant_ids[x.place] as restaurant_id, p_client_ids[x.place] as client_id,
             p_mutation_ids[x.place] as mutation_id, p_types[x.place] as type, p_actions[x.place] as action,
             p_texts[x.place] as text, p_bodies[x.place] as body
      from unnest(p_places) as x (place)
    ) as g
    join pos.heads as h on h.restaurant_id = g.restaurant_id
  ), found as materialized (
    select k.*, t.id, t.version, t.number, t.extra as old_extra, t.order_id as old_order_id, t.order_items as old_order_items,
           t.seats as old_seats, t.status as old_status, t.reservation_time as old_reservation_time,
           t.customer as old_customer, t.order_total as old_order_total, t.created_by,
           (k.body ->> 'number')::numeric::integer as new_number,
           coalesce((k.body ->> 'seats')::numeric::integer, t.seats) as seats,
           coalesce(k.body ->> 'status', t.status) as status,
           nullif(k.body ->> 'orderId', '') as order_id,
           k.body ->> 'reservationTime' as reservation_time,
           nullif(k.body -> 'customer', 'null') as customer,
           case jsonb_typeof(k.body -> 'orderItems') when 'array' then k.body -> 'orderItems'
             when 'string' then (k.body ->> 'orderItems')::jsonb end as order_items,
           (k.body ->> 'orderTotal')::numeric as order_total,
           case when k.text not like '%null%' then
             k.body - array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal']
           else
             pos.extra_of(k.body,
               array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'],
               array['orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'])
           end || case when k.body ->> 'orderId' = '' then '{"orderId": ""}' else '{}' end::jsonb as extra
    from known as k
    join pos.tables as t on t.restaurant_id = k.restaurant_id and t.id = k.body ->> 'id'
    where k.mutation_id is null or not exists (
      select from pos.mutations as m
      where m.restaurant_id = k.restaurant_id and m.client_id = k.client_id and m.mutation_id = k.mutation_id offset 0)
    for update of t
  ), decided as materialized (
    select f.*,
      -- By image, as in tg_tables__write. Between two rows the operator *<> would compare column by column.
      record_image_ne(
        row(f.seats, f.status, f.order_id, f.reservation_time, f.customer, f.order_items, f.order_total, f.extra),
        row(f.old_seats, f.old_status, f.old_order_id, f.old_reservation_time, f.old_customer, f.old_order_items,
            f.old_order_total, f.old_extra)) as changes,
      f.given = count(*) over (partition by f.restaurant_id) and bool_and(
        coalesce(f.new_number, f.number) = f.number
        and (f.order_id is null or (
          -- Nobody else's, not paid, and never replaced by another: then it is the order id that the table gets.
          not exists (select from pos.order_history as o
                      where o.restaurant_id = f.restaurant_id and o.id = f.order_id and o.status in ('completed', 'void') offset 0)
          and not exists (select from pos.tables as n
                          where n.restaurant_id = f.restaurant_id and n.order_id = f.order_id and n.id <> f.id offset 0)
          and (f.order_id = f.old_order_id or not exists (
            select from pos.order_replacements as r where r.restaurant_id = f.restaurant_id and r.wanted_id = f.order_id offset 0))))
      ) over (partition by f.restaurant_id) as simple
    from found as f
  ), numbered as materialized (
    select d.*, d.head + sum(d.changes::integer) over (partition by d.restaurant_id order by d.place) as revision,
           d.version + d.changes::integer as new_version
    from decided as d where d.simple
  ), counted as (
    update pos.heads as h set revision = c.revision
    from (select n.restaurant_id, max(n.revision) as revision from numbered as n where n.changes group by n.restaurant_id) as c
    where h.restaurant_id = c.restaurant_id
    returning pg_notify('pos_doorbell', h.restaurant_id::text)
  ), written as (
    update pos.tables as t
    set (seats, status, order_id, reservation_time, customer, order_items, order_total, extra, version, updated_by, updated_at)
      = row(n.seats, n.status, n.order_id, n.reservation_time, n.customer, n.order_items, n.order_total, n.extra,
            n.new_version, n.client_id, clock_timestamp())
    from numbered as n
    where n.changes and t.restaurant_id = n.restaurant_id and t.id = n.id
  ), claimed as (
    insert into pos.order_claims (restaurant_id, order_id, table_id, client_id)
    select n.restaurant_id, n.order_id, n.id, n.client_id from numbered as n
    where n.changes and n.order_id is distinct from n.old_order_id and n.order_id is not null
    on conflict do nothing
  ), logged as (
    insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
    select l.restaurant_id, l.revision, l.type, 'update', l.id, l.new_version, l.data, octet_length(l.data::text), l.client_id
    from (
      select n.restaurant_id, n.revision, n.type, n.id, n.new_version, n.client_id,
             pos.row_of(row(n.restaurant_id, n.id, n.number, n.seats, n.status, n.order_id, n.reservation_time, n.customer,
                            n.order_items, n.order_total, n.extra, n.new_version, '', '', null)::pos.tables) as data
      from numbered as n where n.changes offset 0
    ) as l
  ), remembered as (
    insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision, version)
    select n.restaurant_id, n.client_id, n.mutation_id, pos.body_hash(n.type, n.action, null, n.body), n.revision, n.new_version
    from numbered as n where n.mutation_id is not null
  )
  select array_agg(n.place), array_agg(n.revision), array_agg(n.new_version) into places, revisions, versions from numbered as n;
end
$$;
comment on function pos.apply_tables(integer[], bigint[], text[], text[], text[], text[], text[], jsonb[]) is 'One round of saved tables, each restaurant''s only where all of them are simple; which were done, and their answers.';

create or replace function pos.apply_orders(
  p_places integer[], p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[],
  p_bodies jsonb[], out places integer[], out revisions bigint[], out versions bigint[]
)
language plpgsql set search_path = '' as $$
begin
  with decided as materialized (
    select g.*, h.revision as head,
      bool_and(
        g.body ?& array['tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items']
        and (g.mutation_id is null or not exists (
          select from pos.mutations as m
          where m.restaurant_id = g.restaurant_id and m.client_id = g.client_id and m.mutation_id = g.mutation_id offset 0))
        -- A new id, which nobody has for another sale.
        and not exists (select from pos.order_history as o where o.restaurant_id = g.restaurant_id and o.id = g.body ->> 'id' offset 0)
        and not exists (select from pos.order_replacements as r where r.restaurant_id = g.restaurant_id and r.wanted_id = g.body ->> 'id' offset 0)
        and not exists (
          select from pos.tables as t where t.restaurant_id = g.restaurant_id and t.order_id = g.body ->> 'id'
            and t.number is distinct from (g.body ->> 'tableNumber')::numeric::integer offset 0)
      ) over (partition by g.restaurant_id) as simple
    from (
      select x.place, p_restaurant_ids[x.place] as restaurant_id, p_client_ids[x.place] as client_id,
             p_mutation_ids[x.place] as mutation_id, p_types[x.place] as type, p_actions[x.place] as action,
             p_bodies[x.place] as body
      from unnest(p_places) as x (place)
    ) as g
    join pos.heads as h on h.restaurant_id = g.restaurant_id
  ), numbered as materialized (
    select d.place, d.restaurant_id, d.client_id, d.mutation_id, d.type, d.action, d.body,
           d.head + row_number() over (partition by d.restaurant_id order by d.place) as revision,
           row(d.restaurant_id, d.body ->> 'id', (d.body ->> 'tableNumber')::numeric::integer, d.body ->> 'customerName',
               d.body ->> 'orderDate', d.body ->> 'status', (d.body ->> 'total')::numeric, pos.lines_of(d.body -> 'items'),
               case when d.body ? 'createdAt' then pos.moment_of(d.body -> 'createdAt') end,
               d.body - array['id', 'tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items'],
               1, d.head + row_number() over (partition by d.restaurant_id order by d.place), d.client_id, d.client_id,
               clock_timestamp())::pos.order_history as sale
    from decided as d where d.simple
  ), counted as (
    update pos.heads as h set revision = c.revision
    from (select n.restaurant_id, max(n.revision) as revision from numbered as n group by n.restaurant_id) as c
    where h.restaurant_id = c.restaurant_id
    returning pg_notify('pos_doorbell', h.restaurant_id::text)
  ), written as (
    insert into pos.order_history select (n.sale).* from numbered as n
  ), logged as (
    insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
    select l.restaurant_id, l.revision, l.type, 'add', l.id, 1, l.data, octet_length(l.data::text), l.client_id
    from (
      select n.restaurant_id, n.revision, n.type, n.body ->> 'id' as id, n.client_id, pos.row_of(n.sale) as data
      from numbered as n offset 0
    ) as l
  ), remembered as (
    insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision, version)
    select n.restaurant_id, n.client_id, n.mutation_id, pos.body_hash(n.type, n.action, null, n.body), n.revision, 1
    from numbered as n where n.mutation_id is not null
  )
  select array_agg(n.place), array_agg(n.revision), array_agg(1::bigint) into places, revisions, versions from numbered as n;
end
$$;
comment on function pos.apply_orders(integer[], bigint[], text[], text[], text[], text[], jsonb[]) is 'One round of new sales, each restaurant''s only where all of them are simple; which were done, and their answers.';

create or replace function pos.apply_together(
  p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[], p_bodies text[],
  p_if_versions bigint[], p_roles text[]
) returns pos.result[]
language plpgsql set search_path = '' as $$
declare
  -- Fewer are done sooner one by one. A set logs what was asked for: not where a trigger of somebody's own, before each
  -- row, may make something else of it (pg_trigger.tgtype: 1 each row, 2 before). Its function may be in schema pos as well.
  v_few constant integer := case when exists (
    select from pg_catalog.pg_trigger as g
    where g.tgrelid in ('pos.tables'::regclass, 'pos.order_history'::regclass)
      and g.tgtype & 3 = 3 and g.tgenabled <> 'D'
      and g.tgfoid not in ('pos.tg_tables__write()'::regprocedure, 'pos.tg_order_history__write()'::regprocedure,
                           'pos.tg_order_history__delete()'::regprocedure)
  ) then 2147483647 else 3 end;
  v_results pos.result[] := array_fill(null::pos.result, array[cardinality(p_restaurant_ids)]);
  v_places integer[];
  v_rounds integer[];
  v_kinds text[];
  v_bodies jsonb[];
  v_first integer := 1;
  v_last integer;
  v_kind text;
  v_part integer[];
  v_done integer[];
  v_revisions bigint[];
  v_versions bigint[];
  v_entered bigint;
  v_i integer;
  v_place integer;
  v_set text;
begin
  if exists (select from pos.staged_transactions as t where t.transaction_id = pg_current_xact_id()) then
    perform pos.stamp();
  end if;
  -- In ascending id, whoever locks, and before anything is read: from here on nobody else gives these restaurants revisions.
  perform 1 from pos.heads as h where h.restaurant_id = any (p_restaurant_ids) order by h.restaurant_id for no key update;
  get diagnostics v_i = row_count;
  if v_i <> (select count(distinct r.id) from unnest(p_restaurant_ids) as r (id)) then
    raise exception 'one of the restaurants is not there' using errcode = 'RL404';
  end if;
  select p.places, p.rounds, p.kinds, p.bodies into v_places, v_rounds, v_kinds, v_bodies
  from pos.plan_rounds(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions, p_roles) as p;

  while v_first <= cardinality(v_places) loop
    v_last := v_first;
    while v_rounds[v_last + 1] = v_rounds[v_first] loop
      v_last := v_last + 1;
    end loop;
    -- What a trigger of somebody's own wrote in the round before gets its revisions before this one's.
    if v_first > 1 and exists (select from pos.staged_transactions as t where t.transaction_id = pg_current_xact_id()) then
      perform pos.stamp();
    end if;
    -- The triggers stand back: a statement does itself what they would do row by row.
    v_set := set_config('pos.stamping', (pg_trigger_depth() + 1)::text, true);
    foreach v_kind in array array['table', 'order'] loop
      v_part := array(select v_places[p.i] from generate_series(v_first, v_last) as p (i) where v_kinds[p.i] = v_kind order by p.i);
      continue when cardinality(v_part) < v_few;
      if v_kind = 'table' then
        select d.places, d.revisions, d.versions into v_done, v_revisions, v_versions
        from pos.apply_tables(v_part, p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, v_bodies) as d;
      else
        select d.places, d.revisions, d.versions into v_done, v_revisions, v_versions
        from pos.apply_orders(v_part, p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, v_bodies) as d;
      end if;
      for v_i in 1 .. coalesce(cardinality(v_done), 0) loop
        v_results[v_done[v_i]] := row('OK', null, null, v_revisions[v_i], v_versions[v_i], null)::pos.result;
      end loop;
    end loop;
    v_set := set_config('pos.stamping', '', true);
    -- What is left of the round, in its order.
    v_entered := null;
    for v_i in v_first .. v_last loop
      v_place := v_places[v_i];
      continue when v_results[v_place].code is not null;
      if v_entered is distinct from p_restaurant_ids[v_place] then
        v_entered := p_restaurant_ids[v_place];
        perform pos.enter(v_entered);
      end if;
      v_results[v_place] := pos.mutate_entered(v_entered, p_client_ids[v_place], p_mutation_ids[v_place], p_types[v_place],
                                               p_actions[v_place], p_bodies[v_place]::jsonb, p_if_versions[v_place], p_roles[v_place]);
    end loop;
    if v_entered is not null then
      perform pos.leave(v_entered);
    end if;
    v_first := v_last + 1;
  end loop;
  return v_results;
end
$$;
comment on function pos.apply_together(bigint[], text[], text[], text[], text[], text[], bigint[], text[]) is 'A batch, round by round: one result each. Raises where one of its mutations fails.';
