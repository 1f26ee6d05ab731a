-- Who may come in: enrolled terminals by the hash of their token, and what each role may change.

create or replace function pos.may(p_role text, p_type text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  return case p_role
    when 'manager' then true
    -- All other mutations, those that are yet to come among them, are a manager's.
    when 'terminal' then p_type in ('UPDATE_TABLE', 'UPDATE_ORDER', 'NEXT_ORDER_ID', 'MESSAGE', 'USER_LOGIN', 'USER_LOGOUT',
                                    'SESSION_UPDATE', 'SESSION_SYNC', 'REFRESH_SESSIONS')
    else false
  end;
end
$$;
comment on function pos.may(text, text) is 'Whether a terminal of this role may ask for this mutation; a display may for none.';

create or replace function pos.find_terminals(p_token_hashes bytea[])
returns table (token_hash bytea, restaurant_id bigint, slug text, name text, role text, staff bigint)
language sql stable set search_path = '' as $$
  select t.token_hash, t.restaurant_id, r.slug, t.name, t.role, h.staff
  from pos.terminals as t
  join pos.restaurants as r on r.restaurant_id = t.restaurant_id
  join pos.heads as h on h.restaurant_id = t.restaurant_id
  where t.token_hash = any (p_token_hashes) and t.revoked_at is null;
$$;
comment on function pos.find_terminals(bytea[]) is 'Whose tokens these are, by their hashes; with the count that tells of later changes.';

create or replace function pos.read_terminals(p_restaurant_ids bigint[])
returns table (restaurant_id bigint, token_hash bytea, role text)
language sql stable set search_path = '' as $$
  select t.restaurant_id, t.token_hash, t.role
  from pos.terminals as t
  where t.restaurant_id = any (p_restaurant_ids) and t.revoked_at is null;
$$;
comment on function pos.read_terminals(bigint[]) is 'The tokens, as hashes, that are good in these restaurants.';

create or replace function pos.tg_terminals__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.restaurant_id <> old.restaurant_id then
    raise exception 'a terminal cannot be moved to another restaurant' using errcode = 'RL403', hint = 'Revoke it, and enrol it there.';
  end if;
  return case when new *= old then null else new end;
end
$$;
comment on function pos.tg_terminals__write() is 'Drops what does not change, and keeps a token in its restaurant.';

create or replace function pos.tg_terminals__count() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.count_staff(array_agg(distinct c.restaurant_id)) from changed as c;
  return null;
end
$$;
comment on function pos.tg_terminals__count() is 'Tells the relays to look whether the tokens of their terminals are still good.';

create or replace trigger a_write before update on pos.terminals
  for each row execute function pos.tg_terminals__write();
create or replace trigger b_count_update after update on pos.terminals referencing new table as changed
  for each statement execute function pos.tg_terminals__count();
create or replace trigger c_count_delete after delete on pos.terminals referencing old table as changed
  for each statement execute function pos.tg_terminals__count();
create or replace trigger d_truncate before truncate on pos.terminals
  for each statement execute function pos.tg_any__truncate();
