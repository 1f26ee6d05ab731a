-- From version 2. Does nothing in any other database but those that 2.sql has just brought here.

do $$
begin
  if not exists (select from pos.installation as i where i.version < 3) then
    return;
  end if;
  drop function if exists pos.store_table(pos.tables, boolean);
end
$$;
