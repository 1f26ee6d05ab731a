-- Order ids. Terminals number their orders by themselves, so two of them can give one id to two sales; here it is
-- decided which sale an id means, and which id a sale gets.

create or replace function pos.is_finished(p_status text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  return p_status in ('completed', 'void');
end
$$;
comment on function pos.is_finished(text) is 'Whether an order with this status is finished; it never goes back.';

create or replace function pos.next_order_id(p_restaurant_id bigint, p_prefix text, p_after bigint, p_width integer) returns text
language plpgsql set search_path = '' as $$
declare
  v_number bigint;
  v_id text;
  v_tries integer := 0;
begin
  select greatest(c.last_number, p_after) into v_number
  from pos.order_counters as c where c.restaurant_id = p_restaurant_id and c.prefix = p_prefix;
  v_number := coalesce(v_number, p_after);
  loop
    v_tries := v_tries + 1;
    -- Where a terminal counts from one again among 50,000 sales, every number in turn takes longer than a relay waits.
    v_number := v_number + (2 ^ greatest(0, v_tries - 1000))::bigint;
    v_id := p_prefix || lpad(v_number::text, greatest(p_width, length(v_number::text)), '0');
    exit when not exists (select from pos.order_history as o where o.restaurant_id = p_restaurant_id and o.id = v_id)
      and not exists (select from pos.order_claims as c where c.restaurant_id = p_restaurant_id and c.order_id = v_id)
      and not exists (select from pos.order_replacements as r where r.restaurant_id = p_restaurant_id and r.given_id = v_id);
  end loop;
  insert into pos.order_counters as c (restaurant_id, prefix, last_number) values (p_restaurant_id, p_prefix, v_number)
  on conflict (restaurant_id, prefix) do update set last_number = excluded.last_number, used_at = excluded.used_at;
  return v_id;
end
$$;
comment on function pos.next_order_id(bigint, text, bigint, integer) is 'The next free order id of a form, never given twice; the head of the restaurant is locked by the caller.';

create or replace function pos.next_order_id(p_restaurant_id bigint) returns text
language plpgsql set search_path = '' as $$
declare
  v_today text;
begin
  select to_char(now() at time zone r.time_zone, 'MMDDYYYY') into v_today
  from pos.restaurants as r where r.restaurant_id = p_restaurant_id;
  return pos.next_order_id(p_restaurant_id, 'POS-' || v_today || '-', 0, 3);
end
$$;
comment on function pos.next_order_id(bigint) is 'The next free order id of today in the restaurant''s time zone: POS-MMDDYYYY-NNN.';

create or replace function pos.order_id_instead_of(p_restaurant_id bigint, p_wanted_id text) returns text
language plpgsql set search_path = '' as $$
declare
  v_parts text[] := regexp_match(p_wanted_id, '^(.*?)([0-9]{1,15})$');
begin
  if v_parts is null then
    return pos.next_order_id(p_restaurant_id, left(p_wanted_id, 100) || '-', 1, 1);
  end if;
  -- Cut, so that the number may grow and the id still be one.
  return pos.next_order_id(p_restaurant_id, left(v_parts[1], 110), v_parts[2]::bigint, length(v_parts[2]));
end
$$;
comment on function pos.order_id_instead_of(bigint, text) is 'The next free order id of the same form as one that is taken.';

create or replace function pos.replace_order_id(p_restaurant_id bigint, p_wanted_id text, p_client_id text, p_table_id text) returns text
language plpgsql set search_path = '' as $$
declare
  v_given_id constant text := pos.order_id_instead_of(p_restaurant_id, p_wanted_id);
begin
  insert into pos.order_replacements (restaurant_id, given_id, wanted_id, client_id, table_id)
  values (p_restaurant_id, v_given_id, p_wanted_id, p_client_id, p_table_id);
  return v_given_id;
end
$$;
comment on function pos.replace_order_id(bigint, text, text, text) is 'Gives a free order id for a taken one and remembers it for the terminal and table.';

create or replace function pos.replaced_order_id(p_restaurant_id bigint, p_wanted_id text, p_client_id text, p_table_id text) returns text
language sql stable set search_path = '' as $$
  select r.given_id from pos.order_replacements as r
  where r.restaurant_id = p_restaurant_id and r.wanted_id = p_wanted_id
    and r.client_id = p_client_id and r.table_id = p_table_id
  order by r.created_at desc limit 1;
$$;
comment on function pos.replaced_order_id(bigint, text, text, text) is 'The id given before to this terminal and table for a wanted one; null if none was.';

create or replace function pos.has_claimed(p_restaurant_id bigint, p_order_id text, p_client_id text) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from pos.order_claims as c
    where c.restaurant_id = p_restaurant_id and c.order_id = p_order_id and c.client_id = p_client_id
  );
$$;
comment on function pos.has_claimed(bigint, text, text) is 'Whether a terminal was the first to put this order on one of the tables.';

create or replace function pos.is_same_sale(p_order pos.order_history, p_body jsonb, p_client_id text) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  v_theirs constant jsonb := nullif(p_order.extra -> 'createdAt', 'null');
  v_ours constant jsonb := nullif(p_body -> 'createdAt', 'null');
begin
  if v_theirs is not null and v_ours is not null then
    return v_theirs = v_ours or coalesce(pos.moment_of(v_theirs) = pos.moment_of(v_ours), false);
  end if;
  if p_order.created_by = p_client_id then
    return true;
  end if;
  return case when p_body ? 'tableNumber' then (p_body ->> 'tableNumber')::numeric is not distinct from p_order.table_number end;
end
$$;
comment on function pos.is_same_sale(pos.order_history, jsonb, text) is 'Whether a body means this order: by createdAt; where one has none, by terminal or table. Null when nothing in the body tells.';

create or replace function pos.order_meant(
  p_restaurant_id bigint, p_body jsonb, p_client_id text, out order_id text, out taken boolean
)
language plpgsql set search_path = '' as $$
declare
  v_wanted_id constant text := p_body ->> 'id';
  v_table_number constant integer := (p_body ->> 'tableNumber')::numeric::integer;
  v_order pos.order_history;
begin
  order_id := v_wanted_id;
  select o.* into v_order from pos.order_history as o where o.restaurant_id = p_restaurant_id and o.id = v_wanted_id;
  if found then
    taken := not pos.is_same_sale(v_order, p_body, p_client_id);
    if not taken then
      return;
    end if;
  else
    -- Nor may a sale take the id of one that another terminal has open on another table.
    taken := exists (
        select from pos.tables as t
        where t.restaurant_id = p_restaurant_id and t.order_id = v_wanted_id and t.number is distinct from v_table_number)
      and not pos.has_claimed(p_restaurant_id, v_wanted_id, p_client_id);
  end if;

  -- The sale was stored under another id before,
  for v_order in
    select o.* from pos.order_replacements as r
    join pos.order_history as o on o.restaurant_id = r.restaurant_id and o.id = r.given_id
    where r.restaurant_id = p_restaurant_id and r.wanted_id = v_wanted_id
    order by r.created_at desc
  loop
    if pos.is_same_sale(v_order, p_body, p_client_id) then
      order_id := v_order.id;
      taken := false;
      return;
    end if;
  end loop;

  -- or its table has carried it under another id until now.
  select r.given_id into order_id from pos.order_replacements as r
  join pos.tables as t on t.restaurant_id = r.restaurant_id and t.id = r.table_id and t.number = v_table_number
  where r.restaurant_id = p_restaurant_id and r.wanted_id = v_wanted_id and r.client_id = p_client_id
    and not exists (select from pos.order_history as o where o.restaurant_id = p_restaurant_id and o.id = r.given_id)
  order by r.created_at desc limit 1;
  if found then
    taken := false;
  else
    order_id := v_wanted_id;
    taken := coalesce(taken, false);
  end if;
end
$$;
comment on function pos.order_meant(bigint, jsonb, text) is 'Under which id the sale of a body stands, or would; taken when a different sale has that id.';
