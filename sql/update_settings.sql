-- UPDATE_SETTINGS and MESSAGE, which touch no list.

create or replace function pos.mutate_settings(p_restaurant_id bigint, p_body jsonb, p_if_version bigint) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_current pos.restaurants;
  v_version bigint;
begin
  select r.* into v_current from pos.restaurants as r where r.restaurant_id = p_restaurant_id for no key update;
  if p_if_version <> v_current.settings_version then
    return pos.conflict(format('the settings have version %s', v_current.settings_version), 'ifVersion', v_current.settings);
  end if;
  update pos.restaurants as r set settings = v_current.settings || p_body
  where r.restaurant_id = p_restaurant_id returning r.settings_version into v_version;
  return pos.done(p_restaurant_id, v_version);
end
$$;
comment on function pos.mutate_settings(bigint, jsonb, bigint) is 'UPDATE_SETTINGS: merges the top-level keys.';

create or replace function pos.send_message(
  p_restaurant_id bigint, p_client_id text, p_type text, p_profile text, p_to_client_id text, p_body jsonb
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_number bigint;
begin
  update pos.heads as h set messages = h.messages + 1
  where h.restaurant_id = p_restaurant_id returning h.messages into v_number;
  insert into pos.messages (restaurant_id, number, type, profile, client_id, to_client_id, data)
  values (p_restaurant_id, v_number, p_type, p_profile, p_client_id, p_to_client_id, p_body);
  perform pos.ring(p_restaurant_id);
  return pos.done(p_restaurant_id, null);
end
$$;
comment on function pos.send_message(bigint, text, text, text, text, jsonb) is 'Sends a message on its way to the other terminals, without a revision.';
