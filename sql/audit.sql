-- Who changed what, and when: read from the log, which has every change, those made by hand among them.

create or replace function pos.history_of(p_table text, p_id text, p_restaurant text default null)
returns table (revision bigint, at timestamptz, client_id text, database_user text, address inet, action text,
               field text, before jsonb, after jsonb)
language sql stable set search_path = '' as $$
  with image as (
    select l.revision, l.created_at, l.client_id, l.database_user, l.address, l.action, l.data, l.version,
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
  select i.revision, i.created_at, i.client_id, i.database_user, i.address, i.action, f.field, f.before, f.after
  from image as i
  cross join lateral (
    select coalesce(b.key, a.key) as field, b.value as before, a.value as after
    from jsonb_each(case when not i.was_deleted then i.data_before end) as b
    full join jsonb_each(case when i.action not like 'delete%' then i.data end) as a on a.key = b.key
    -- As text: 5 and 5.0 are equal in jsonb, and digits are kept.
    where coalesce(b.key, a.key) <> 'version' and b.value::text is distinct from a.value::text
    -- A delete of what the log no longer shows has no field to tell of.
    union all
    select null, null, null where i.action like 'delete%' and i.data_before is null
  ) as f
  order by i.revision, f.field;
$$;
comment on function pos.history_of(text, text, text) is
  'What became of a row, field by field, oldest first: history_of(''tables'', ''4''), of the restaurant with this slug (null: the default one). A category goes by its name; for restaurants, which is the settings, the id is not looked at. Where the log no longer has what was before, before is null.';
