-- Rows as the terminals see them, and bodies as rows. Typed columns win over `extra`; a column that is null is absent,
-- unless the terminal wrote an explicit null, which `extra` keeps.

create or replace function pos.row_of(p_row pos.tables) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return p_row.extra || (
    jsonb_build_object('id', p_row.id, 'number', p_row.number, 'seats', p_row.seats, 'status', p_row.status,
                       'orderId', p_row.order_id, 'reservationTime', p_row.reservation_time, 'customer', p_row.customer,
                       'orderItems', p_row.order_items, 'orderTotal', p_row.order_total, 'version', p_row.version)
    -- What is absent is none of these: `extra` may hold a null of the terminal's own under the same name.
    - array[case when p_row.order_id is null then 'orderId' end,
            case when p_row.reservation_time is null then 'reservationTime' end,
            case when p_row.customer is null then 'customer' end,
            case when p_row.order_items is null then 'orderItems' end,
            case when p_row.order_total is null then 'orderTotal' end]);
end
$$;
comment on function pos.row_of(pos.tables) is 'A table as the terminals see it.';

create or replace function pos.row_of(p_row pos.menu_items) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return p_row.extra
    || jsonb_build_object('id', p_row.id, 'name', p_row.name, 'price', p_row.price, 'category', p_row.category,
                          'description', p_row.description)
    || case when p_row.image is null then '{}' else jsonb_build_object('image', p_row.image) end
    || jsonb_build_object('version', p_row.version);
end
$$;
comment on function pos.row_of(pos.menu_items) is 'A dish as the terminals see it.';

create or replace function pos.row_of(p_row pos.order_history) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return p_row.extra
    || jsonb_build_object('id', p_row.id, 'tableNumber', p_row.table_number, 'customerName', p_row.customer_name,
                          'orderDate', p_row.order_date, 'status', p_row.status, 'total', p_row.total,
                          'items', p_row.items, 'version', p_row.version);
end
$$;
comment on function pos.row_of(pos.order_history) is 'An order as the terminals see it.';

create or replace function pos.extra_of(p_body jsonb, p_columns text[], p_nullable text[]) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  v_extra jsonb := p_body - p_columns;
  v_key text;
begin
  foreach v_key in array p_nullable loop
    if p_body -> v_key = 'null' then
      v_extra := v_extra || jsonb_build_object(v_key, null);
    end if;
  end loop;
  return v_extra;
end
$$;
comment on function pos.extra_of(jsonb, text[], text[]) is 'The fields of a body that have no column, and the explicit nulls of those that may be absent.';

create or replace function pos.lines_of(p_lines jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  return case jsonb_typeof(p_lines)
    when 'array' then p_lines
    when 'string' then (p_lines #>> '{}')::jsonb
  end;
end
$$;
comment on function pos.lines_of(jsonb) is 'The lines of an order as an array; they may arrive as JSON text.';

create or replace function pos.moment_of(p_value jsonb) returns timestamptz
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  v_text text := p_value #>> '{}';
begin
  if jsonb_typeof(p_value) = 'number' then
    return to_timestamp(v_text::numeric / 1000);
  end if;
  -- Only ISO 8601 is read: `yesterday` and `now` are timestamps to PostgreSQL too.
  return case when v_text ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}' then v_text::timestamptz end;
exception when others then
  return null;
end
$$;
comment on function pos.moment_of(jsonb) is 'A terminal''s timestamp (ISO 8601, or milliseconds since 1970) as a point in time; null where it is none.';

create or replace function pos.total_of(p_lines jsonb, p_else numeric) returns numeric
language sql immutable set search_path = '' as $$
  -- A price may be any JSON, and an aggregate is computed whatever stands around it: so each line is looked at first.
  select case when count(*) = count(l.amount) then coalesce(sum(l.amount), 0) else p_else end
  from (
    select case
      when jsonb_typeof(i.line -> 'price') = 'number' and coalesce(jsonb_typeof(i.line -> 'quantity'), 'number') = 'number'
      then (i.line ->> 'price')::numeric * coalesce((i.line ->> 'quantity')::numeric, 1)
    end as amount
    from jsonb_array_elements(p_lines) as i (line)
  ) as l;
$$;
comment on function pos.total_of(jsonb, numeric) is 'Sum of price times quantity over the lines; the second argument where a line has no price.';
