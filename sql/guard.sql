-- Who may go on: one installer at a time, on a server that is new enough, never over a newer schema.

set local client_encoding = 'UTF8';  -- of these files, whatever the terminal speaks
set local client_min_messages = warning;
set local search_path = '';

do $$
begin
  -- Where a DBA has run roles.sql, an upgrade runs as the owner, so that what it makes belongs to it.
  if exists (select from pg_catalog.pg_namespace as n where n.nspname = 'pos' and pg_get_userbyid(n.nspowner) = 'pos_owner') then
    set local role pos_owner;
  end if;
end
$$;

do $$
begin
  if current_setting('server_version_num')::int < 150000 then
    raise exception 'the relay needs PostgreSQL 15 or newer, this is %', current_setting('server_version')
      using hint = 'Older servers have reached the end of their support or lose notifications in known ways; upgrade first.';
  end if;
  if current_setting('server_encoding') <> 'UTF8' then
    raise exception 'the relay needs a database in UTF8, this one is in %', current_setting('server_encoding')
      using hint = 'createdb --encoding=UTF8 --template=template0 minipos_db';
  end if;
  -- Eight first installs at once: seven wait here and then find everything in place.
  perform pg_advisory_xact_lock(hashtextextended('pos.schema', 0));
end
$$;

-- Below deadlock_timeout: an upgrade that waits for a person, who waits for it, is the one that gives way.
set local lock_timeout = '500ms';

create schema if not exists pos;
comment on schema pos is 'The MiniPOS relay: what the terminals of every restaurant show, and the log of its changes.';

create table if not exists pos.installation (
  only_row boolean primary key default true constraint installation_only_row check (only_row),
  version integer not null,
  epoch_seed uuid not null default gen_random_uuid(),
  installed_at timestamptz not null default now()
);
comment on table pos.installation is 'One row: which version of the schema is installed, and what makes its history unlike any other.';
comment on column pos.installation.only_row is 'Always true; holds the table to one row.';
comment on column pos.installation.version is 'Version of the schema, a whole number that grows.';
comment on column pos.installation.epoch_seed is 'Random part of the epoch; changes when sync_log is truncated.';
comment on column pos.installation.installed_at is 'When the schema was first installed.';

do $$
declare
  v_installed integer;
begin
  select i.version into v_installed from pos.installation as i;
  if v_installed > 3 then
    raise exception 'the installed schema has version %, these files are version 3', v_installed
      using hint = 'Use the schema files of the newer relay.';
  end if;
end
$$;

-- All tables now, or none: taken one by one on the way, a person's commit would need the heads that the upgrade has while
-- the upgrade needs the rows that the person has. Behind a `begin` forgotten in psql it gives up after 3 seconds; between its
-- tries the terminals, who wait behind it, go on.
do $$
declare
  v_tables constant text := (
    select string_agg(c.oid::regclass::text, ', ' order by c.oid) from pg_catalog.pg_class as c
    where c.relnamespace = 'pos'::regnamespace and c.relkind in ('r', 'p'));
  v_until constant timestamptz := clock_timestamp() + interval '3 seconds';
begin
  loop
    begin
      execute format('lock table %s in access exclusive mode', v_tables);
      return;
    exception when lock_not_available or deadlock_detected then
      if clock_timestamp() > v_until then
        raise;
      end if;
    end;
    perform pg_sleep(0.1);
  end loop;
end
$$;
