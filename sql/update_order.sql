-- UPDATE_ORDER.

create or replace function pos.mutate_order(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_taken boolean := false;
  v_table_id text;
  v_current pos.order_history;
  v_exists boolean;
  v_missing constant text := pos.missing_field(p_body, array['tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items']);
  v_version bigint;
  v_renamed jsonb;
begin
  if coalesce(p_action, '') not in ('add', 'update', 'void', 'clear') then
    return pos.unknown_action('UPDATE_ORDER', p_action);
  end if;
  if p_action = 'clear' then
    v_version := pos.write_log(p_restaurant_id, 'UPDATE_ORDER', 'clear', null, null, '{}');
    update pos.heads as h set cleared_revision = v_version where h.restaurant_id = p_restaurant_id;
    return pos.done(p_restaurant_id, null);
  end if;
  -- A terminal that gives its messages ids knows what its orders are called here: an id alone is taken at its word.
  if p_action = 'add' or p_mutation_id is null or p_body ?| array['tableNumber', 'createdAt'] then
    select m.order_id, m.taken into v_id, v_taken from pos.order_meant(p_restaurant_id, p_body, p_client_id) as m;
  end if;
  if v_taken and p_action = 'add' then
    if p_mutation_id is not null then
      return pos.refused('ORDER_ID_TAKEN', format('order id %s belongs to another sale', v_id), 'id',
                         jsonb_build_object('suggestedId', pos.order_id_instead_of(p_restaurant_id, v_id)));
    end if;
    -- Refused before an id is given: a refusal is no exception, and nothing would take the id back.
    if p_if_version <> 0 then
      return pos.conflict('the order is not there yet', 'ifVersion', null);
    end if;
    if v_missing is not null then
      return pos.refused('VALIDATION', format('%s is required to make an order', v_missing), v_missing);
    end if;
    select t.id into v_table_id from pos.tables as t
    where t.restaurant_id = p_restaurant_id and t.number = (p_body ->> 'tableNumber')::numeric::integer;
    v_id := pos.replace_order_id(p_restaurant_id, v_id, p_client_id, coalesce(v_table_id, ''));
  end if;

  if v_id <> p_body ->> 'id' then
    v_renamed := jsonb_build_object('orderId', v_id);
    perform pos.expect_renamed(p_restaurant_id, p_client_id);
  end if;
  select o.* into v_current from pos.order_history as o where o.restaurant_id = p_restaurant_id and o.id = v_id for update;
  v_exists := found;
  if p_if_version <> coalesce(v_current.version, 0) then
    return pos.conflict(format('order %s has version %s', v_id, coalesce(v_current.version, 0)), 'ifVersion', pos.row_of(v_current));
  end if;
  if v_taken and v_exists and p_action <> 'add' then
    return pos.conflict(format('order id %s belongs to another sale', v_id), 'id', pos.row_of(v_current));
  end if;
  if p_action = 'void' then
    if not v_exists then
      return pos.refused('VALIDATION', format('there is no order %s', v_id), 'id');
    end if;
    update pos.order_history as o set status = 'void'
    where o.restaurant_id = p_restaurant_id and o.id = v_id returning o.version into v_version;
    return pos.done(p_restaurant_id, coalesce(v_version, v_current.version), v_renamed);
  end if;

  if not v_exists and v_missing is not null then
    return pos.refused('VALIDATION', format('%s is required to make an order', v_missing), v_missing);
  end if;
  if pos.is_finished(v_current.status) and not pos.is_finished(coalesce(p_body ->> 'status', v_current.status)) then
    return pos.conflict(format('order %s is finished (%s) and stays so', v_id, v_current.status), 'status', pos.row_of(v_current));
  end if;
  v_current.table_number := case when p_body ? 'tableNumber' then (p_body ->> 'tableNumber')::numeric::integer else v_current.table_number end;
  v_current.customer_name := case when p_body ? 'customerName' then p_body ->> 'customerName' else v_current.customer_name end;
  v_current.order_date := case when p_body ? 'orderDate' then p_body ->> 'orderDate' else v_current.order_date end;
  v_current.status := coalesce(p_body ->> 'status', v_current.status);
  v_current.total := coalesce((p_body ->> 'total')::numeric, v_current.total);
  v_current.items := coalesce(pos.lines_of(p_body -> 'items'), v_current.items);
  v_current.created_at := case when p_body ? 'createdAt' then pos.moment_of(p_body -> 'createdAt') else v_current.created_at end;
  -- createdAt is no optional field: absent in an update, it stays.
  v_current.extra := case when v_current.extra ? 'createdAt' then jsonb_build_object('createdAt', v_current.extra -> 'createdAt') else '{}' end
    || pos.extra_of(p_body, array['id', 'tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items'], '{}');
  if v_exists then
    update pos.order_history as o
    set (table_number, customer_name, order_date, status, total, items, created_at, extra)
      = row(v_current.table_number, v_current.customer_name, v_current.order_date, v_current.status, v_current.total,
            v_current.items, v_current.created_at, v_current.extra)
    where o.restaurant_id = p_restaurant_id and o.id = v_id
    returning o.version into v_version;
    return pos.done(p_restaurant_id, coalesce(v_version, v_current.version), v_renamed);
  end if;
  insert into pos.order_history (restaurant_id, id, table_number, customer_name, order_date, status, total, items, created_at, extra)
  values (p_restaurant_id, v_id, v_current.table_number, v_current.customer_name, v_current.order_date, v_current.status,
          v_current.total, v_current.items, v_current.created_at, v_current.extra)
  returning version into v_version;
  return pos.done(p_restaurant_id, v_version, v_renamed);
end
$$;
comment on function pos.mutate_order(bigint, text, text, text, jsonb, bigint) is 'UPDATE_ORDER.';
