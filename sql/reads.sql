-- What the relay reads. Every function is one statement, so that what it returns is one state.

create or replace function pos.epoch() returns text
language sql stable set search_path = '' as $$
  -- A restore makes new oids, a promotion a new timeline; a crash recovery changes none of these.
  select left(encode(sha256(convert_to(concat_ws(' ',
      i.epoch_seed,
      (select c.system_identifier from pg_control_system() as c),
      left(pg_walfile_name(pg_current_wal_lsn()), 8),
      (select d.oid from pg_catalog.pg_database as d where d.datname = current_database()),
      'pos.sync_log'::regclass::oid), 'UTF8')), 'hex'), 16)
  from pos.installation as i;
$$;
comment on function pos.epoch() is 'Names this history of changes; another restore, timeline or truncation has another one.';

create or replace function pos.find_restaurant(p_slug text) returns table (restaurant_id bigint, slug text)
language sql stable set search_path = '' as $$
  select r.restaurant_id, r.slug from pos.restaurants as r where r.slug = coalesce(p_slug, 'default');
$$;
comment on function pos.find_restaurant(text) is 'The restaurant with this slug; null means the default one. No row: there is none.';

create or replace function pos.read_heads(p_restaurant_ids bigint[])
returns table (epoch text, restaurant_id bigint, revision bigint, messages bigint, staff bigint)
language sql stable set search_path = '' as $$
  select e.epoch, h.restaurant_id, h.revision, h.messages, h.staff
  from pos.epoch() as e (epoch)
  left join pos.heads as h on h.restaurant_id = any (p_restaurant_ids);
$$;
comment on function pos.read_heads(bigint[]) is 'The epoch, and the newest revision and message of each restaurant; one row without a restaurant where there is none.';

create or replace function pos.changes_after(p_restaurant_id bigint, p_revision bigint, p_rows integer, p_bytes bigint)
returns table (revision bigint, type text, action text, row_id text, version bigint, data jsonb, client_id text, created_at timestamptz)
language sql stable rows 100 set search_path = '' as $$
  -- The sizes are summed before the rows are unpacked. The first change is returned whatever its size.
  select l.revision, l.type, l.action, l.row_id, l.version, l.data, l.client_id, l.created_at
  from (
    select s.*, sum(s.size) over (order by s.revision) - s.size as before
    from (
      select n.* from pos.sync_log as n
      where n.restaurant_id = p_restaurant_id and n.revision > p_revision
      order by n.revision limit p_rows
    ) as s
  ) as l
  where l.before < p_bytes
  order by l.revision;
$$;
comment on function pos.changes_after(bigint, bigint, integer, bigint) is 'Changes of a restaurant after a revision, oldest first, at most so many rows and about so many bytes.';

create or replace function pos.read_changes(p_restaurant_ids bigint[], p_revisions bigint[], p_rows integer, p_bytes bigint)
returns table (epoch text, restaurant_id bigint, head bigint, messages bigint, staff bigint,
               revision bigint, type text, action text, row_id text, data text, client_id text, milliseconds bigint)
language sql stable set search_path = '' set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off as $$
  -- Every change of every restaurant is read here, mostly one of each. To call pos.changes_after for a restaurant and to
  -- plan anew for its values cost six times as much as to read; hence its text, and a plan that is kept, as in pos.apply.
  select e.epoch, h.restaurant_id, h.revision, h.messages, h.staff,
         c.revision, c.type, c.action, c.row_id, c.data::text, c.client_id, (extract(epoch from c.created_at) * 1000)::bigint
  from pos.epoch() as e (epoch)
  cross join unnest(p_restaurant_ids, p_revisions) as a (restaurant_id, revision)
  join pos.heads as h on h.restaurant_id = a.restaurant_id
  left join lateral (
    select s.*, sum(s.size) over (order by s.revision) - s.size as before
    from (
      select n.* from pos.sync_log as n
      where n.restaurant_id = a.restaurant_id and n.revision > a.revision
      order by n.revision limit p_rows
    ) as s
  ) as c on c.before < p_bytes
  order by h.restaurant_id, c.revision;
$$;
comment on function pos.read_changes(bigint[], bigint[], integer, bigint) is 'The changes of many restaurants, each after its own revision, with the epoch and the heads they were read at.';

create or replace function pos.read_messages(p_restaurant_ids bigint[], p_numbers bigint[])
returns table (restaurant_id bigint, number bigint, type text, profile text, client_id text, to_client_id text, data text,
               milliseconds bigint)
language sql stable set search_path = '' as $$
  select m.restaurant_id, m.number, m.type, m.profile, m.client_id, m.to_client_id, m.data::text, (extract(epoch from m.created_at) * 1000)::bigint
  from unnest(p_restaurant_ids, p_numbers) as a (restaurant_id, number)
  cross join lateral (
    select n.* from pos.messages as n
    where n.restaurant_id = a.restaurant_id and n.number > a.number and n.created_at > now() - interval '1 minute'
    order by n.number desc limit 1000
  ) as m
  order by m.restaurant_id, m.number;
$$;
comment on function pos.read_messages(bigint[], bigint[]) is 'The messages of many restaurants, each after its own number, at most the newest 1,000 of each.';

create or replace function pos.read_lists(p_restaurant_id bigint, p_kinds text[], p_order_ids text[], p_orders integer)
returns table (epoch text, revision bigint, tables text, menu_items text, categories text, settings text, orders text,
               complete boolean, cleared_revision bigint)
language sql stable set search_path = '' as $$
  -- A standby cannot tell the epoch: whoever reads there asks the primary.
  select case when not pg_is_in_recovery() then pos.epoch() end, h.revision,
    case when 'tables' = any (p_kinds) then
      (select '[' || coalesce(string_agg(pos.row_of(t)::text, ',' order by t.number, t.id), '') || ']'
       from pos.tables as t where t.restaurant_id = p_restaurant_id)
    end,
    case when 'menu_items' = any (p_kinds) then
      (select '[' || coalesce(string_agg(pos.row_of(m)::text, ',' order by m.position, m.id), '') || ']'
       from pos.menu_items as m where m.restaurant_id = p_restaurant_id)
    end,
    case when 'categories' = any (p_kinds) then
      (select coalesce(json_agg(c.name order by c.position, c.name), '[]')::text
       from pos.categories as c where c.restaurant_id = p_restaurant_id)
    end,
    case when 'settings' = any (p_kinds) then r.settings::text end,
    case
      when 'orders' <> all (p_kinds) then null
      when p_order_ids is null then
        (select '[' || coalesce(string_agg(pos.row_of(x.row)::text, ',' order by x.revision desc), '') || ']'
         from (
           select n as row, n.revision from pos.order_history as n
           where n.restaurant_id = p_restaurant_id and n.revision > h.cleared_revision
           order by n.revision desc limit p_orders
         ) as x)
      else
        (select '[' || coalesce(string_agg(pos.row_of(n)::text, ',' order by n.revision desc), '') || ']'
         from pos.order_history as n
         where n.restaurant_id = p_restaurant_id and n.id = any (p_order_ids) and n.revision > h.cleared_revision)
    end,
    r.complete, h.cleared_revision
  from pos.restaurants as r
  join pos.heads as h on h.restaurant_id = r.restaurant_id
  where r.restaurant_id = p_restaurant_id;
$$;
comment on function pos.read_lists(bigint, text[], text[], integer) is 'Lists of a restaurant (tables, menu_items, categories, settings, orders) at one revision, as JSON texts; of the orders those named, or the newest.';

create or replace function pos.snapshot(p_restaurant_id bigint, p_orders integer)
returns table (epoch text, revision bigint, tables text, menu_items text, categories text, settings text, orders text,
               complete boolean, cleared_revision bigint)
language sql stable set search_path = '' as $$
  select s.epoch, s.revision, s.tables, s.menu_items, s.categories, s.settings, s.orders, s.complete, s.cleared_revision
  from pos.read_lists(p_restaurant_id, array['tables', 'menu_items', 'categories', 'settings', 'orders'], null, p_orders) as s;
$$;
comment on function pos.snapshot(bigint, integer) is 'The state of a restaurant at one revision, as JSON texts, with its newest orders.';

create or replace function pos.checklist(p_restaurant_id bigint, p_orders integer)
returns table (epoch text, revision bigint, lines text[])
language sql stable set search_path = '' as $$
  -- Only what every terminal can write in the same way: no digits of a price, no order of keys. What a row says beyond
  -- its version cannot differ, for a version is written once.
  select pos.epoch(), h.revision, array(
    select concat_ws(' ', 'table', t.version, t.id) from pos.tables as t where t.restaurant_id = p_restaurant_id
    union all
    select concat_ws(' ', 'dish', m.version, m.id) from pos.menu_items as m where m.restaurant_id = p_restaurant_id
    union all
    select concat_ws(' ', 'category', c.name) from pos.categories as c where c.restaurant_id = p_restaurant_id
    union all
    select concat_ws(' ', 'order', x.version, x.id)
    from (
      select o.version, o.id from pos.order_history as o
      where o.restaurant_id = p_restaurant_id and o.revision > h.cleared_revision
      order by o.revision desc limit p_orders
    ) as x
    union all
    -- Terminals know no version of the settings, so of these the values count, as far as they have no digits.
    select concat_ws(' ', 'setting', s.key, case when jsonb_typeof(s.value) in ('string', 'boolean') then s.value #>> '{}' end)
    from jsonb_each(r.settings) as s
  )
  from pos.restaurants as r
  join pos.heads as h on h.restaurant_id = r.restaurant_id
  where r.restaurant_id = p_restaurant_id;
$$;
comment on function pos.checklist(bigint, integer) is 'What a terminal of the restaurant must show at one revision, a line for each row; a checksum is made of it.';

create or replace function pos.read_orders(p_restaurant_id bigint, p_before bigint, p_rows integer)
returns table (revision bigint, data text)
language sql stable set search_path = '' as $$
  select o.revision, pos.row_of(o)::text
  from pos.order_history as o
  join pos.heads as h on h.restaurant_id = o.restaurant_id
  where o.restaurant_id = p_restaurant_id and o.revision < p_before and o.revision > h.cleared_revision
  order by o.revision desc limit p_rows;
$$;
comment on function pos.read_orders(bigint, bigint, integer) is 'Orders last changed before a revision, newest first; cleared ones are left out.';

create or replace function pos.mark_at(p_restaurant_id bigint, p_revision bigint) returns text
language sql stable set search_path = '' as $$
  -- Two servers that agree on who made a change, of what, in which microsecond, have the same history up to it: revisions
  -- that were given after their ways parted differ in that.
  select encode(sha256(convert_to(concat_ws(' ', l.revision, extract(epoch from l.created_at), l.type, l.action, l.row_id,
      l.version, l.size, l.client_id), 'UTF8')), 'hex')
  from pos.sync_log as l
  where l.restaurant_id = p_restaurant_id and l.revision = p_revision;
$$;
comment on function pos.mark_at(bigint, bigint) is 'Names the history of a restaurant up to a revision, alike on the primary and its standbys; null where the log does not hold it.';

create or replace function pos.standing(p_restaurant_id bigint, p_least bigint)
returns table (restaurant_id bigint, revision bigint, staff bigint, mark text)
language sql stable rows 1 set search_path = '' as $$
  select h.restaurant_id, h.revision, h.staff, pos.mark_at(h.restaurant_id, h.revision)
  from pos.heads as h
  where h.restaurant_id = p_restaurant_id and h.revision >= p_least;
$$;
comment on function pos.standing(bigint, bigint) is 'Where a restaurant stands on this server, and the mark of its history; no row where that is before a revision.';

create or replace function pos.prove(p_instance_id text) returns void
language sql set search_path = '' as $$
  select pg_notify('pos_proof', p_instance_id);
$$;
comment on function pos.prove(text) is 'Rings one relay''s own bell, which it must hear to know that it is not deaf.';
