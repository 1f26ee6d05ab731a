-- Who changed what, and when: read from the log, which has every change, those made by hand among them.

create or replace function pos.note_actors(
  p_restaurant_ids bigint[], p_client_ids text[], p_terminals text[], p_roles text[], p_addresses text[]
) returns void
language sql set search_path = '' as $$
  insert into pos.actors (restaurant_id, client_id, terminal, role, address)
  select n.restaurant_id, n.client_id, n.terminal, n.role, n.address
  from unnest(p_restaurant_ids, p_client_ids, p_terminals, p_roles, p_addresses)
    as n (restaurant_id, client_id, terminal, role, address)
  -- Another relay may have noted it just now: its row is locked until that relay's batch is committed.
  where not exists (
    select from pos.actors as a
    where (a.restaurant_id, a.client_id, a.terminal, a.role, a.address)
        = (n.restaurant_id, n.client_id, n.terminal, n.role, n.address)
      and a.seen_at > now() - interval '4 minutes')
  order by 1, 2, 3, 4, 5
  on conflict (restaurant_id, client_id, terminal, role, address) do update set seen_at = excluded.seen_at;
$$;
comment on function pos.note_actors(bigint[], text[], text[], text[], text[]) is 'Notes who is about to change something; a relay says it at the first change of a terminal and then every ten minutes.';

create or replace function pos.history_of(p_table text, p_id text, p_restaurant text default null)
returns table (revision bigint, at timestamptz, client_id text, terminal text, role text, terminal_address text,
               database_user text, address inet, action text, field text, before jsonb, after jsonb)
language sql stable set search_path = '' as $$
  with image as (
    select l.restaurant_id, l.revision, l.created_at, l.client_id, l.database_user, l.address, l.action, l.data, l.version,
           lag(l.data) over w as data_before, lag(l.action) over w like 'delete%' as was_deleted
    from pos.restaurants as r
    join pos.sync_log as l on l.restaurant_id = r.restaurant_id
    where r.slug = coalesce(p_restaurant, 'default')
      and l.type = case p_table
        when 'tables' then 'UPDATE_TABLE' when 'menu_items' then 'UPDATE_MENU' when 'categories' then 'UPDATE_MENU'
        when 'order_history' then 'UPDATE_ORDER' when 'restaurants' then 'UPDATE_SETTINGS' end
      and (p_table = 'categories') = (l.action like '%_category')
      and (p_table = 'restaurants' or l.row_id = p_id)
    window w as (order by l.revision)
  )
  select i.revision, i.created_at, i.client_id, w.terminal, w.role, w.address, i.database_user, i.address, i.action,
         f.field, f.before, f.after
  from image as i
  -- Two terminals may call themselves the same: then it was one of them.
  cross join lateral (
    select string_agg(distinct nullif(a.terminal, ''), ' or ') as terminal, string_agg(distinct nullif(a.role, ''), ' or ') as role,
           string_agg(distinct nullif(a.address, ''), ' or ') as address
    from pos.actors as a
    where a.restaurant_id = i.restaurant_id and a.client_id = i.client_id
      and i.created_at between a.first_at and a.seen_at + interval '15 minutes'
  ) as w
  cross join lateral (
    select coalesce(b.key, a.key) as field, b.value as before, a.value as after
    from jsonb_each(case when not i.was_deleted then i.data_before end) as b
    full join jsonb_each(
      case when i.action not like 'delete%' and not (i.action like 'update%' and i.data_before is null) then i.data end
    ) as a on a.key = b.key
    -- As text: 5 and 5.0 are equal in jsonb, and digits are kept.
    where coalesce(b.key, a.key) <> 'version' and b.value::text is distinct from a.value::text
    -- Where the log no longer shows what was before, nobody can tell which fields this has changed.
    union all
    select null, null, case when i.action like 'update%' then i.data end
    where (i.action like 'delete%' or i.action like 'update%') and i.data_before is null
  ) as f
  order by i.revision, f.field;
$$;
comment on function pos.history_of(text, text, text) is
  'What became of a row, field by field, oldest first: history_of(''tables'', ''4''), of the restaurant with this slug (null: the default one). A category goes by its name; for restaurants, which is the settings, the id is not looked at. Where the log no longer has what was before a change, nobody knows which fields it changed: then field is null, and after is the whole row. database_user and address are those of the login; a terminal''s, with its role, are in terminal, role and terminal_address.';
