-- The board: a relay asks all relays, itself among them, how they are and what they have, for whoever looks at its page.
-- Calls like those of rollcall.sql, but for the relay's role, which can close nobody.

create or replace function pos.call_boards(p_restaurant_id bigint) returns uuid
language plpgsql set search_path = '' as $$
declare
  v_call_id uuid;
begin
  -- However many look, and at however many relays: all of one moment are shown the same answers.
  select c.call_id into v_call_id from pos.calls as c
  where c.kind = 'board' and c.restaurant_id is not distinct from p_restaurant_id and c.created_at > now() - interval '500 milliseconds'
  limit 1;
  if found then
    return v_call_id;
  end if;
  delete from pos.calls as c where c.created_at < now() - interval '1 minute';
  delete from pos.call_answers as a where a.answered_at < now() - interval '1 minute';
  if (select count(*) from pos.calls as c where c.kind = 'board' and c.created_at > now() - interval '10 seconds') >= 100 then
    return null;
  end if;
  insert into pos.calls (kind, restaurant_id) values ('board', p_restaurant_id) returning call_id into v_call_id;
  perform pg_notify('pos_roll_call', '');
  return v_call_id;
end
$$;
comment on function pos.call_boards(bigint) is
  'Asks every relay what the board shows of it, of one restaurant or of all (null); read_boards has their answers. Null after 100 such calls within ten seconds.';

create or replace function pos.read_boards(p_call_id uuid, p_known text[])
returns table (instance_id text, host text, port integer, version text, silent_seconds double precision, silent boolean,
               answered boolean, board jsonb)
language sql stable set search_path = '' as $$
  select i.instance_id, i.host, i.port, i.version, extract(epoch from now() - i.seen_at)::double precision,
         i.seen_at <= now() - interval '15 seconds', a.instance_id is not null,
         case when i.instance_id <> all (p_known) then a.terminals end
  from pos.instances as i
  left join (pos.call_answers as a join pos.calls as c on c.call_id = a.call_id and c.kind = 'board')
    on a.call_id = p_call_id and a.instance_id = i.instance_id
  -- One that was killed and started again has a row of each run.
  where not exists (
    select from pos.instances as later where later.host = i.host and later.port = i.port and later.started_at > i.seen_at)
  order by i.host, i.port, i.started_at;
$$;
comment on function pos.read_boards(uuid, text[]) is
  'Every relay, for how long nothing was heard of it, and its answer to call_boards, but for those whose answer is known already.';
