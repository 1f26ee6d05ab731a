-- The way in: one mutation, or a batch of them in one transaction. Here are the lock and the ledger.
--
-- A plan is kept as long as its session. One made while a table was small reads it from end to end, and goes on to when
-- it is large, until somebody analyzes it: hence no sequential scans, and plans that do not look at the parameters.

create or replace function pos.enter(p_restaurant_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_revision bigint;
  v_set text;
begin
  -- Changes of plain SQL earlier in this transaction go first: a revision must not be given to an older row later.
  if pg_current_xact_id_if_assigned() is not null then
    if exists (select from pos.staged_transactions as t where t.transaction_id = pg_current_xact_id()) then
      perform pos.stamp();
    end if;
  end if;
  select h.revision into v_revision from pos.heads as h where h.restaurant_id = p_restaurant_id for no key update;
  if not found then
    raise exception 'there is no restaurant %', p_restaurant_id using errcode = 'RL404';
  end if;
  -- Nobody but pos.stamp, pos.store_table and pos.apply_together says whose triggers stand back: a session of the relay's
  -- role could have set it before. Within a trigger it is theirs.
  if pg_trigger_depth() = 0 then
    v_set := set_config('pos.stamping', '', true);
  end if;
  -- Assigned and not performed, here and below: an expression costs a tenth of a statement.
  v_set := set_config('pos.applying', p_restaurant_id::text, true);
  v_set := set_config('pos.revision', v_revision::text, true);
end
$$;
comment on function pos.enter(bigint) is 'Takes the restaurant''s head; until pos.leave its changes are stamped at once.';

create or replace function pos.leave(p_restaurant_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_set text;
begin
  v_set := set_config('pos.applying', '', true);
  v_set := set_config('pos.client_id', '', true);
end
$$;
comment on function pos.leave(bigint) is 'Ends what pos.enter began.';

create or replace function pos.mutate_entered(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_type text, p_action text, p_body jsonb, p_if_version bigint,
  p_role text default null
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_body constant jsonb := p_body - array['version', 'revision', 'action'];
  v_hash bytea;
  v_known pos.mutations;
  v_result pos.result;
  v_set text;
begin
  if p_role is not null and not pos.may(p_role, p_type) then
    return pos.refused('FORBIDDEN', format('%s is not for the role %s', p_type, p_role), 'type');
  end if;
  if p_mutation_id is not null then
    v_hash := pos.body_hash(p_type, p_action, p_if_version, v_body);
    select m.* into v_known from pos.mutations as m
    where m.restaurant_id = p_restaurant_id and m.client_id = p_client_id and m.mutation_id = p_mutation_id;
    if found then
      if v_known.body_hash <> v_hash then
        return pos.refused('VALIDATION', format('id %s was used for another mutation; give each its own', p_mutation_id), 'id');
      end if;
      return row('OK', null, null, v_known.revision, v_known.version, v_known.details)::pos.result;
    end if;
  end if;

  v_set := set_config('pos.client_id', p_client_id, true);
  case p_type
    when 'UPDATE_TABLE' then
      v_result := pos.mutate_table(p_restaurant_id, p_client_id, p_mutation_id, p_action, v_body, p_if_version);
    when 'UPDATE_MENU' then
      v_result := pos.mutate_menu(p_restaurant_id, p_client_id, p_mutation_id, p_action, v_body, p_if_version);
    when 'UPDATE_ORDER' then
      v_result := pos.mutate_order(p_restaurant_id, p_client_id, p_mutation_id, p_action, v_body, p_if_version);
    when 'UPDATE_SETTINGS' then
      v_result := pos.mutate_settings(p_restaurant_id, v_body, p_if_version);
    when 'NEXT_ORDER_ID' then
      v_result := pos.done(p_restaurant_id, null, jsonb_build_object('orderId', pos.next_order_id(p_restaurant_id)));
    when 'UPDATE_USERS' then
      v_result := pos.mutate_staff(p_restaurant_id, p_client_id, p_action, v_body);
    when 'MESSAGE' then
      v_result := pos.send_message(p_restaurant_id, p_client_id, p_type, null, p_body ->> 'to', p_body);
    when 'USER_LOGIN', 'USER_LOGOUT', 'SESSION_UPDATE', 'SESSION_SYNC', 'REFRESH_SESSIONS', 'FORCE_LOGOUT', 'TERMINATE_SESSION' then
      v_result := pos.send_message(p_restaurant_id, p_client_id, p_type, 'app', null, p_body);
    else
      v_result := pos.refused('UNKNOWN_TYPE', format('%s is no mutation', p_type), 'type');
  end case;

  -- Only what was applied is remembered: after an ERROR the same id may be tried again.
  if p_mutation_id is not null and v_result.code = 'OK' then
    insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision, version, details)
    values (p_restaurant_id, p_client_id, p_mutation_id, v_hash, v_result.revision, v_result.version, v_result.details);
  end if;
  return v_result;
end
$$;
comment on function pos.mutate_entered(bigint, text, text, text, text, jsonb, bigint, text) is 'One mutation between pos.enter and pos.leave; without a role nobody asks whether it is allowed.';

create or replace function pos.mutate(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_type text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_result pos.result;
  v_void text;
begin
  v_void := pos.enter(p_restaurant_id);
  v_result := pos.mutate_entered(p_restaurant_id, p_client_id, p_mutation_id, p_type, p_action, p_body, p_if_version);
  v_void := pos.leave(p_restaurant_id);
  return v_result;
end
$$;
comment on function pos.mutate(bigint, text, text, text, text, jsonb, bigint) is 'One mutation.';

create or replace function pos.update_table(
  p_restaurant_id bigint, p_action text, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_TABLE', p_action, p_body, p_if_version);
end
$$;
comment on function pos.update_table(bigint, text, jsonb, text, text, bigint) is 'UPDATE_TABLE: add, update, delete, add_items, update_item, void_item.';

create or replace function pos.update_menu(
  p_restaurant_id bigint, p_action text, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_MENU', p_action, p_body, p_if_version);
end
$$;
comment on function pos.update_menu(bigint, text, jsonb, text, text, bigint) is 'UPDATE_MENU: add_item, update_item, delete_item, add_category, delete_category.';

create or replace function pos.update_order(
  p_restaurant_id bigint, p_action text, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_ORDER', p_action, p_body, p_if_version);
end
$$;
comment on function pos.update_order(bigint, text, jsonb, text, text, bigint) is 'UPDATE_ORDER: add, update, void, clear.';

create or replace function pos.update_settings(
  p_restaurant_id bigint, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_SETTINGS', 'update', p_body, p_if_version);
end
$$;
comment on function pos.update_settings(bigint, jsonb, text, text, bigint) is 'UPDATE_SETTINGS.';

create or replace function pos.apply_apart(
  p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[], p_bodies text[],
  p_if_versions bigint[], p_isolate boolean, p_roles text[]
) returns pos.result[]
language plpgsql set search_path = '' as $$
declare
  v_results pos.result[] := array_fill(null::pos.result, array[cardinality(p_restaurant_ids)]);
  v_restaurant_id bigint;
  v_positions integer[];
  v_i integer;
  v_state text;
  v_message text;
  v_field text;
begin
  -- Heads in ascending id, one block a restaurant: a restaurant that is held up is left out, the others go on.
  for v_restaurant_id, v_positions in
    select b.restaurant_id, array_agg(b.place::integer order by b.place)
    from unnest(p_restaurant_ids) with ordinality as b (restaurant_id, place)
    group by b.restaurant_id order by b.restaurant_id
  loop
    begin
      perform pos.enter(v_restaurant_id);
      foreach v_i in array v_positions loop
        if not p_isolate then
          v_results[v_i] := pos.mutate_entered(v_restaurant_id, p_client_ids[v_i], p_mutation_ids[v_i], p_types[v_i],
                                               p_actions[v_i], p_bodies[v_i]::jsonb, p_if_versions[v_i], p_roles[v_i]);
          continue;
        end if;
        begin
          v_results[v_i] := pos.mutate_entered(v_restaurant_id, p_client_ids[v_i], p_mutation_ids[v_i], p_types[v_i],
                                               p_actions[v_i], p_bodies[v_i]::jsonb, p_if_versions[v_i], p_roles[v_i]);
        exception
          when lock_not_available or deadlock_detected or serialization_failure then
            v_results[v_i] := pos.refused('LOCKED', 'a row is locked by another transaction');
            perform set_config('lock_timeout', '10ms', true);
          when others then
            get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_field = constraint_name;
            v_results[v_i] := pos.refused('SQLSTATE ' || v_state, v_message, nullif(v_field, ''));
        end;
      end loop;
      perform pos.leave(v_restaurant_id);
    exception
      when lock_not_available or deadlock_detected or serialization_failure then
        foreach v_i in array v_positions loop
          v_results[v_i] := pos.refused('LOCKED', 'the restaurant is locked by another transaction');
        end loop;
        -- One wait a batch: whoever else is held up in it is left out at once.
        perform set_config('lock_timeout', '10ms', true);
      when others then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        foreach v_i in array v_positions loop
          v_results[v_i] := pos.refused(case when p_isolate then 'SQLSTATE ' || v_state else 'APART' end, v_message);
        end loop;
    end;
  end loop;
  return v_results;
end
$$;
comment on function pos.apply_apart(bigint[], text[], text[], text[], text[], text[], bigint[], boolean, text[]) is 'A batch, one restaurant after the other: whoever fails or is held up is left out.';

create or replace function pos.keep_traceparents(
  p_restaurant_ids bigint[], p_client_ids text[], p_traceparents text[], p_results pos.result[]
) returns void
language sql set search_path = '' as $$
  -- Of one mutation there may be several changes, and its answer has the last one's revision. What was there before this
  -- transaction is left alone: the answer to a mutation that changes nothing has the head.
  update pos.sync_log as l set traceparent = left(t.traceparent, 55)
  from (
    select distinct on (c.restaurant_id, c.revision) c.restaurant_id, c.revision, b.traceparent
    from unnest(p_restaurant_ids, p_client_ids, p_traceparents, p_results) with ordinality
      as b (restaurant_id, client_id, traceparent, code, message, field, revision, version, details, place)
    join pos.sync_log as c on c.restaurant_id = b.restaurant_id and c.revision > b.revision - 10 and c.revision <= b.revision
    where b.code = 'OK' and b.traceparent is not null and c.client_id = b.client_id and c.created_at >= now()
    order by c.restaurant_id, c.revision, b.revision, b.place
  ) as t
  where l.restaurant_id = t.restaurant_id and l.revision = t.revision;
$$;
comment on function pos.keep_traceparents(bigint[], text[], text[], pos.result[]) is 'Notes with the changes that a batch has just made whose trace they belong to.';

create or replace function pos.apply(
  p_batch_id uuid, p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[],
  p_actions text[], p_bodies text[], p_if_versions bigint[], p_isolate boolean default false, p_roles text[] default null,
  p_traceparents text[] default null
) returns setof pos.result
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off as $$
declare
  v_results pos.result[];
  v_refused jsonb;
  v_void text;
begin
  -- Here, and not only in the relay's session: behind a pooler that would be anybody's. Whoever asks for more than a
  -- commit on the disk has a reason.
  if current_setting('synchronous_commit') <> 'remote_apply' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  insert into pos.batches (batch_id) values (p_batch_id) on conflict do nothing;
  if not found then
    -- This batch is committed, its answer was lost. What was not applied is known by its place, and the ledger has the
    -- answers of mutations with an id.
    select b.refused into v_refused from pos.batches as b where b.batch_id = p_batch_id;
    if v_refused ? 'closed' then
      raise exception 'batch % is closed: nothing of it is applied', p_batch_id using errcode = 'serialization_failure';
    end if;
    return query
      select r.*
      from unnest(p_restaurant_ids, p_client_ids, p_mutation_ids) with ordinality as b (restaurant_id, client_id, mutation_id, place)
      left join pos.mutations as m using (restaurant_id, client_id, mutation_id)
      cross join lateral jsonb_populate_record(
        row(case when m.mutation_id is null then 'REPEATED' else 'OK' end, null, null, m.revision, m.version, m.details)::pos.result,
        coalesce(v_refused -> b.place::text, '{}')) as r
      order by b.place;
    return;
  end if;

  -- The short way first. In it everything fails together, so then it is done again, one restaurant after the other. (A
  -- block, and not a block for each mutation: 64 subtransactions are what PostgreSQL keeps in memory.)
  if not p_isolate then
    begin
      if cardinality(p_restaurant_ids) > 1 then
        v_results := pos.apply_together(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions, p_roles);
      else
        v_void := pos.enter(p_restaurant_ids[1]);
        v_results[1] := pos.mutate_entered(p_restaurant_ids[1], p_client_ids[1], p_mutation_ids[1], p_types[1], p_actions[1],
                                           p_bodies[1]::jsonb, p_if_versions[1], p_roles[1]);
        v_void := pos.leave(p_restaurant_ids[1]);
      end if;
    exception
      when lock_not_available or deadlock_detected or serialization_failure then
        -- One wait a batch: now whoever is held up is left out at once.
        perform set_config('lock_timeout', '10ms', true);
      when others then
        null;
    end;
  end if;
  if v_results is null then
    v_results := pos.apply_apart(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions, p_isolate, p_roles);
  end if;
  select jsonb_object_agg(r.place, to_jsonb(row(r.code, r.message, r.field, r.revision, r.version, r.details)::pos.result))
  into v_refused
  from unnest(v_results) with ordinality as r (code, message, field, revision, version, details, place)
  where r.code <> 'OK';
  if v_refused is not null then
    update pos.batches as b set refused = v_refused where b.batch_id = p_batch_id;
  end if;
  if p_traceparents is not null then
    perform pos.keep_traceparents(p_restaurant_ids, p_client_ids, p_traceparents, v_results);
  end if;
  return query select r.* from unnest(v_results) as r;
end
$$;
comment on function pos.apply(uuid, bigint[], text[], text[], text[], text[], text[], bigint[], boolean, text[], text[]) is
  'Many mutations in one transaction, one result each in their order. Beside the codes of pos.result: LOCKED (try this restaurant again, on its own), APART (one of its mutations failed: try each in a block of its own, p_isolate), SQLSTATE nnnnn (what failed), REPEATED (the batch was committed before).';

create or replace function pos.close_batch(p_batch_id uuid) returns boolean
language plpgsql set search_path = '' as $$
begin
  -- Waits for an attempt that is under way, and bars one that has yet to arrive.
  insert into pos.batches (batch_id, refused) values (p_batch_id, '{"closed": true}') on conflict do nothing;
  return found or exists (select from pos.batches as b where b.batch_id = p_batch_id and b.refused ? 'closed');
end
$$;
comment on function pos.close_batch(uuid) is
  'Whether nothing of a batch was applied: then nothing of it ever will be under this id. False: it is committed, and apply has its answers.';
