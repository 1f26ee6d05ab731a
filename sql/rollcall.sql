-- Roll calls: people ask through the database which terminals are connected, and to which relay, or have some closed.

-- What a relay calls.

create or replace function pos.open_calls(p_instance_id text)
returns table (call_id uuid, kind text, restaurant_id bigint, client_id text, terminal text, come_back boolean)
language sql stable set search_path = '' as $$
  -- Old ones are left alone: whoever asked has gone, and a kick would meet those who have come back.
  select c.call_id, c.kind, c.restaurant_id, c.client_id, c.terminal, c.come_back
  from pos.calls as c
  where coalesce(c.instance_id, p_instance_id) = p_instance_id and c.created_at > now() - interval '10 seconds'
    and not exists (select from pos.call_answers as a where a.call_id = c.call_id and a.instance_id = p_instance_id)
  order by c.created_at;
$$;
comment on function pos.open_calls(text) is 'The calls that a relay has not answered yet.';

create or replace function pos.note_instance(p_instance_id text, p_host text, p_port integer, p_version text) returns boolean
language sql set search_path = '' as $$
  insert into pos.instances (instance_id, host, port, version) values (p_instance_id, p_host, p_port, p_version)
  on conflict (instance_id) do update set port = excluded.port, seen_at = now();
  select exists (select from pos.open_calls(p_instance_id));
$$;
comment on function pos.note_instance(text, text, integer, text) is 'Says that a relay is here; whether a call waits for its answer.';

create or replace function pos.forget_instance(p_instance_id text) returns void
language sql set search_path = '' as $$
  delete from pos.instances as i where i.instance_id = p_instance_id;
$$;
comment on function pos.forget_instance(text) is 'Says that a relay ends.';

create or replace function pos.answer_call(p_call_id uuid, p_instance_id text, p_terminals jsonb) returns void
language sql set search_path = '' as $$
  insert into pos.call_answers (call_id, instance_id, terminals)
  select c.call_id, p_instance_id, p_terminals from pos.calls as c where c.call_id = p_call_id
  on conflict (call_id, instance_id) do nothing;
$$;
comment on function pos.answer_call(uuid, text, jsonb) is 'A relay''s answer to a call; the first one counts.';

-- What people call.

create or replace function pos.call_terminals(
  p_kind text, p_restaurant_id bigint, p_client_id text, p_terminal text, p_instance text, p_come_back boolean
) returns uuid
language plpgsql set search_path = '' as $$
declare
  v_instance_id text;
  v_call_id uuid;
begin
  if p_kind = 'kick' and p_client_id is null and p_terminal is null then
    raise exception 'a kick names a client id or a terminal' using errcode = 'RL400', hint = 'Say who is meant.';
  end if;
  if p_instance is not null then
    select min(i.instance_id) into v_instance_id from pos.instances as i
    where (i.instance_id = p_instance or i.host || ':' || i.port = p_instance) and i.seen_at > now() - interval '15 seconds';
    if v_instance_id is null then
      raise exception 'no relay % is running', quote_literal(p_instance)
        using errcode = 'RL404', hint = 'relay terminals lists those that are.';
    end if;
  end if;
  delete from pos.calls as c where c.created_at < now() - interval '1 minute';
  delete from pos.call_answers as a where a.answered_at < now() - interval '1 minute';
  -- Each costs every relay a look at all of its terminals.
  if (select count(*) from pos.calls as c where c.kind <> 'board' and c.created_at > now() - interval '10 seconds') >= 100 then
    raise exception 'there were 100 roll calls within ten seconds' using errcode = 'RL429', hint = 'Wait ten seconds.';
  end if;
  insert into pos.calls (kind, restaurant_id, client_id, terminal, instance_id, come_back)
  values (p_kind, p_restaurant_id, p_client_id, p_terminal, v_instance_id, p_come_back)
  returning call_id into v_call_id;
  perform pg_notify('pos_roll_call', '');
  return v_call_id;
end
$$;
comment on function pos.call_terminals(text, bigint, text, text, text, boolean) is
  'Asks the relays, or the one with this id or HOST:PORT, which terminals they have (list), or to close some (kick); read_call has their answers.';

create or replace function pos.read_call(p_call_id uuid, p_known text[])
returns table (instance_id text, host text, port integer, version text, started_at timestamptz, seen_at timestamptz,
               silent boolean, answered boolean, terminals jsonb)
language sql stable set search_path = '' as $$
  select i.instance_id, i.host, i.port, i.version, i.started_at, i.seen_at, i.seen_at <= now() - interval '15 seconds',
         a.instance_id is not null, case when i.instance_id <> all (p_known) then a.terminals end
  from pos.calls as c
  join pos.instances as i on i.instance_id = coalesce(c.instance_id, i.instance_id)
  left join pos.call_answers as a on a.call_id = c.call_id and a.instance_id = i.instance_id
  where c.call_id = p_call_id
  order by i.host, i.port, i.started_at;
$$;
comment on function pos.read_call(uuid, text[]) is
  'Every relay that is asked by a call, whether it is silent, and its answer, but for those relays whose answer is known already.';
