-- How a change gets its revision. Whoever wrote the row, the statement triggers end here, on one of two ways:
--
-- * inside pos.mutate and pos.apply the head of the restaurant is locked already, and the change is stamped at once;
-- * plain SQL is collected in staged_changes and stamped at its commit by one deferred trigger, heads in ascending id,
--   so that a `begin` forgotten in psql blocks its rows, not the restaurant.

create or replace function pos.applying() returns bigint
language plpgsql stable set search_path = '' as $$
begin
  return nullif(current_setting('pos.applying', true), '')::bigint;
end
$$;
comment on function pos.applying() is 'The restaurant whose head this transaction holds for stamping at once; null in plain SQL.';

create or replace function pos.client_id() returns text
language plpgsql stable set search_path = '' as $$
begin
  return coalesce(nullif(current_setting('pos.client_id', true), ''), 'database');
end
$$;
comment on function pos.client_id() is 'Who is changing rows: a client id, or database.';

-- Needs the function above.
alter table pos.staged_changes alter column client_id set default pos.client_id();

create or replace function pos.ring(p_restaurant_id bigint) returns void
language sql set search_path = '' as $$
  -- A doorbell: it says where to look, never what happened. Equal ones in one transaction fold into one.
  select pg_notify('pos_doorbell', p_restaurant_id::text);
$$;
comment on function pos.ring(bigint) is 'Rings the relays'' doorbell for one restaurant.';

create or replace function pos.write_log(
  p_restaurant_id bigint, p_type text, p_action text, p_row_id text, p_version bigint, p_data jsonb
) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_size constant integer := octet_length(p_data::text);
  v_client_id constant text := pos.client_id();
  v_revision bigint;
  v_set text;
begin
  -- The lock is held to commit: who has seen revision n has seen everything below n. A sequence cannot promise that.
  with head as (
    update pos.heads as h set revision = h.revision + 1
    where h.restaurant_id = p_restaurant_id
    returning h.revision
  )
  insert into pos.sync_log as l (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
  select p_restaurant_id, head.revision, p_type, p_action, p_row_id, p_version, p_data, v_size, v_client_id from head
  returning l.revision into strict v_revision;
  v_set := set_config('pos.revision', v_revision::text, true);
  perform pg_notify('pos_doorbell', p_restaurant_id::text);
  return v_revision;
end
$$;
comment on function pos.write_log(bigint, text, text, text, bigint, jsonb) is 'Stamps one change at once, under the head''s lock, and rings.';

create or replace function pos.await_commit() returns void
language sql set search_path = '' as $$
  insert into pos.staged_transactions default values on conflict do nothing;
$$;
comment on function pos.await_commit() is 'Sees to it that this transaction''s staged changes are stamped at its commit.';

create or replace function pos.count_staff(p_restaurant_ids bigint[]) returns void
language plpgsql set search_path = '' as $$
begin
  if pos.applying() is null then
    insert into pos.staged_changes (restaurant_id, type, action, data)
    select distinct r.restaurant_id, 'STAFF', 'update', '{}'::jsonb from unnest(p_restaurant_ids) as r (restaurant_id);
    if found then
      perform pos.await_commit();
    end if;
    return;
  end if;
  update pos.heads as h set staff = h.staff + 1 where h.restaurant_id = any (p_restaurant_ids);
  if found then
    perform pos.ring(pos.applying());
  end if;
end
$$;
comment on function pos.count_staff(bigint[]) is 'Tells the relays that staff, terminals or a complete mark changed, without a revision: at once under the head''s lock, else at commit.';

create or replace function pos.stamp() returns void
language plpgsql set search_path = '' as $$
declare
  v_transaction_id constant xid8 := pg_current_xact_id();
  v_stamping constant text := coalesce(current_setting('pos.stamping', true), '');
  v_applying constant text := coalesce(current_setting('pos.applying', true), '');
  v_restaurant_ids bigint[];
  v_heads bigint[];
  v_order record;
begin
  -- In ascending id, whoever locks: two transactions that touch the same restaurants never wait for each other.
  select array_agg(l.restaurant_id), array_agg(l.revision) into v_restaurant_ids, v_heads
  from (
    select h.restaurant_id, h.revision from pos.heads as h
    where h.restaurant_id in (select s.restaurant_id from pos.staged_changes as s where s.transaction_id = v_transaction_id)
    order by h.restaurant_id
    for no key update
  ) as l;

  insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
  select s.restaurant_id, h.revision + row_number() over (partition by s.restaurant_id order by s.seq),
         s.type, s.action, s.row_id, s.version, s.data, octet_length(s.data::text), s.client_id
  from pos.staged_changes as s
  join unnest(v_restaurant_ids, v_heads) as h (restaurant_id, revision) on h.restaurant_id = s.restaurant_id
  where s.transaction_id = v_transaction_id and s.type <> 'STAFF';

  -- Once by the number of changes: once a change is quadratic inside a transaction.
  update pos.heads as h set revision = h.revision + s.changes, staff = h.staff + s.staff
  from (
    select c.restaurant_id, count(*) filter (where c.type <> 'STAFF') as changes, max((c.type = 'STAFF')::integer) as staff
    from pos.staged_changes as c
    where c.transaction_id = v_transaction_id group by c.restaurant_id
  ) as s
  where h.restaurant_id = s.restaurant_id;

  delete from pos.staged_changes as s where s.transaction_id = v_transaction_id;
  delete from pos.staged_transactions as t where t.transaction_id = v_transaction_id;

  -- What a trigger of somebody's own writes meanwhile is stamped at once: to stage it would be to do this again, and then
  -- the trigger fires again.
  perform set_config('pos.stamping', (pg_trigger_depth() + 1)::text, true);
  for v_order in
    select l.restaurant_id, l.row_id, max(l.revision) as revision
    from unnest(v_restaurant_ids, v_heads) as h (restaurant_id, revision)
    join pos.sync_log as l on l.restaurant_id = h.restaurant_id and l.revision > h.revision
    where l.type = 'UPDATE_ORDER'
    group by l.restaurant_id, l.row_id
  loop
    perform set_config('pos.applying', v_order.restaurant_id::text, true);
    -- Not where such a trigger has changed it again.
    update pos.order_history as o set revision = v_order.revision
    where o.restaurant_id = v_order.restaurant_id and o.id = v_order.row_id and o.revision < v_order.revision;
  end loop;
  perform set_config('pos.applying', v_applying, true);
  perform set_config('pos.stamping', v_stamping, true);
  perform pos.ring(r.restaurant_id) from unnest(v_restaurant_ids) as r (restaurant_id);
end
$$;
comment on function pos.stamp() is 'Gives this transaction''s staged changes their revisions, in the order they were made, and rings.';
