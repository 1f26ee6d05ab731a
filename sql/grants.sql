-- Who may do what, in a database where a DBA has made the roles (roles.sql). Does nothing in any other.
--
-- What each role may do is exactly what stands here. To a function that the relay calls, pos_owner lends its rights; what
-- reads the log and the heads goes without, for these two the relay may read. Triggers lend them too, so that whoever is
-- given rights on a data table can use them.

do $$
declare
  -- What a running relay calls.
  v_relay constant text[] := array[
    'answer_call', 'apply', 'call_boards', 'changes_after', 'checklist', 'close_batch', 'epoch', 'find_restaurant',
    'find_terminals', 'forget_instance', 'mark_at', 'meet_terminal', 'note_actors', 'note_instance', 'note_lagging',
    'note_terminals', 'open_calls', 'prove', 'prune', 'prune_log', 'read_boards', 'read_changes', 'read_heads', 'read_lists', 'read_messages', 'read_orders',
    'read_staff', 'read_terminals', 'seal_password', 'snapshot', 'standing'];
  v_unaided constant text[] := array['changes_after', 'epoch', 'mark_at', 'prove', 'read_changes', 'read_heads', 'standing'];
  v_admin constant text[] := array['call_terminals', 'prune', 'prune_log', 'read_call'];
  v_reader constant text[] := array['history_of'];
  v_read constant text[] := array['restaurants', 'heads', 'tables', 'menu_items', 'categories', 'order_history', 'sync_log', 'actors'];
  v_object record;
begin
  if not exists (select from pg_catalog.pg_namespace as n
                 where n.nspname = 'pos' and pg_get_userbyid(n.nspowner) = 'pos_owner') then
    return;
  end if;
  revoke all on schema pos from pos_relay, pos_admin, pos_reader;
  revoke all on all tables in schema pos from pos_relay, pos_admin, pos_reader;
  revoke all on all functions in schema pos from pos_relay, pos_admin, pos_reader;
  grant usage on schema pos to pos_relay, pos_admin, pos_reader;

  for v_object in
    select p.oid::regprocedure as name, p.proname, p.prorettype = 'trigger'::regtype as is_trigger
    from pg_catalog.pg_proc as p where p.pronamespace = 'pos'::regnamespace
  loop
    execute format('alter function %s security %s', v_object.name, case
      when v_object.is_trigger
        or (v_object.proname = any (v_relay || v_admin) and v_object.proname <> all (v_unaided)) then 'definer'
      else 'invoker' end);
    if v_object.proname = any (v_relay) then
      execute format('grant execute on function %s to pos_relay', v_object.name);
    end if;
    if v_object.proname = any (v_admin) then
      execute format('grant execute on function %s to pos_admin', v_object.name);
    end if;
    if v_object.proname = any (v_reader) then
      execute format('grant execute on function %s to pos_reader', v_object.name);
    end if;
  end loop;

  grant select on pos.sync_log, pos.heads, pos.installation to pos_relay;
  grant select on pos.restaurants, pos.heads, pos.installation to pos_admin;
  grant select, insert, update, delete on pos.terminals to pos_admin;

  -- The owner is not held to the policies: the functions are the relay's wall. They are for those who read by hand.
  for v_object in
    select t.name, t.name = any ('{sync_log,heads}'::text[]) as of_relay, t.name = any ('{restaurants,heads}'::text[]) as of_admin
    from unnest(v_read) as t (name)
  loop
    execute format('grant select on pos.%I to pos_reader', v_object.name);
    execute format('alter table pos.%I enable row level security', v_object.name);
    execute format('drop policy if exists reader on pos.%I', v_object.name);
    execute format($policy$create policy reader on pos.%I for select to pos_reader
      using (restaurant_id = nullif(current_setting('pos.restaurant_id', true), '')::bigint)$policy$, v_object.name);
    if v_object.of_relay then
      execute format('drop policy if exists relay on pos.%I', v_object.name);
      execute format('create policy relay on pos.%I for select to pos_relay using (true)', v_object.name);
    end if;
    if v_object.of_admin then
      execute format('drop policy if exists admin on pos.%I', v_object.name);
      execute format('create policy admin on pos.%I for select to pos_admin using (true)', v_object.name);
    end if;
  end loop;
end
$$;
