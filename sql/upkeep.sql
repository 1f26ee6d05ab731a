-- What is let go.

create or replace function pos.prune(p_keep interval, p_keep_log interval, p_rows integer)
returns table (changes bigint, mutations bigint, tombstones bigint, messages bigint, batches bigint)
language plpgsql set search_path = '' as $$
declare
  v_head record;
  v_keep bigint;
  v_rows bigint;
begin
  -- One instance at a time; the others find nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('pos.prune', 0)) then
    return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint;
    return;
  end if;
  with gone as (
    delete from pos.messages as m where m.created_at < now() - interval '1 minute' returning 1
  ) select count(*) into messages from gone;
  with gone as (
    delete from pos.batches as b where b.batch_id in (
      select x.batch_id from pos.batches as x where x.created_at < now() - interval '1 hour' order by x.created_at limit p_rows)
    returning 1
  ) select count(*) into batches from gone;
  with gone as (
    delete from pos.mutations as m where m.ctid = any (array(
      select x.ctid from pos.mutations as x where x.created_at < now() - p_keep order by x.created_at limit p_rows))
    returning 1
  ) select count(*) into mutations from gone;
  with gone as (
    delete from pos.tombstones as t where t.ctid = any (array(
      -- Every fresh browser announces the default users again: those of staff are kept for ever.
      select x.ctid from pos.tombstones as x
      where x.deleted_at < now() - p_keep and x.kind <> 'staff' order by x.deleted_at limit p_rows))
    returning 1
  ) select count(*) into tombstones from gone;

  delete from pos.app_terminals as a where a.seen_at < now() - interval '7 days';

  -- The log is let go from its oldest end, and each restaurant keeps its newest change. The floor rises with it, under
  -- the head's lock; a restaurant that is busy at this moment has its turn the next time.
  changes := 0;
  for v_head in
    select h.restaurant_id, h.revision, l.oldest
    from pos.heads as h
    cross join lateral (select min(n.revision) as oldest from pos.sync_log as n where n.restaurant_id = h.restaurant_id) as l
    where l.oldest < h.revision and exists (
      select from pos.sync_log as o
      where o.restaurant_id = h.restaurant_id and o.revision = l.oldest and o.created_at < now() - p_keep_log)
    order by h.restaurant_id
    for no key update of h skip locked
  loop
    -- Up to the first change that is kept, not all that are old: clocks are set back, and the log has no holes.
    v_keep := least(v_head.revision, v_head.oldest + p_rows - changes);
    select coalesce(min(l.revision), v_keep) into v_keep from pos.sync_log as l
    where l.restaurant_id = v_head.restaurant_id and l.revision < v_keep and l.created_at >= now() - p_keep_log;
    delete from pos.sync_log as l where l.restaurant_id = v_head.restaurant_id and l.revision < v_keep;
    get diagnostics v_rows = row_count;
    update pos.heads as h set floor = v_keep where h.restaurant_id = v_head.restaurant_id;
    changes := changes + v_rows;
    exit when changes >= p_rows;
  end loop;
  return next;
end
$$;
comment on function pos.prune(interval, interval, integer) is 'Lets go at most so many rows each of what is older than it need be; returns how many went.';
