-- How much of the log is kept.

create or replace function pos.note_lagging(p_instance_id text, p_restaurant_ids bigint[], p_revisions bigint[]) returns void
language sql set search_path = '' as $$
  delete from pos.lagging as g where g.instance_id = p_instance_id and g.restaurant_id <> all (p_restaurant_ids);
  insert into pos.lagging (restaurant_id, instance_id, revision)
  select n.restaurant_id, p_instance_id, n.revision from unnest(p_restaurant_ids, p_revisions) as n (restaurant_id, revision)
  on conflict (restaurant_id, instance_id) do update set revision = excluded.revision, seen_at = excluded.seen_at;
$$;
comment on function pos.note_lagging(text, bigint[], bigint[]) is 'Notes what the slowest terminals of one instance hold, restaurant by restaurant; those that it does not name lag no longer.';

create or replace function pos.first_kept(p_restaurant_id bigint, p_oldest bigint, p_head bigint, p_keep interval, p_keep_rows bigint, p_rows integer)
returns bigint
language sql stable set search_path = '' as $$
  -- Up to the first change that is young enough, not all that are old: clocks are set back, and the log has no holes.
  -- The newest change stays, whatever its age.
  select least(m.most, greatest(p_head - p_keep_rows + 1, coalesce((
    select min(l.revision) from pos.sync_log as l
    where l.restaurant_id = p_restaurant_id and l.revision >= p_oldest and l.revision < m.most and l.created_at >= now() - p_keep), m.most)))
  from (select least(p_head, p_oldest + p_rows) as most) as m;
$$;
comment on function pos.first_kept(bigint, bigint, bigint, interval, bigint, integer) is 'The first change that stays when those older than p_keep, and all but the newest p_keep_rows, go; at most p_rows of them.';

create or replace function pos.prune_log(p_after bigint, p_keep interval, p_keep_rows bigint, p_rows integer)
returns table (restaurant_id bigint, changes bigint)
language plpgsql set search_path = '' as $$
declare
  v_head record;
  v_keep bigint;
  v_needed bigint;
begin
  -- One instance at a time; the others find nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('pos.prune_log', 0)) then
    return;
  end if;
  perform set_config('lock_timeout', '500ms', true);
  for v_head in
    select h.restaurant_id, h.revision, l.oldest
    from pos.heads as h
    -- From the floor on: below it may lie a million index entries of rows that went and are not vacuumed yet.
    cross join lateral (
      select min(n.revision) as oldest from pos.sync_log as n
      where n.restaurant_id = h.restaurant_id and n.revision >= h.floor
    ) as l
    where h.restaurant_id > p_after and l.oldest < h.revision
      and (h.revision - l.oldest >= p_keep_rows or exists (
        select from pos.sync_log as o
        where o.restaurant_id = h.restaurant_id and o.revision = l.oldest and o.created_at < now() - p_keep))
    order by h.restaurant_id
  loop
    v_keep := pos.first_kept(v_head.restaurant_id, v_head.oldest, v_head.revision, p_keep, p_keep_rows, p_rows);
    -- A terminal that is connected and slow is waited for: an hour, and 100,000 changes beyond those that are kept.
    select min(g.revision) + 1 into v_needed from pos.lagging as g
    where g.restaurant_id = v_head.restaurant_id and g.seen_at > now() - interval '1 minute';
    if v_needed < v_keep then
      v_keep := greatest(v_needed, least(v_keep, pos.first_kept(
        v_head.restaurant_id, v_head.oldest, v_head.revision, greatest(p_keep, interval '1 hour'), p_keep_rows + 100000, p_rows)));
    end if;
    continue when v_keep <= v_head.oldest;
    begin
      delete from pos.sync_log as l where l.restaurant_id = v_head.restaurant_id and l.revision >= v_head.oldest and l.revision < v_keep;
      get diagnostics changes = row_count;
      -- The head last, and one restaurant in a transaction: its writers wait for the commit that follows, and for no delete.
      update pos.heads as h set floor = v_keep where h.restaurant_id = v_head.restaurant_id;
    exception when lock_not_available then
      continue;  -- its head is held by somebody's open transaction: it has its turn the next time
    end;
    restaurant_id := v_head.restaurant_id;
    return next;
    return;
  end loop;
end
$$;
comment on function pos.prune_log(bigint, interval, bigint, integer) is
  'Lets go at most p_rows of the oldest changes of one restaurant, the first above p_after that has any to let go, and raises its floor; no row: there is none.';
