-- What each message does. These functions run under the head's lock (pos.mutate takes it), decide before they write,
-- and answer with a pos.result instead of raising, so that one refusal costs a batch nothing.

create or replace function pos.done(p_restaurant_id bigint, p_version bigint, p_details jsonb default null) returns pos.result
language plpgsql stable set search_path = '' as $$
begin
  -- pos.enter and pos.write_log keep it: the head is locked, and to ask for it would be one statement more.
  return row('OK', null, null, current_setting('pos.revision')::bigint, p_version, p_details)::pos.result;
end
$$;
comment on function pos.done(bigint, bigint, jsonb) is 'The answer to a mutation that is applied, at the head.';

create or replace function pos.body_hash(p_type text, p_action text, p_if_version bigint, p_body jsonb) returns bytea
language plpgsql stable set search_path = '' as $$
begin
  return sha256(convert_to(concat_ws(' ', p_type, p_action, coalesce(p_if_version::text, '-'), p_body::text), 'UTF8'));
end
$$;
comment on function pos.body_hash(text, text, bigint, jsonb) is 'What tells a mutation from another one under the same id; the body is without version, revision and action.';

create or replace function pos.refused(p_code text, p_message text, p_field text default null, p_details jsonb default null) returns pos.result
language plpgsql immutable set search_path = '' as $$
begin
  return row(p_code, p_message, p_field, null, null, p_details)::pos.result;
end
$$;
comment on function pos.refused(text, text, text, jsonb) is 'The answer to a mutation that is not applied.';

create or replace function pos.unknown_action(p_type text, p_action text) returns pos.result
language plpgsql immutable set search_path = '' as $$
begin
  return pos.refused('UNKNOWN_ACTION', format('%s has no action %s', p_type, coalesce(p_action, 'null')), 'action');
end
$$;
comment on function pos.unknown_action(text, text) is 'The answer to an action that there is not.';

create or replace function pos.conflict(p_message text, p_field text, p_current jsonb) returns pos.result
language plpgsql immutable set search_path = '' as $$
begin
  return pos.refused('CONFLICT', p_message, p_field, jsonb_build_object('current', p_current));
end
$$;
comment on function pos.conflict(text, text, jsonb) is 'CONFLICT, with the current row.';

create or replace function pos.missing_field(p_body jsonb, p_fields text[]) returns text
language sql immutable set search_path = '' as $$
  select f.field from unnest(p_fields) with ordinality as f (field, place)
  where not p_body ? f.field order by f.place limit 1;
$$;
comment on function pos.missing_field(jsonb, text[]) is 'The first field that a body lacks to make a row.';

create or replace function pos.is_deleted(p_restaurant_id bigint, p_kind text, p_id text) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from pos.tombstones as t where t.restaurant_id = p_restaurant_id and t.kind = p_kind and t.id = p_id
  );
$$;
comment on function pos.is_deleted(bigint, text, text) is 'Whether a row with this id was deleted.';
