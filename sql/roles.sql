-- Roles for a relay that may do no more than it must. A DBA runs this once, after schema.sql; again changes nothing.
--
--   psql -d minipos_db -f sql/roles.sql
--
-- It needs no superuser: whoever owns the database and the schema, and may create roles, can run it.
--
--   pos_owner   owns the schema; nobody logs in as it
--   pos_relay   the relay: give it a password (\password pos_relay), and put it into DATABASE_URL
--   pos_admin   for people: terminals and retention (grant pos_admin to somebody)
--   pos_reader  for people and reports: reads one restaurant, the one that the setting pos.restaurant_id names
--
-- Whoever can connect may listen to the doorbell and ring it (PostgreSQL manual, NOTIFY). So the first run takes CONNECT and
-- TEMPORARY on this database from public; who else is to come in, monitoring say, is granted it by name. What a DBA has
-- granted after that a later run leaves alone.

\set ON_ERROR_STOP on
begin isolation level read committed;
set local client_min_messages = warning;
set local search_path = '';
set local lock_timeout = '3s';

do $$
declare
  v_role record;
  v_object record;
begin
  perform pg_advisory_xact_lock(hashtextextended('pos.schema', 0));
  if to_regclass('pos.installation') is null then
    raise exception 'there is no schema of the relay in this database' using hint = 'First run sql/schema.sql.';
  end if;
  for v_role in
    select * from (values ('pos_owner', 'nologin'), ('pos_relay', 'login'), ('pos_admin', 'nologin'), ('pos_reader', 'nologin'))
      as r (name, login)
    where not exists (select from pg_catalog.pg_roles as p where p.rolname = r.name)
  loop
    execute format('create role %I %s', v_role.name, v_role.login);
  end loop;
  if not (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) then
    execute format('grant pos_owner to %I', current_user);
  end if;
  -- Whatever else goes wrong in a relay, it never holds a row for long. (Its own bounds are shorter.)
  alter role pos_relay set statement_timeout = '30s';
  alter role pos_relay set lock_timeout = '2s';
  alter role pos_relay set idle_in_transaction_session_timeout = '10s';

  if not exists (
    select from pg_catalog.pg_database as d, aclexplode(d.datacl) as a
    where d.datname = current_database() and a.grantee = 'pos_relay'::regrole and a.privilege_type = 'CONNECT'
  ) then
    execute format('revoke connect, temporary on database %I from public', current_database());
  end if;
  -- To create: for upgrades, which run as the owner. To connect as it: for its members.
  execute format('grant create, connect on database %I to pos_owner', current_database());
  execute format('grant connect on database %I to pos_relay, pos_admin, pos_reader', current_database());
  if exists (select from pg_catalog.pg_namespace as n where n.nspname = 'pos' and pg_get_userbyid(n.nspowner) <> 'pos_owner') then
    alter schema pos owner to pos_owner;
  end if;
  for v_object in
    select 'table' as kind, c.oid::regclass::text as name from pg_catalog.pg_class as c
    where c.relnamespace = 'pos'::regnamespace and c.relkind in ('r', 'p') and pg_get_userbyid(c.relowner) <> 'pos_owner'
    union all
    select 'view', c.oid::regclass::text from pg_catalog.pg_class as c
    where c.relnamespace = 'pos'::regnamespace and c.relkind = 'v' and pg_get_userbyid(c.relowner) <> 'pos_owner'
    union all
    select 'function', p.oid::regprocedure::text from pg_catalog.pg_proc as p
    where p.pronamespace = 'pos'::regnamespace and pg_get_userbyid(p.proowner) <> 'pos_owner'
    union all
    select 'type', t.oid::regtype::text
    from pg_catalog.pg_type as t join pg_catalog.pg_class as c on c.oid = t.typrelid
    where t.typnamespace = 'pos'::regnamespace and c.relkind = 'c' and pg_get_userbyid(t.typowner) <> 'pos_owner'
  loop
    execute format('alter %s %s owner to pos_owner', v_object.kind, v_object.name);
  end loop;
end
$$;
\ir grants.sql
commit;
