-- From version 2. Does nothing in any other database but those that 2.sql has just brought here.

do $$
begin
  if not exists (select from pos.installation as i where i.version < 3) then
    return;
  end if;
  drop function if exists pos.store_table(pos.tables, boolean);
  alter table pos.sync_log add column if not exists traceparent text;
  -- Made again with the traces of what is asked for.
  drop function if exists pos.apply(uuid, bigint[], text[], text[], text[], text[], text[], bigint[], boolean, text[]);
end
$$;
