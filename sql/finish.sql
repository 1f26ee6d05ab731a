-- The default restaurant, the version, and who may call what.

-- Only a new database gets it: somebody may have given it another slug since.
insert into pos.restaurants (slug, name)
select 'default', 'Default restaurant' where not exists (select from pos.restaurants);
insert into pos.installation as i (version) values (3)
on conflict (only_row) do update set version = excluded.version where i.version <> excluded.version;

-- Where pg_temp is not named it comes first for tables and types: a domain pg_temp.text would then run its own checks with
-- the rights of whoever owns a function (CVE-2007-2138; PostgreSQL manual, CREATE FUNCTION).
do $$
declare
  v_function regprocedure;
begin
  for v_function in select p.oid from pg_catalog.pg_proc as p where p.pronamespace = 'pos'::regnamespace loop
    execute format('alter function %s set search_path = pg_catalog, pg_temp', v_function);
  end loop;
end
$$;
revoke all on all functions in schema pos from public;
