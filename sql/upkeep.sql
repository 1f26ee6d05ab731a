-- What is let go, but for the log: see retention.sql.

create or replace function pos.is_order_kept(p_restaurant_id bigint, p_order_id text, p_keep interval) returns boolean
language plpgsql stable set search_path = '' set enable_seqscan = off as $$
begin
  return exists (select from pos.tables as t where t.restaurant_id = p_restaurant_id and t.order_id = p_order_id)
    or exists (select from pos.order_history as o where o.restaurant_id = p_restaurant_id and o.id = p_order_id
               and (not pos.is_finished(o.status) or o.updated_at >= now() - p_keep));
end
$$;
comment on function pos.is_order_kept(bigint, text, interval) is 'Whether an order is open, or was changed within so long.';

create or replace function pos.prune(p_keep interval, p_rows integer)
returns table (mutations bigint, tombstones bigint, messages bigint, batches bigint, claims bigint, replacements bigint,
               counters bigint)
language plpgsql set search_path = '' as $$
begin
  -- One instance at a time; the others find nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('pos.prune', 0)) then
    return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint;
    return;
  end if;
  with gone as (
    delete from pos.messages as m where m.created_at < now() - interval '1 minute' returning 1
  ) select count(*) into messages from gone;
  with gone as (
    -- A relay that was cut off in the middle of one asks for half a day what became of it.
    delete from pos.batches as b where b.batch_id in (
      select x.batch_id from pos.batches as x where x.created_at < now() - interval '1 day' order by x.created_at limit p_rows)
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
      where x.deleted_at < now() - p_keep and x.kind <> 'staff' order by x.deleted_at limit p_rows
      -- Whoever makes a row again holds its tombstone, and may come to want one that is gone already: never waited for.
      for update skip locked))
    returning 1
  ) select count(*) into tombstones from gone;

  -- What is known of an order id stays as long as the order is open, on a table or in the history, and its time after the
  -- order was changed last: until then a late edit or a repeat must find which sale is meant.
  with gone as (
    delete from pos.order_claims as c where c.ctid = any (array(
      select x.ctid from pos.order_claims as x
      where x.created_at < now() - p_keep and not pos.is_order_kept(x.restaurant_id, x.order_id, p_keep)
      order by x.created_at limit p_rows))
    returning 1
  ) select count(*) into claims from gone;
  with gone as (
    delete from pos.order_replacements as r where r.ctid = any (array(
      select x.ctid from pos.order_replacements as x
      where x.created_at < now() - p_keep and not pos.is_order_kept(x.restaurant_id, x.given_id, p_keep)
      order by x.created_at limit p_rows))
    returning 1
  ) select count(*) into replacements from gone;
  with gone as (
    delete from pos.order_counters as n where n.ctid = any (array(
      select x.ctid from pos.order_counters as x where x.used_at < now() - p_keep order by x.used_at limit p_rows
      for update skip locked))
    returning 1
  ) select count(*) into counters from gone;

  delete from pos.calls as c where c.created_at < now() - interval '1 minute';
  delete from pos.call_answers as a where a.answered_at < now() - interval '1 minute';
  delete from pos.instances as i where i.seen_at < now() - interval '1 hour';
  delete from pos.actors as a where a.seen_at < now() - p_keep;
  delete from pos.app_terminals as a where a.seen_at < now() - interval '7 days';
  return next;
end
$$;
comment on function pos.prune(interval, integer) is 'Lets go at most so many rows each of what is older than it need be; returns how many went.';
