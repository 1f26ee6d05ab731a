-- UPDATE_USERS, and what else only the web app's sessions need: its users, what each terminal has seen, ids apart.

create or replace function pos.row_of(p_row pos.staff) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return p_row.data || jsonb_build_object('id', p_row.id);
end
$$;
comment on function pos.row_of(pos.staff) is 'A user as the app sees it, without the password.';

create or replace function pos.tg_staff__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'staff', new.id);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of a row cannot be changed' using errcode = 'RL403', hint = 'Insert the new row and delete the old one.';
    end if;
    new.version := old.version;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  return new;
end
$$;
comment on function pos.tg_staff__write() is 'Drops what does not change and counts the version.';

create or replace function pos.tg_staff__count() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.count_staff(array_agg(distinct c.restaurant_id)) from changed as c;
  return null;
end
$$;
comment on function pos.tg_staff__count() is 'Tells the relays of changed users.';

create or replace function pos.tg_staff__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  insert into pos.tombstones as t (restaurant_id, kind, id, version)
  select d.restaurant_id, 'staff', d.id, d.version + 1 from deleted as d
  on conflict (restaurant_id, kind, id) do update
    set version = greatest(t.version, excluded.version), deleted_at = excluded.deleted_at;
  perform pos.count_staff(array_agg(distinct d.restaurant_id)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_staff__delete() is 'Leaves tombstones of deleted users, who are never revived by an add, and tells the relays.';

create or replace trigger a_write before insert or update on pos.staff
  for each row execute function pos.tg_staff__write();
create or replace trigger b_count_insert after insert on pos.staff referencing new table as changed
  for each statement execute function pos.tg_staff__count();
create or replace trigger b_count_update after update on pos.staff referencing new table as changed
  for each statement execute function pos.tg_staff__count();
create or replace trigger c_delete after delete on pos.staff referencing old table as deleted
  for each statement execute function pos.tg_staff__delete();
create or replace trigger d_truncate before truncate on pos.staff
  for each statement execute function pos.tg_any__truncate();

create or replace function pos.delete_unknown(p_restaurant_id bigint, p_type text, p_action text, p_kind text, p_id text) returns void
language plpgsql set search_path = '' as $$
begin
  if pos.is_deleted(p_restaurant_id, p_kind, p_id)
    or exists (select from pos.restaurants as r where r.restaurant_id = p_restaurant_id and r.complete) then
    return;
  end if;
  if p_kind = 'staff' then
    insert into pos.tombstones (restaurant_id, kind, id, version) values (p_restaurant_id, p_kind, p_id, 1);
    perform pos.count_staff(array[p_restaurant_id]);
  else
    perform pos.log_deletes(p_type, p_action, p_kind, array[p_restaurant_id], array[p_id], array[1::bigint]);
  end if;
end
$$;
comment on function pos.delete_unknown(bigint, text, text, text, text) is 'Where this database does not hold all lists, a row that it does not know may be in every browser: its delete is told and remembered.';

create or replace function pos.id_apart(p_restaurant_id bigint, p_kind text, p_id text) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_parts constant text[] := coalesce(regexp_match(p_id, '^(.*?)([0-9]{1,15})$'), array[left(p_id, 110) || '-', '1']);
  v_number bigint := v_parts[2]::bigint;
  v_id text;
begin
  loop
    v_number := v_number + 1;
    v_id := left(v_parts[1], 110) || lpad(v_number::text, greatest(length(v_parts[2]), length(v_number::text)), '0');
    exit when not pos.is_deleted(p_restaurant_id, p_kind, v_id) and not case p_kind
      when 'tables' then exists (select from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = v_id)
      when 'menu_items' then exists (select from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = v_id)
      when 'staff' then exists (select from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_id)
    end;
  end loop;
  return v_id;
end
$$;
comment on function pos.id_apart(bigint, text, text) is 'The next free id of the same form as one that two terminals made in the same millisecond.';

create or replace function pos.mutate_staff(p_restaurant_id bigint, p_client_id text, p_action text, p_body jsonb) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_data constant jsonb := p_body - array['id', 'password'];
  v_current pos.staff;
  v_exists boolean;
begin
  if coalesce(p_action, '') not in ('add', 'update', 'delete') then
    return pos.unknown_action('UPDATE_USERS', p_action);
  end if;
  select s.* into v_current from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_id for update;
  v_exists := found;
  if p_action = 'delete' then
    if not v_exists then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_USERS', p_action, 'staff', v_id);
    end if;
    delete from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_id;
    return pos.done(p_restaurant_id, v_current.version + 1);
  end if;
  if p_action = 'add' then
    -- Every fresh browser announces the three default users: an add never overwrites a user and never revives one.
    if pos.is_deleted(p_restaurant_id, 'staff', v_id)
      or (v_exists and (v_current.created_by = p_client_id
                        or (v_id, p_body ->> 'username') in (('1', 'admin'), ('2', 'cashier'), ('3', 'waiter')))) then
      return pos.done(p_restaurant_id, v_current.version);
    end if;
    if v_exists then
      v_id := pos.id_apart(p_restaurant_id, 'staff', v_id);
      v_exists := false;
    end if;
  elsif not v_exists and pos.is_deleted(p_restaurant_id, 'staff', v_id) then
    return pos.refused('GONE', format('user %s was deleted', v_id), 'id');
  end if;
  if v_exists then
    update pos.staff as s set data = s.data || v_data, announced = false, password = coalesce(p_body ->> 'password', s.password)
    where s.restaurant_id = p_restaurant_id and s.id = v_id;
    return pos.done(p_restaurant_id, null);
  end if;
  if not p_body ? 'username' then
    return pos.refused('VALIDATION', 'username is required to make a user', 'username');
  end if;
  insert into pos.staff (restaurant_id, id, data, password, announced)
  values (p_restaurant_id, v_id, v_data, p_body ->> 'password',
          p_action = 'add' and (v_id, p_body ->> 'username') in (('1', 'admin'), ('2', 'cashier'), ('3', 'waiter')));
  return pos.done(p_restaurant_id, 1);
end
$$;
comment on function pos.mutate_staff(bigint, text, text, jsonb) is 'UPDATE_USERS: add, update, delete.';

create or replace function pos.read_staff(p_restaurant_id bigint)
returns table (staff bigint, complete boolean, id text, version bigint, updated_by text, data text, password text)
language sql stable set search_path = '' as $$
  select h.staff, r.complete, s.id, s.version, s.updated_by, pos.row_of(s)::text, s.password
  from pos.heads as h
  join pos.restaurants as r on r.restaurant_id = h.restaurant_id
  left join pos.staff as s on s.restaurant_id = h.restaurant_id
  where h.restaurant_id = p_restaurant_id
  order by length(s.id), s.id;
$$;
comment on function pos.read_staff(bigint) is 'The users of a restaurant with the count they were read at; one row without a user where there is none.';

create or replace function pos.seal_password(p_restaurant_id bigint, p_id text, p_readable text, p_sealed text) returns void
language sql set search_path = '' as $$
  update pos.staff as s set password = p_sealed
  where s.restaurant_id = p_restaurant_id and s.id = p_id and s.password = p_readable;
$$;
comment on function pos.seal_password(bigint, text, text, text) is 'Puts a sealed password in place of a readable one, unless it was changed meanwhile.';

create or replace function pos.meet_terminal(p_restaurant_id bigint, p_client_id text) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_revision bigint;
begin
  select a.revision into v_revision from pos.app_terminals as a
  where a.restaurant_id = p_restaurant_id and a.client_id = p_client_id;
  insert into pos.app_terminals (restaurant_id, client_id) values (p_restaurant_id, p_client_id)
  on conflict (restaurant_id, client_id) do update set seen_at = now();
  return v_revision;
end
$$;
comment on function pos.meet_terminal(bigint, text) is 'Notes that a terminal of the web app is here; the revision it has certainly seen, null where it was never here.';

create or replace function pos.note_terminals(p_restaurant_ids bigint[], p_client_ids text[], p_revisions bigint[]) returns void
language sql set search_path = '' as $$
  update pos.app_terminals as a set revision = n.revision, seen_at = now()
  from unnest(p_restaurant_ids, p_client_ids, p_revisions) as n (restaurant_id, client_id, revision)
  where a.restaurant_id = n.restaurant_id and a.client_id = n.client_id;
$$;
comment on function pos.note_terminals(bigint[], text[], bigint[]) is 'Notes what terminals of the web app have certainly seen.';

create or replace function pos.expect_renamed(p_restaurant_id bigint, p_client_id text) returns void
language sql set search_path = '' as $$
  -- Below every clear: its next state comes after one, or it would keep the sale under both ids.
  update pos.app_terminals as a set revision = -1 where a.restaurant_id = p_restaurant_id and a.client_id = p_client_id;
$$;
comment on function pos.expect_renamed(bigint, text) is 'An order of this terminal was stored under another id; its socket may be gone before it hears of that.';
