-- Installs or upgrades the relay's schema `pos`, in one transaction; running it again changes nothing.
--
--   psql -d minipos_db -f sql/schema.sql
--
-- `relay schema apply` reads this same file with a loader of its own, which knows `\set ON_ERROR_STOP on` and `\ir FILE`
-- and no other backslash command.

begin isolation level read committed;
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

-- Behind a `begin` forgotten in psql an upgrade would wait for a table, and every terminal behind the upgrade.
set local lock_timeout = '3s';

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
  if v_installed > 2 then
    raise exception 'the installed schema has version %, these files are version 2', v_installed
      using hint = 'Use the schema files of the newer relay.';
  end if;
end
$$;
-- From version 1: staff, what the web app's sessions need, and who may come in. Does nothing in any other database.

do $$
begin
  if not exists (select from pos.installation as i where i.version = 1) then
    return;
  end if;
  alter table pos.heads add column staff bigint not null default 0;
  alter table pos.tombstones
    drop constraint tombstones_kind,
    add constraint tombstones_kind check (kind in ('tables', 'menu_items', 'categories', 'staff'));
  alter table pos.sync_log add column database_user text, add column address inet;
  alter table pos.sync_log set (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 10000);
  -- Made again below: see tables.sql.
  alter table pos.tables drop constraint tables_key;
  alter table pos.order_history drop constraint order_history_key;
  drop index pos.order_replacements_wanted_id;
  -- What is in it is a minute old at most.
  drop table pos.messages;
  -- Made again with more columns in what they return.
  drop function pos.prune(interval, interval, integer);
  drop function pos.read_heads(bigint[]);
  drop function pos.read_changes(bigint[], bigint[], integer, bigint);
  drop function pos.read_messages(bigint[], bigint[]);
  drop function pos.snapshot(bigint, integer);
  drop function pos.send_message(bigint, text, jsonb);
  drop function pos.settle_order_id(pos.tables, pos.tables, text);
  -- Made again with the role of who asks.
  drop function pos.mutate_entered(bigint, text, text, text, text, jsonb, bigint);
  drop function pos.apply(uuid, bigint[], text[], text[], text[], text[], text[], bigint[], boolean);
  drop function pos.take_revision(bigint);
  alter table pos.order_counters add column used_at timestamptz not null default now();
end
$$;
-- The tables. `extra` keeps every field that the relay does not know, so that one terminal reads what another wrote.
-- Text is checked for length, never trimmed; numbers keep their digits (numeric and jsonb both do).

-- Restaurants, and the head of each one's log.

create table if not exists pos.restaurants (
  restaurant_id bigint generated by default as identity primary key,
  slug text not null,
  name text not null,
  time_zone text not null default 'UTC',
  settings jsonb not null default '{}',
  settings_version bigint not null default 0,
  complete boolean not null default false,
  created_at timestamptz not null default now(),
  constraint restaurants_slug_unique unique (slug),
  constraint restaurants_slug check (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  constraint restaurants_name check (length(name) between 1 and 200),
  constraint restaurants_settings check (jsonb_typeof(settings) = 'object')
);
comment on table pos.restaurants is 'The tenants. A plain insert of slug and name makes a working restaurant at revision 0.';
comment on column pos.restaurants.restaurant_id is 'Names the restaurant in every other table.';
comment on column pos.restaurants.slug is 'Names the restaurant in URLs: ?restaurant=<slug>.';
comment on column pos.restaurants.name is 'For people; terminals show settings.restaurantName.';
comment on column pos.restaurants.time_zone is 'Dates the order ids that NEXT_ORDER_ID gives; a name of pg_timezone_names.';
comment on column pos.restaurants.settings is 'The settings as the terminals see them; UPDATE_SETTINGS merges the top-level keys.';
comment on column pos.restaurants.settings_version is 'Counts the changes of settings.';
comment on column pos.restaurants.complete is 'True when this database holds all of the restaurant''s lists; set by seed and import.';
comment on column pos.restaurants.created_at is 'When the restaurant was created.';

create table if not exists pos.heads (
  restaurant_id bigint primary key references pos.restaurants on delete cascade,
  revision bigint not null default 0,
  floor bigint not null default 1,
  cleared_revision bigint not null default 0,
  messages bigint not null default 0,
  staff bigint not null default 0
) with (fillfactor = 50);
comment on table pos.heads is 'The head of each restaurant''s log. Its row lock, held to commit, makes revision order commit order.';
comment on column pos.heads.restaurant_id is 'The restaurant.';
comment on column pos.heads.revision is 'The newest revision; 0 before the first change.';
comment on column pos.heads.floor is 'The oldest revision that sync_log still holds; above revision when it holds none.';
comment on column pos.heads.cleared_revision is 'Revision of the last UPDATE_ORDER clear; orders last changed before it are hidden.';
comment on column pos.heads.messages is 'Number of the newest row in messages.';
comment on column pos.heads.staff is 'Counts the changes of staff, of terminals and of restaurants.complete, which have no revision.';

-- What the terminals show.

create table if not exists pos.tables (
  restaurant_id bigint not null references pos.restaurants,
  id text not null,
  number integer not null,
  seats integer not null,
  status text not null default 'available',
  order_id text,
  reservation_time text,
  customer jsonb,
  order_items jsonb,
  order_total numeric,
  extra jsonb not null default '{}',
  version bigint not null default 1,
  created_by text not null default 'database',
  updated_by text not null default 'database',
  updated_at timestamptz not null default now(),
  -- Deferrable, so that `update pos.tables set number = number + 1` is checked at its end, not row by row.
  constraint tables_number_unique unique (restaurant_id, number) deferrable initially immediate,
  constraint tables_id check (length(id) between 1 and 128),
  constraint tables_number check (number >= 0),
  constraint tables_seats check (seats between 0 and 1000),
  constraint tables_status check (status in ('available', 'occupied', 'reserved')),
  constraint tables_order_id check (length(order_id) between 1 and 128),
  constraint tables_order_items check (jsonb_typeof(order_items) = 'array'),
  constraint tables_order_total check (order_total not in ('NaN', 'Infinity', '-Infinity')),
  constraint tables_extra check (jsonb_typeof(extra) = 'object')
) with (fillfactor = 70);
create index if not exists tables_order_id on pos.tables (restaurant_id, order_id) where order_id is not null;
-- Made after the other indexes: where the planner knows nothing of a table yet, two indexes that begin with restaurant_id
-- look equally good to it, and it takes the newer one. A plan that is kept would then read all rows of the restaurant for
-- each id: an insert of 10,000 rows took minutes.
do $$
begin
  if to_regclass('pos.tables_key') is null then
    alter table pos.tables add constraint tables_key primary key (restaurant_id, id);
  end if;
end
$$;
comment on table pos.tables is 'Dining tables, with the order that is open on each.';
comment on column pos.tables.restaurant_id is 'The restaurant.';
comment on column pos.tables.id is 'The terminals'' own id, unique in its restaurant only.';
comment on column pos.tables.number is 'The number on the table; unique in its restaurant.';
comment on column pos.tables.seats is 'How many guests it seats, 0 to 1,000.';
comment on column pos.tables.status is 'available, occupied or reserved.';
comment on column pos.tables.order_id is 'The order open on this table.';
comment on column pos.tables.reservation_time is 'As the terminal wrote it.';
comment on column pos.tables.customer is 'Whatever the terminals keep about the guest.';
comment on column pos.tables.order_items is 'Lines of the open order, a JSON array.';
comment on column pos.tables.order_total is 'Total of the open order.';
comment on column pos.tables.extra is 'Fields of the terminals that have no column; an explicit null of a known field is kept here too.';
comment on column pos.tables.version is 'Counts the changes of this row; goes on above its tombstone.';
comment on column pos.tables.created_by is 'Client id that made the row, or database.';
comment on column pos.tables.updated_by is 'Client id that changed the row last, or database.';
comment on column pos.tables.updated_at is 'When the row was changed last.';

create table if not exists pos.menu_items (
  restaurant_id bigint not null references pos.restaurants,
  id text not null,
  name text not null,
  price numeric not null,
  category text not null default '',
  description text not null default '',
  image text,
  extra jsonb not null default '{}',
  position bigint generated by default as identity,
  version bigint not null default 1,
  created_by text not null default 'database',
  updated_by text not null default 'database',
  updated_at timestamptz not null default now(),
  constraint menu_items_key primary key (restaurant_id, id),
  constraint menu_items_id check (length(id) between 1 and 128),
  constraint menu_items_name check (length(name) between 1 and 1000),
  constraint menu_items_price check (price >= 0 and price not in ('NaN', 'Infinity')),
  constraint menu_items_extra check (jsonb_typeof(extra) = 'object')
);
comment on table pos.menu_items is 'The dishes of the menu.';
comment on column pos.menu_items.restaurant_id is 'The restaurant.';
comment on column pos.menu_items.id is 'The terminals'' own id, unique in its restaurant only.';
comment on column pos.menu_items.name is 'Name of the dish.';
comment on column pos.menu_items.price is 'Price in the settings'' currency, at least 0; digits are kept.';
comment on column pos.menu_items.category is 'Name of a category; need not stand in categories.';
comment on column pos.menu_items.description is 'What the guest reads.';
comment on column pos.menu_items.image is 'A URL, often a data: URL of 30 KB and more.';
comment on column pos.menu_items.extra is 'Fields of the terminals that have no column; an explicit null of a known field is kept here too.';
comment on column pos.menu_items.position is 'Order on the menu: as added.';
comment on column pos.menu_items.version is 'Counts the changes of this row; goes on above its tombstone.';
comment on column pos.menu_items.created_by is 'Client id that made the row, or database.';
comment on column pos.menu_items.updated_by is 'Client id that changed the row last, or database.';
comment on column pos.menu_items.updated_at is 'When the row was changed last.';

create table if not exists pos.categories (
  restaurant_id bigint not null references pos.restaurants,
  name text not null,
  position bigint generated by default as identity,
  version bigint not null default 1,
  created_by text not null default 'database',
  updated_at timestamptz not null default now(),
  constraint categories_key primary key (restaurant_id, name),
  constraint categories_name check (length(name) between 1 and 200)
);
comment on table pos.categories is 'The categories of the menu, by name.';
comment on column pos.categories.restaurant_id is 'The restaurant.';
comment on column pos.categories.name is 'The name is the key; to rename, insert the new one, move the dishes, delete the old one.';
comment on column pos.categories.position is 'Order on the menu: as added.';
comment on column pos.categories.version is 'Goes on above its tombstone.';
comment on column pos.categories.created_by is 'Client id that made the row, or database.';
comment on column pos.categories.updated_at is 'When the row was made or moved.';

create table if not exists pos.order_history (
  restaurant_id bigint not null references pos.restaurants,
  id text not null,
  table_number integer,
  customer_name text,
  order_date text,
  status text not null,
  total numeric not null,
  items jsonb not null default '[]',
  created_at timestamptz,
  extra jsonb not null default '{}',
  version bigint not null default 1,
  revision bigint not null default 0,
  created_by text not null default 'database',
  updated_by text not null default 'database',
  updated_at timestamptz not null default now(),
  constraint order_history_id check (length(id) between 1 and 128),
  constraint order_history_table_number check (table_number >= 0),
  constraint order_history_status check (length(status) between 1 and 64),
  constraint order_history_total check (total not in ('NaN', 'Infinity', '-Infinity')),
  constraint order_history_items check (jsonb_typeof(items) = 'array'),
  constraint order_history_extra check (jsonb_typeof(extra) = 'object')
);
create index if not exists order_history_revision on pos.order_history (restaurant_id, revision);
create index if not exists order_history_created_at on pos.order_history (restaurant_id, created_at);
-- Last, as that of the tables.
do $$
begin
  if to_regclass('pos.order_history_key') is null then
    alter table pos.order_history add constraint order_history_key primary key (restaurant_id, id);
  end if;
end
$$;
comment on table pos.order_history is 'Orders, open and finished. No order is ever deleted; a wrong one is voided.';
comment on column pos.order_history.restaurant_id is 'The restaurant.';
comment on column pos.order_history.id is 'The terminals'' own id, unique in its restaurant only.';
comment on column pos.order_history.table_number is 'Number of the table at the time of the sale.';
comment on column pos.order_history.customer_name is 'The guest.';
comment on column pos.order_history.order_date is 'As the terminal wrote it.';
comment on column pos.order_history.status is 'completed and void are finished and never go back.';
comment on column pos.order_history.total is 'Total of the sale; digits are kept.';
comment on column pos.order_history.items is 'The lines, a JSON array.';
comment on column pos.order_history.created_at is 'createdAt as a point in time, where it can be read as one; the terminal''s own text stands in extra.';
comment on column pos.order_history.extra is 'Fields of the terminals that have no column, createdAt as it arrived among them.';
comment on column pos.order_history.version is 'Counts the changes of this row.';
comment on column pos.order_history.revision is 'The restaurant''s revision at this row''s last change; what clear compares.';
comment on column pos.order_history.created_by is 'Client id that made the sale, or database.';
comment on column pos.order_history.updated_by is 'Client id that changed the row last, or database.';
comment on column pos.order_history.updated_at is 'When the row was changed last.';

create table if not exists pos.staff (
  restaurant_id bigint not null references pos.restaurants,
  id text not null,
  data jsonb not null default '{}',
  password text,
  announced boolean not null default false,
  version bigint not null default 1,
  created_by text not null default 'database',
  updated_by text not null default 'database',
  updated_at timestamptz not null default now(),
  constraint staff_key primary key (restaurant_id, id),
  constraint staff_id check (length(id) between 1 and 128),
  constraint staff_data check (jsonb_typeof(data) = 'object')
);
comment on table pos.staff is 'The web app''s users. Apart from everything else: never in sync_log, and sent to sessions of the app only.';
comment on column pos.staff.restaurant_id is 'The restaurant.';
comment on column pos.staff.id is 'The app''s own id, unique in its restaurant only.';
comment on column pos.staff.data is 'The user as the app wrote it, without id and password: name, username, email, roleId, isActive.';
comment on column pos.staff.password is 'As the app compares it in the browser; sealed by the relay where RELAY_SECRET is set.';
comment on column pos.staff.announced is 'One of the app''s default users whom a browser announced, and nobody has changed.';
comment on column pos.staff.version is 'Counts the changes of this row; goes on above its tombstone.';
comment on column pos.staff.created_by is 'Client id that made the row, or database.';
comment on column pos.staff.updated_by is 'Client id that changed the row last, or database.';
comment on column pos.staff.updated_at is 'When the row was changed last.';

-- Who may come in.

create table if not exists pos.terminals (
  restaurant_id bigint not null references pos.restaurants on delete cascade,
  name text not null,
  role text not null default 'terminal',
  token_hash bytea not null,
  created_at timestamptz not null default now(),
  rotated_at timestamptz,
  revoked_at timestamptz,
  constraint terminals_key primary key (restaurant_id, name),
  constraint terminals_token_hash_unique unique (token_hash),
  -- It is shown to people, in lists and logs.
  constraint terminals_name check (length(name) between 1 and 100 and name = btrim(name) and name !~ '[[:cntrl:]]'),
  constraint terminals_role check (role in ('terminal', 'manager', 'display')),
  constraint terminals_token_hash check (octet_length(token_hash) = 32)
);
comment on table pos.terminals is 'Enrolled terminals, for RELAY_AUTH=token (relay terminal add). A change closes the live sockets that it concerns.';
comment on column pos.terminals.restaurant_id is 'The restaurant, the only one that this terminal reaches.';
comment on column pos.terminals.name is 'For people, such as Bar 1; unique in its restaurant.';
comment on column pos.terminals.role is 'terminal (tables and orders), manager (also menu, settings, staff) or display (reads only).';
comment on column pos.terminals.token_hash is 'SHA-256 of the token. The token itself is nowhere: it was shown once.';
comment on column pos.terminals.created_at is 'When it was enrolled.';
comment on column pos.terminals.rotated_at is 'When it was last given another token.';
comment on column pos.terminals.revoked_at is 'Since when its token is refused; null while it is good.';
-- The log of every restaurant, and what the guarantees need beside it.

-- The log.

create table if not exists pos.sync_log (
  restaurant_id bigint not null,
  revision bigint not null,
  type text not null,
  action text not null,
  row_id text,
  version bigint,
  data jsonb not null,
  size integer not null,
  client_id text not null,
  created_at timestamptz not null default clock_timestamp(),
  database_user text,
  address inet,
  constraint sync_log_key primary key (restaurant_id, revision)
) with (
  -- It only grows at one end and is pruned at the other: a share of a large table would be too seldom for both.
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 10000
);
comment on table pos.sync_log is 'Every change of every restaurant: revision 1, 2, 3 … without holes, in commit order.';
comment on column pos.sync_log.restaurant_id is 'The restaurant.';
comment on column pos.sync_log.revision is 'Place of the change in its restaurant''s history.';
comment on column pos.sync_log.type is 'The message the terminals get: UPDATE_TABLE, UPDATE_MENU, UPDATE_ORDER, UPDATE_SETTINGS.';
comment on column pos.sync_log.action is 'The message''s action.';
comment on column pos.sync_log.row_id is 'Which row changed; null for settings and clear.';
comment on column pos.sync_log.version is 'The row''s version after the change.';
comment on column pos.sync_log.data is 'The row as it is after the change, as the terminals get it.';
comment on column pos.sync_log.size is 'Bytes of data, so that a read can be bounded without unpacking it.';
comment on column pos.sync_log.client_id is 'Who caused it: a client id, or database for SQL.';
comment on column pos.sync_log.created_at is 'When the revision was given.';
comment on column pos.sync_log.database_user is 'Who was logged in to the database: for a terminal''s change the relay''s role. Null: before version 2.';
comment on column pos.sync_log.address is 'Where that login came from: for a terminal''s change the relay''s machine. Null: over a Unix socket.';
-- Set apart from the table: an upgrade would write who upgrades into every row of before.
alter table pos.sync_log alter column database_user set default session_user, alter column address set default inet_client_addr();

create unlogged table if not exists pos.staged_changes (
  transaction_id xid8 not null default pg_current_xact_id(),
  seq bigint generated always as identity,
  restaurant_id bigint not null,
  type text not null,
  action text not null,
  row_id text,
  version bigint,
  data jsonb not null,
  client_id text not null,
  constraint staged_changes_key primary key (transaction_id, seq)
);
comment on table pos.staged_changes is 'Changes of plain SQL between their statement and their commit, where they get their revisions.';
comment on column pos.staged_changes.transaction_id is 'The open transaction.';
comment on column pos.staged_changes.seq is 'Order within the transaction.';
comment on column pos.staged_changes.restaurant_id is 'As in sync_log.';
comment on column pos.staged_changes.type is 'As in sync_log, or STAFF: no change of the log, only a count in heads.';
comment on column pos.staged_changes.action is 'As in sync_log.';
comment on column pos.staged_changes.row_id is 'As in sync_log.';
comment on column pos.staged_changes.version is 'As in sync_log.';
comment on column pos.staged_changes.data is 'As in sync_log.';
comment on column pos.staged_changes.client_id is 'As in sync_log.';

create unlogged table if not exists pos.staged_transactions (
  transaction_id xid8 primary key default pg_current_xact_id()
);
comment on table pos.staged_transactions is 'One row for each open transaction with staged changes; its deferred trigger fires once, at commit.';
comment on column pos.staged_transactions.transaction_id is 'The open transaction.';

-- What the guarantees need.

create table if not exists pos.tombstones (
  restaurant_id bigint not null,
  kind text not null,
  id text not null,
  version bigint not null,
  deleted_at timestamptz not null default now(),
  constraint tombstones_key primary key (restaurant_id, kind, id),
  constraint tombstones_kind check (kind in ('tables', 'menu_items', 'categories', 'staff'))
);
create index if not exists tombstones_deleted_at on pos.tombstones (deleted_at);
comment on table pos.tombstones is 'Deleted rows, so that a late update does not revive them and a new one goes on above their version.';
comment on column pos.tombstones.restaurant_id is 'The restaurant.';
comment on column pos.tombstones.kind is 'The table the row stood in.';
comment on column pos.tombstones.id is 'Its id; a category''s name.';
comment on column pos.tombstones.version is 'The version the delete went out with.';
comment on column pos.tombstones.deleted_at is 'When it was deleted.';

create table if not exists pos.mutations (
  restaurant_id bigint not null,
  client_id text not null,
  mutation_id text not null,
  body_hash bytea not null,
  revision bigint not null,
  version bigint,
  details jsonb,
  created_at timestamptz not null default now(),
  constraint mutations_key primary key (restaurant_id, client_id, mutation_id)
);
create index if not exists mutations_created_at on pos.mutations (created_at);
comment on table pos.mutations is 'The ledger: what was applied under which mutation id, so that a repeat gets the first answer and has no effect.';
comment on column pos.mutations.restaurant_id is 'The restaurant.';
comment on column pos.mutations.client_id is 'Whose id it is.';
comment on column pos.mutations.mutation_id is 'The id on the message, unique per client id.';
comment on column pos.mutations.body_hash is 'SHA-256 of type, action, ifVersion and body; the same id with another body is refused.';
comment on column pos.mutations.revision is 'Revision in the first answer.';
comment on column pos.mutations.version is 'Version in the first answer.';
comment on column pos.mutations.details is 'What else was in the first answer.';
comment on column pos.mutations.created_at is 'When it was applied.';

create table if not exists pos.batches (
  batch_id uuid primary key,
  refused jsonb,
  created_at timestamptz not null default now()
);
create index if not exists batches_created_at on pos.batches (created_at);
comment on table pos.batches is 'Committed batches of the last hour: a relay whose connection broke in COMMIT asks here before it tries again.';
comment on column pos.batches.batch_id is 'Random, given by the relay.';
comment on column pos.batches.refused is 'What of it was not applied: the pos.result by its place in the batch. Null when all was.';
comment on column pos.batches.created_at is 'When it was committed.';

create table if not exists pos.actors (
  restaurant_id bigint not null,
  client_id text not null,
  terminal text not null,
  role text not null,
  address text not null,
  first_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  constraint actors_key primary key (restaurant_id, client_id, terminal, role, address)
);
create index if not exists actors_seen_at on pos.actors (seen_at);
comment on table pos.actors is 'Who changed something under which client id, so that the log need not say it in every row. A client id is only what a terminal calls itself.';
comment on column pos.actors.restaurant_id is 'The restaurant.';
comment on column pos.actors.client_id is 'As in sync_log.';
comment on column pos.actors.terminal is 'Name of the enrolled terminal, or of the token; empty where authentication is off.';
comment on column pos.actors.role is 'Its role; empty where authentication is off.';
comment on column pos.actors.address is 'Where it was connected from, as the relay saw it: behind a proxy perhaps the proxy.';
comment on column pos.actors.first_at is 'From when on it changed something; noted before the change.';
comment on column pos.actors.seen_at is 'Until when, ten minutes more or less.';

create unlogged table if not exists pos.lagging (
  restaurant_id bigint not null,
  instance_id text not null,
  revision bigint not null,
  seen_at timestamptz not null default now(),
  constraint lagging_key primary key (restaurant_id, instance_id)
);
comment on table pos.lagging is 'Restaurants with a connected terminal that does not keep up: what it still needs of the log is kept for a while.';
comment on column pos.lagging.restaurant_id is 'The restaurant.';
comment on column pos.lagging.instance_id is 'The relay that it is connected to, as that one names itself at random.';
comment on column pos.lagging.revision is 'What the slowest of its terminals there holds.';
comment on column pos.lagging.seen_at is 'When the relay said so last; it counts for a minute.';

create table if not exists pos.order_claims (
  restaurant_id bigint not null,
  order_id text not null,
  table_id text not null,
  client_id text not null,
  created_at timestamptz not null default now(),
  constraint order_claims_key primary key (restaurant_id, order_id, table_id)
);
create index if not exists order_claims_created_at on pos.order_claims (created_at);
comment on table pos.order_claims is 'Which table carried which order: what tells a stale edit from a second order with the same id.';
comment on column pos.order_claims.restaurant_id is 'The restaurant.';
comment on column pos.order_claims.order_id is 'The order.';
comment on column pos.order_claims.table_id is 'The table.';
comment on column pos.order_claims.client_id is 'Who put it there first: a client id, or database.';
comment on column pos.order_claims.created_at is 'When the table first carried it.';

create table if not exists pos.order_replacements (
  restaurant_id bigint not null,
  given_id text not null,
  wanted_id text not null,
  client_id text not null,
  table_id text not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint order_replacements_key primary key (restaurant_id, given_id)
);
-- Not restaurant_id first, or it looks as good as the key to a planner that knows nothing of the table yet.
create index if not exists order_replacements_wanted_id on pos.order_replacements (wanted_id, restaurant_id);
create index if not exists order_replacements_created_at on pos.order_replacements (created_at);
comment on table pos.order_replacements is 'Order ids that were taken, and the ones given instead, so that later saves of the same order map to the same one.';
comment on column pos.order_replacements.restaurant_id is 'The restaurant.';
comment on column pos.order_replacements.given_id is 'The id the order has.';
comment on column pos.order_replacements.wanted_id is 'The id the terminal wanted.';
comment on column pos.order_replacements.client_id is 'The terminal.';
comment on column pos.order_replacements.table_id is 'Its table, empty for an order without one.';
comment on column pos.order_replacements.created_at is 'When it was given.';

create table if not exists pos.order_counters (
  restaurant_id bigint not null,
  prefix text not null,
  last_number bigint not null,
  used_at timestamptz not null default now(),
  constraint order_counters_key primary key (restaurant_id, prefix)
);
create index if not exists order_counters_used_at on pos.order_counters (used_at);
comment on table pos.order_counters is 'The last number given for each form of order id, such as POS-11222026-.';
comment on column pos.order_counters.restaurant_id is 'The restaurant.';
comment on column pos.order_counters.prefix is 'What stands before the number.';
comment on column pos.order_counters.last_number is 'The last number given.';
comment on column pos.order_counters.used_at is 'When it was given.';

-- Unlogged: gone after a crash, as a kitchen bell may be.
create unlogged table if not exists pos.messages (
  restaurant_id bigint not null,
  number bigint not null,
  type text not null,
  profile text,
  client_id text not null,
  to_client_id text,
  data jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint messages_key primary key (restaurant_id, number)
);
create index if not exists messages_created_at on pos.messages (created_at);
comment on table pos.messages is 'MESSAGEs, and the web app''s session messages, on their way between terminals; pruned after a minute.';
comment on column pos.messages.restaurant_id is 'The restaurant.';
comment on column pos.messages.number is 'Counts the restaurant''s messages, in commit order.';
comment on column pos.messages.type is 'The message''s type.';
comment on column pos.messages.profile is 'Which kind of terminal it is for: app; null for every kind.';
comment on column pos.messages.client_id is 'Who sent it.';
comment on column pos.messages.to_client_id is 'Whom it is for; null for all others.';
comment on column pos.messages.data is 'Its body.';
comment on column pos.messages.created_at is 'When it was sent.';

create table if not exists pos.app_terminals (
  restaurant_id bigint not null,
  client_id text not null,
  revision bigint not null default 0,
  seen_at timestamptz not null default now(),
  constraint app_terminals_key primary key (restaurant_id, client_id)
);
create index if not exists app_terminals_seen_at on pos.app_terminals (seen_at);
comment on table pos.app_terminals is 'Terminals of the web app that were here in the last 7 days: who was away during a clear is sent it first.';
comment on column pos.app_terminals.restaurant_id is 'The restaurant.';
comment on column pos.app_terminals.client_id is 'The terminal.';
comment on column pos.app_terminals.revision is 'A revision that it has certainly received; it may know of later ones. -1: it holds an order under an id that was given to another.';
comment on column pos.app_terminals.seen_at is 'When it was here last.';

do $$
begin
  if to_regtype('pos.result') is null then
    create type pos.result as (
      code text, message text, field text, revision bigint, version bigint, details jsonb
    );
  end if;
end
$$;
comment on type pos.result is 'What became of a mutation: code OK, or the code of PROTOCOL.md section 3 with the reason, the field and what else the answer carries.';
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
-- How a change gets its revision. Whoever wrote the row, the statement triggers end here, on one of two ways:
--
-- * inside pos.mutate and pos.apply the head of the restaurant is locked already, and the change is stamped at once;
-- * plain SQL is collected in staged_changes and stamped at its commit by one deferred trigger, heads in ascending id,
--   so that a `begin` forgotten in psql blocks its rows, not the restaurant.

create or replace function pos.applying() returns bigint
language plpgsql stable set search_path = '' as $$
begin
  return nullif(current_setting('pos.applying', true), '')::bigint;
end
$$;
comment on function pos.applying() is 'The restaurant whose head this transaction holds for stamping at once; null in plain SQL.';

create or replace function pos.client_id() returns text
language plpgsql stable set search_path = '' as $$
begin
  return coalesce(nullif(current_setting('pos.client_id', true), ''), 'database');
end
$$;
comment on function pos.client_id() is 'Who is changing rows: a client id, or database.';

-- Needs the function above.
alter table pos.staged_changes alter column client_id set default pos.client_id();

create or replace function pos.ring(p_restaurant_id bigint) returns void
language sql set search_path = '' as $$
  -- A doorbell: it says where to look, never what happened. Equal ones in one transaction fold into one.
  select pg_notify('pos_doorbell', p_restaurant_id::text);
$$;
comment on function pos.ring(bigint) is 'Rings the relays'' doorbell for one restaurant.';

create or replace function pos.write_log(
  p_restaurant_id bigint, p_type text, p_action text, p_row_id text, p_version bigint, p_data jsonb
) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_size constant integer := octet_length(p_data::text);
  v_client_id constant text := pos.client_id();
  v_revision bigint;
  v_set text;
begin
  -- The lock is held to commit: who has seen revision n has seen everything below n. A sequence cannot promise that.
  with head as (
    update pos.heads as h set revision = h.revision + 1
    where h.restaurant_id = p_restaurant_id
    returning h.revision
  )
  insert into pos.sync_log as l (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
  select p_restaurant_id, head.revision, p_type, p_action, p_row_id, p_version, p_data, v_size, v_client_id from head
  returning l.revision into strict v_revision;
  v_set := set_config('pos.revision', v_revision::text, true);
  perform pg_notify('pos_doorbell', p_restaurant_id::text);
  return v_revision;
end
$$;
comment on function pos.write_log(bigint, text, text, text, bigint, jsonb) is 'Stamps one change at once, under the head''s lock, and rings.';

create or replace function pos.await_commit() returns void
language sql set search_path = '' as $$
  insert into pos.staged_transactions default values on conflict do nothing;
$$;
comment on function pos.await_commit() is 'Sees to it that this transaction''s staged changes are stamped at its commit.';

create or replace function pos.count_staff(p_restaurant_ids bigint[]) returns void
language plpgsql set search_path = '' as $$
begin
  if pos.applying() is null then
    insert into pos.staged_changes (restaurant_id, type, action, data)
    select distinct r.restaurant_id, 'STAFF', 'update', '{}'::jsonb from unnest(p_restaurant_ids) as r (restaurant_id);
    if found then
      perform pos.await_commit();
    end if;
    return;
  end if;
  update pos.heads as h set staff = h.staff + 1 where h.restaurant_id = any (p_restaurant_ids);
  if found then
    perform pos.ring(pos.applying());
  end if;
end
$$;
comment on function pos.count_staff(bigint[]) is 'Tells the relays that staff, terminals or a complete mark changed, without a revision: at once under the head''s lock, else at commit.';

create or replace function pos.stamp() returns void
language plpgsql set search_path = '' as $$
declare
  v_transaction_id constant xid8 := pg_current_xact_id();
  v_restaurant_ids bigint[];
  v_heads bigint[];
  v_order record;
begin
  -- In ascending id, whoever locks: two transactions that touch the same restaurants never wait for each other.
  select array_agg(l.restaurant_id), array_agg(l.revision) into v_restaurant_ids, v_heads
  from (
    select h.restaurant_id, h.revision from pos.heads as h
    where h.restaurant_id in (select s.restaurant_id from pos.staged_changes as s where s.transaction_id = v_transaction_id)
    order by h.restaurant_id
    for no key update
  ) as l;

  insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
  select s.restaurant_id, h.revision + row_number() over (partition by s.restaurant_id order by s.seq),
         s.type, s.action, s.row_id, s.version, s.data, octet_length(s.data::text), s.client_id
  from pos.staged_changes as s
  join unnest(v_restaurant_ids, v_heads) as h (restaurant_id, revision) on h.restaurant_id = s.restaurant_id
  where s.transaction_id = v_transaction_id and s.type <> 'STAFF';

  -- Once by the number of changes: once a change is quadratic inside a transaction.
  update pos.heads as h set revision = h.revision + s.changes, staff = h.staff + s.staff
  from (
    select c.restaurant_id, count(*) filter (where c.type <> 'STAFF') as changes, max((c.type = 'STAFF')::integer) as staff
    from pos.staged_changes as c
    where c.transaction_id = v_transaction_id group by c.restaurant_id
  ) as s
  where h.restaurant_id = s.restaurant_id;

  perform set_config('pos.stamping', 'on', true);
  for v_order in
    select l.restaurant_id, l.row_id, max(l.revision) as revision
    from unnest(v_restaurant_ids, v_heads) as h (restaurant_id, revision)
    join pos.sync_log as l on l.restaurant_id = h.restaurant_id and l.revision > h.revision
    where l.type = 'UPDATE_ORDER'
    group by l.restaurant_id, l.row_id
  loop
    update pos.order_history as o set revision = v_order.revision
    where o.restaurant_id = v_order.restaurant_id and o.id = v_order.row_id;
  end loop;
  perform set_config('pos.stamping', '', true);

  delete from pos.staged_changes as s where s.transaction_id = v_transaction_id;
  delete from pos.staged_transactions as t where t.transaction_id = v_transaction_id;
  perform pos.ring(r.restaurant_id) from unnest(v_restaurant_ids) as r (restaurant_id);
end
$$;
comment on function pos.stamp() is 'Gives this transaction''s staged changes their revisions, in the order they were made, and rings.';
-- Triggers on the five data tables. A BEFORE ROW trigger drops what does not change and counts the version; an AFTER
-- STATEMENT trigger logs what is left. They fire for any writer, psql included.

create or replace function pos.next_version(p_restaurant_id bigint, p_kind text, p_id text) returns bigint
language plpgsql set search_path = '' set enable_seqscan = off as $$
declare
  v_version bigint;
begin
  -- A delete of this id that is on its way is waited for: until it is committed its tombstone cannot be seen.
  case p_kind
    when 'tables' then
      perform 1 from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = p_id for key share;
    when 'menu_items' then
      perform 1 from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = p_id for key share;
    when 'categories' then
      perform 1 from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = p_id for key share;
    when 'staff' then
      perform 1 from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = p_id for key share;
  end case;
  delete from pos.tombstones as t
  where t.restaurant_id = p_restaurant_id and t.kind = p_kind and t.id = p_id
  returning t.version into v_version;
  return coalesce(v_version, 0) + 1;
end
$$;
comment on function pos.next_version(bigint, text, text) is 'Version of a row that is made now: 1, or the next above its tombstone.';

create or replace function pos.tg_any__truncate() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'pos.% cannot be truncated: the terminals would not hear of it', tg_table_name
    using errcode = 'RL403', hint = format('delete from pos.%I where restaurant_id = …', tg_table_name);
end
$$;
comment on function pos.tg_any__truncate() is 'Refuses TRUNCATE, which no row trigger sees.';

-- restaurants: settings

create or replace function pos.tg_restaurants__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' or new.time_zone <> old.time_zone then
    perform now() at time zone new.time_zone;
  end if;
  if tg_op = 'UPDATE' then
    if new.restaurant_id <> old.restaurant_id then
      raise exception 'restaurant_id cannot be changed' using errcode = 'RL403';
    end if;
    new.settings_version := old.settings_version;
    -- As text: 5 and 5.0 are equal in jsonb, and digits are kept.
    if new.settings::text <> old.settings::text then
      new.settings_version := old.settings_version + 1;
    end if;
  end if;
  return new;
end
$$;
comment on function pos.tg_restaurants__write() is 'Checks the time zone and counts the changes of settings.';

create or replace function pos.tg_restaurants__log() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    -- Creation is no change: revision 0.
    insert into pos.heads (restaurant_id) values (new.restaurant_id);
  elsif pos.applying() is null then
    insert into pos.staged_changes (restaurant_id, type, action, version, data)
    values (new.restaurant_id, 'UPDATE_SETTINGS', 'update', new.settings_version, new.settings);
    perform pos.await_commit();
  else
    perform pos.write_log(new.restaurant_id, 'UPDATE_SETTINGS', 'update', null, new.settings_version, new.settings);
  end if;
  return null;
end
$$;
comment on function pos.tg_restaurants__log() is 'Gives a new restaurant its head; logs changed settings.';

create or replace function pos.tg_restaurants__mark() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.count_staff(array[new.restaurant_id]);
  return null;
end
$$;
comment on function pos.tg_restaurants__mark() is 'Tells the relays of a changed complete mark.';

create or replace function pos.tg_restaurants__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  delete from pos.sync_log as l where l.restaurant_id = old.restaurant_id;
  delete from pos.tombstones as t where t.restaurant_id = old.restaurant_id;
  delete from pos.mutations as m where m.restaurant_id = old.restaurant_id;
  delete from pos.order_claims as c where c.restaurant_id = old.restaurant_id;
  delete from pos.order_replacements as r where r.restaurant_id = old.restaurant_id;
  delete from pos.order_counters as n where n.restaurant_id = old.restaurant_id;
  delete from pos.messages as m where m.restaurant_id = old.restaurant_id;
  delete from pos.app_terminals as a where a.restaurant_id = old.restaurant_id;
  delete from pos.actors as a where a.restaurant_id = old.restaurant_id;
  return null;
end
$$;
comment on function pos.tg_restaurants__delete() is 'Takes what belonged to a deleted restaurant along; its data tables must be empty already.';

create or replace trigger a_write before insert or update on pos.restaurants
  for each row execute function pos.tg_restaurants__write();
create or replace trigger b_head after insert on pos.restaurants
  for each row execute function pos.tg_restaurants__log();
create or replace trigger b_log after update on pos.restaurants
  for each row when (new.settings_version <> old.settings_version) execute function pos.tg_restaurants__log();
create or replace trigger b_mark after update on pos.restaurants
  for each row when (new.complete <> old.complete) execute function pos.tg_restaurants__mark();
create or replace trigger c_delete after delete on pos.restaurants
  for each row execute function pos.tg_restaurants__delete();
create or replace trigger d_truncate before truncate on pos.restaurants
  for each statement execute function pos.tg_any__truncate();

-- The log itself.

create or replace function pos.tg_staged_transactions__stamp() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.stamp();
  return null;
end
$$;
comment on function pos.tg_staged_transactions__stamp() is 'At the commit of plain SQL: stamps what it changed.';

do $$
begin
  -- There is no `create or replace constraint trigger`.
  if not exists (select from pg_catalog.pg_trigger where tgrelid = 'pos.staged_transactions'::regclass and tgname = 'a_stamp') then
    create constraint trigger a_stamp after insert on pos.staged_transactions
      deferrable initially deferred for each row execute function pos.tg_staged_transactions__stamp();
  end if;
end
$$;

create or replace function pos.tg_sync_log__truncate() returns trigger
language plpgsql set search_path = '' as $$
begin
  update pos.installation as i set epoch_seed = gen_random_uuid();
  update pos.heads as h set floor = h.revision + 1;
  return null;
end
$$;
comment on function pos.tg_sync_log__truncate() is 'A truncated log is another history: a new epoch, every terminal takes a snapshot.';

create or replace trigger d_truncate after truncate on pos.sync_log
  for each statement execute function pos.tg_sync_log__truncate();
-- What becomes of a row that is written: it is dropped where nothing changes, counted, and logged.

-- tables

create or replace function pos.tg_tables__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if coalesce(current_setting('pos.stamping', true), '') <> '' then
    return new;
  end if;
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'tables', new.id);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of a row cannot be changed' using errcode = 'RL403', hint = 'Insert the new row and delete the old one.';
    end if;
    -- Compared by image, not by value: 5 and 5.0 are equal, and digits are kept. What does not change is dropped here:
    -- no log row, no ring, and the statement reports one row less.
    new.version := old.version;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  if new.order_id is not null and (tg_op = 'INSERT' or new.order_id is distinct from old.order_id) then
    insert into pos.order_claims (restaurant_id, order_id, table_id, client_id)
    values (new.restaurant_id, new.order_id, new.id, pos.client_id())
    on conflict do nothing;
  end if;
  return new;
end
$$;
comment on function pos.tg_tables__write() is 'Drops what does not change, counts the version, notes which table carried which order.';

create or replace function pos.tg_tables__log() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_action constant text := case tg_op when 'INSERT' then 'add' else 'update' end;
begin
  if coalesce(current_setting('pos.stamping', true), '') <> '' then
    return null;
  end if;
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_TABLE', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.tables))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_TABLE', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.tables) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_tables__log() is 'Logs the tables that a statement made or changed.';

create or replace trigger a_write before insert or update on pos.tables
  for each row execute function pos.tg_tables__write();
create or replace trigger b_log_insert after insert on pos.tables referencing new table as changed
  for each statement execute function pos.tg_tables__log();
create or replace trigger b_log_update after update on pos.tables referencing new table as changed
  for each statement execute function pos.tg_tables__log();

-- menu_items

create or replace function pos.tg_menu_items__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'menu_items', new.id);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of a row cannot be changed' using errcode = 'RL403', hint = 'Insert the new row and delete the old one.';
    end if;
    -- Compared by image, not by value: 5 and 5.0 are equal, and digits are kept. What does not change is dropped here:
    -- no log row, no ring, and the statement reports one row less.
    new.version := old.version;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  return new;
end
$$;
comment on function pos.tg_menu_items__write() is 'Drops what does not change and counts the version.';

create or replace function pos.tg_menu_items__log() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_action constant text := case tg_op when 'INSERT' then 'add_item' else 'update_item' end;
begin
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_MENU', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.menu_items))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_MENU', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.menu_items) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_menu_items__log() is 'Logs the dishes that a statement made or changed.';

create or replace trigger a_write before insert or update on pos.menu_items
  for each row execute function pos.tg_menu_items__write();
create or replace trigger b_log_insert after insert on pos.menu_items referencing new table as changed
  for each statement execute function pos.tg_menu_items__log();
create or replace trigger b_log_update after update on pos.menu_items referencing new table as changed
  for each statement execute function pos.tg_menu_items__log();

-- categories

create or replace function pos.tg_categories__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := clock_timestamp();
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'categories', new.name);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.name) <> (old.restaurant_id, old.name) then
      raise exception 'the name of a category cannot be changed' using errcode = 'RL403',
        hint = 'Insert the new category, move the dishes to it, delete the old one.';
    end if;
    new.version := old.version + 1;
    new.created_by := old.created_by;
    if new.position = old.position then
      return null;
    end if;
  end if;
  return new;
end
$$;
comment on function pos.tg_categories__write() is 'Drops what does not change and counts the version.';

create or replace function pos.tg_categories__log() returns trigger
language plpgsql set search_path = '' as $$
begin
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_MENU', 'add_category', c.name, c.version, jsonb_build_object('name', c.name))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_MENU', 'add_category', c.name, c.version, jsonb_build_object('name', c.name) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_categories__log() is 'Logs the categories that a statement made or moved.';

create or replace trigger a_write before insert or update on pos.categories
  for each row execute function pos.tg_categories__write();
create or replace trigger b_log_insert after insert on pos.categories referencing new table as changed
  for each statement execute function pos.tg_categories__log();
create or replace trigger b_log_update after update on pos.categories referencing new table as changed
  for each statement execute function pos.tg_categories__log();

-- order_history

create or replace function pos.tg_order_history__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if coalesce(current_setting('pos.stamping', true), '') <> '' then
    return new;
  end if;
  if tg_op = 'INSERT' then
    new.version := 1;
    new.created_by := pos.client_id();
    new.revision := 0;
    if pos.applying() is null then
      -- A sale written by hand has what the terminals expect of one.
      new.created_at := coalesce(new.created_at, pos.moment_of(new.extra -> 'createdAt'), now());
      new.order_date := coalesce(new.order_date, to_char(new.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
      if not new.extra ? 'createdAt' then
        new.extra := new.extra
          || jsonb_build_object('createdAt', to_char(new.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
      end if;
    end if;
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of an order cannot be changed' using errcode = 'RL403', hint = 'Void the order and insert another.';
    end if;
    new.version := old.version;
    new.revision := old.revision;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  if pos.applying() is not null then
    -- The head is locked, and one statement changes one order: the next revision will be this row's.
    select h.revision + 1 into new.revision from pos.heads as h where h.restaurant_id = new.restaurant_id;
  end if;
  return new;
end
$$;
comment on function pos.tg_order_history__write() is 'Drops what does not change, counts the version, marks the revision.';

create or replace function pos.tg_order_history__log() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_action constant text := case tg_op when 'INSERT' then 'add' else 'update' end;
begin
  if coalesce(current_setting('pos.stamping', true), '') <> '' then
    return null;
  end if;
  if nullif(current_setting('pos.applying', true), '') is not null then
    perform pos.write_log(c.restaurant_id, 'UPDATE_ORDER', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.order_history))
    from changed as c;
    return null;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select c.restaurant_id, 'UPDATE_ORDER', v_action, c.id, c.version, pos.row_of(row(c.*)::pos.order_history) from changed as c;
  if found then
    perform pos.await_commit();
  end if;
  return null;
end
$$;
comment on function pos.tg_order_history__log() is 'Logs the orders that a statement made or changed.';

create or replace function pos.tg_order_history__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'order % is not deleted: no sale may be lost', old.id
    using errcode = 'RL403', hint = 'update pos.order_history set status = ''void'' where …';
end
$$;
comment on function pos.tg_order_history__delete() is 'Refuses to delete a sale.';

create or replace trigger a_write before insert or update on pos.order_history
  for each row execute function pos.tg_order_history__write();
create or replace trigger b_log_insert after insert on pos.order_history referencing new table as changed
  for each statement execute function pos.tg_order_history__log();
create or replace trigger b_log_update after update on pos.order_history referencing new table as changed
  for each statement execute function pos.tg_order_history__log();
create or replace trigger c_delete before delete on pos.order_history
  for each row execute function pos.tg_order_history__delete();
create or replace trigger d_truncate before truncate on pos.order_history
  for each statement execute function pos.tg_any__truncate();
-- Deletes of the other three: a tombstone, and the id for the terminals.

create or replace function pos.deleted_row(p_kind text, p_id text, p_version bigint) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  return case p_kind
    when 'categories' then jsonb_build_object('name', p_id)
    else jsonb_build_object('id', p_id, 'version', p_version)
  end;
end
$$;
comment on function pos.deleted_row(text, text, bigint) is 'What a delete carries.';

create or replace function pos.log_deletes(
  p_type text, p_action text, p_kind text, p_restaurant_ids bigint[], p_ids text[], p_versions bigint[]
) returns void
language plpgsql set search_path = '' as $$
begin
  if p_ids is null then
    return;
  end if;
  insert into pos.tombstones as t (restaurant_id, kind, id, version)
  select d.restaurant_id, p_kind, d.id, d.version from unnest(p_restaurant_ids, p_ids, p_versions) as d (restaurant_id, id, version)
  on conflict (restaurant_id, kind, id) do update
    set version = greatest(t.version, excluded.version), deleted_at = excluded.deleted_at;
  if pos.applying() is not null then
    perform pos.write_log(d.restaurant_id, p_type, p_action, d.id, d.version, pos.deleted_row(p_kind, d.id, d.version))
    from unnest(p_restaurant_ids, p_ids, p_versions) as d (restaurant_id, id, version);
    return;
  end if;
  insert into pos.staged_changes (restaurant_id, type, action, row_id, version, data)
  select d.restaurant_id, p_type, p_action, d.id, d.version, pos.deleted_row(p_kind, d.id, d.version)
  from unnest(p_restaurant_ids, p_ids, p_versions) as d (restaurant_id, id, version);
  perform pos.await_commit();
end
$$;
comment on function pos.log_deletes(text, text, text, bigint[], text[], bigint[]) is 'Logs deleted rows and leaves their tombstones.';

create or replace function pos.tg_tables__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.log_deletes('UPDATE_TABLE', 'delete', 'tables',
    array_agg(d.restaurant_id), array_agg(d.id), array_agg(d.version + 1)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_tables__delete() is 'Logs the tables that a statement deleted.';

create or replace function pos.tg_menu_items__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.log_deletes('UPDATE_MENU', 'delete_item', 'menu_items',
    array_agg(d.restaurant_id), array_agg(d.id), array_agg(d.version + 1)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_menu_items__delete() is 'Logs the dishes that a statement deleted.';

create or replace function pos.tg_categories__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.log_deletes('UPDATE_MENU', 'delete_category', 'categories',
    array_agg(d.restaurant_id), array_agg(d.name), array_agg(d.version + 1)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_categories__delete() is 'Logs the categories that a statement deleted.';

create or replace trigger c_delete after delete on pos.tables referencing old table as deleted
  for each statement execute function pos.tg_tables__delete();
create or replace trigger d_truncate before truncate on pos.tables
  for each statement execute function pos.tg_any__truncate();
create or replace trigger c_delete after delete on pos.menu_items referencing old table as deleted
  for each statement execute function pos.tg_menu_items__delete();
create or replace trigger d_truncate before truncate on pos.menu_items
  for each statement execute function pos.tg_any__truncate();
create or replace trigger c_delete after delete on pos.categories referencing old table as deleted
  for each statement execute function pos.tg_categories__delete();
create or replace trigger d_truncate before truncate on pos.categories
  for each statement execute function pos.tg_any__truncate();
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
begin
  select greatest(c.last_number, p_after) into v_number
  from pos.order_counters as c where c.restaurant_id = p_restaurant_id and c.prefix = p_prefix;
  v_number := coalesce(v_number, p_after);
  loop
    v_number := v_number + 1;
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
-- UPDATE_TABLE: the table itself, the order id that is settled with it, and lines of its open order.

create or replace function pos.moved_order_id(p_table pos.tables, p_wanted_id text, p_client_id text) returns text
language plpgsql set search_path = '' as $$
declare
  v_given_id text;
begin
  select r.given_id into v_given_id
  from pos.order_replacements as r
  join pos.tables as t on t.restaurant_id = r.restaurant_id and t.order_id = r.given_id and t.id = r.table_id
  where r.restaurant_id = p_table.restaurant_id and r.wanted_id = p_wanted_id and r.client_id = p_client_id
    and t.id <> p_table.id and t.order_items = p_table.order_items and t.order_items <> '[]'
  order by r.created_at desc limit 1;
  -- The guests take the id along that their order got at the other table.
  update pos.order_replacements as r set table_id = p_table.id
  where r.restaurant_id = p_table.restaurant_id and r.given_id = v_given_id;
  return v_given_id;
end
$$;
comment on function pos.moved_order_id(pos.tables, text, text) is 'The id that this terminal''s order, open with the same lines on another table, was given instead of the wanted one.';

create or replace function pos.settle_order_id(
  p_table pos.tables, p_current pos.tables, p_client_id text, p_moves boolean, out order_id text, out stale boolean
)
language plpgsql set search_path = '' as $$
declare
  v_wanted_id constant text := p_table.order_id;
  v_finished pos.order_history;
  v_other pos.tables;
begin
  stale := false;
  order_id := v_wanted_id;
  if p_current.order_id is distinct from v_wanted_id then
    order_id := coalesce(
      pos.replaced_order_id(p_table.restaurant_id, v_wanted_id, p_client_id, p_table.id),
      case when p_moves then pos.moved_order_id(p_table, v_wanted_id, p_client_id) end,
      v_wanted_id);
  end if;

  if not exists (select from pos.order_history as o where o.restaurant_id = p_table.restaurant_id and o.id = settle_order_id.order_id)
    and not exists (select from pos.tables as t where t.restaurant_id = p_table.restaurant_id
                    and t.order_id = settle_order_id.order_id and t.id <> p_table.id) then
    return;
  end if;
  select o.* into v_finished from pos.order_history as o
  where o.restaurant_id = p_table.restaurant_id and o.id = settle_order_id.order_id and pos.is_finished(o.status);
  if found then
    -- This table carried it: somebody edits an order that is paid. Another one did: two sales want one id. After a
    -- clear terminals begin to count anew, so then it is another sale too.
    stale := (v_finished.table_number = p_table.number
        or exists (select from pos.order_claims as c
                   where c.restaurant_id = p_table.restaurant_id and c.order_id = v_finished.id and c.table_id = p_table.id))
      and v_finished.revision > (select h.cleared_revision from pos.heads as h where h.restaurant_id = p_table.restaurant_id);
    if stale is not true then
      stale := false;
      order_id := pos.replace_order_id(p_table.restaurant_id, v_wanted_id, p_client_id, p_table.id);
    end if;
    return;
  end if;

  select t.* into v_other from pos.tables as t
  where t.restaurant_id = p_table.restaurant_id and t.order_id = settle_order_id.order_id and t.id <> p_table.id
  order by t.id limit 1 for update;
  if not found then
    return;
  end if;
  -- The same lines are the same order; where there are none yet, two terminals may have opened two with one number.
  if p_moves and coalesce(v_other.order_items, '[]') = coalesce(p_table.order_items, '[]')
    and (v_other.order_items <> '[]' or pos.has_claimed(p_table.restaurant_id, settle_order_id.order_id, p_client_id)) then
    -- The guests moved.
    update pos.tables as t
    set status = 'available', order_id = null, order_items = null, order_total = null, customer = null, reservation_time = null,
        extra = t.extra - array['orderId', 'orderItems', 'orderTotal', 'customer', 'reservationTime']
    where t.restaurant_id = v_other.restaurant_id and t.id = v_other.id;
  else
    order_id := pos.replace_order_id(p_table.restaurant_id, v_wanted_id, p_client_id, p_table.id);
  end if;
end
$$;
comment on function pos.settle_order_id(pos.tables, pos.tables, text, boolean) is 'Which order id a table gets for the one it wants; stale when that order is paid. p_moves: an open order with the same lines moves here.';

create or replace function pos.store_table(p_row pos.tables, p_exists boolean) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_version bigint;
begin
  if p_exists then
    update pos.tables as t
    set (number, seats, status, order_id, reservation_time, customer, order_items, order_total, extra)
      = row(p_row.number, p_row.seats, p_row.status, p_row.order_id, p_row.reservation_time, p_row.customer,
            p_row.order_items, p_row.order_total, p_row.extra)
    where t.restaurant_id = p_row.restaurant_id and t.id = p_row.id
    returning t.version into v_version;
    -- No row came back: nothing had to change.
    return pos.done(p_row.restaurant_id, coalesce(v_version, p_row.version));
  end if;
  insert into pos.tables (restaurant_id, id, number, seats, status, order_id, reservation_time, customer, order_items, order_total, extra)
  values (p_row.restaurant_id, p_row.id, p_row.number, p_row.seats, p_row.status, p_row.order_id, p_row.reservation_time,
          p_row.customer, p_row.order_items, p_row.order_total, p_row.extra)
  returning version into v_version;
  return pos.done(p_row.restaurant_id, v_version);
end
$$;
comment on function pos.store_table(pos.tables, boolean) is 'Writes a table that is settled.';

create or replace function pos.mutate_table(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_action text := p_action;
  v_current pos.tables;
  v_new pos.tables;
  v_exists boolean;
  v_missing text;
  v_holder pos.tables;
  v_free bigint;
  v_stale boolean;
begin
  if coalesce(p_action, '') not in ('add', 'add_apart', 'update', 'update_apart', 'delete', 'delete_apart', 'add_items', 'update_item', 'void_item') then
    return pos.unknown_action('UPDATE_TABLE', p_action);
  end if;
  select t.* into v_current from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = v_id for update;
  v_exists := found;
  if p_action like '%_apart' then
    v_action := regexp_replace(p_action, '_apart$', '');
    if v_action = 'add' and v_exists and v_current.created_by <> p_client_id then
      v_id := pos.id_apart(p_restaurant_id, 'tables', v_id);
      v_exists := false;
      v_current := null;
    end if;
  end if;
  if v_action = 'delete' and not v_exists then
    if p_action = 'delete_apart' then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_TABLE', v_action, 'tables', v_id);
    end if;
    return pos.done(p_restaurant_id, null);
  end if;
  if not v_exists and v_action <> 'add' and pos.is_deleted(p_restaurant_id, 'tables', v_id) then
    return pos.refused('GONE', format('table %s was deleted; add it to make it again', v_id), 'id');
  end if;
  if p_if_version <> coalesce(v_current.version, 0) then
    return pos.conflict(format('table %s has version %s', v_id, coalesce(v_current.version, 0)), 'ifVersion', pos.row_of(v_current));
  end if;
  if v_action = 'delete' then
    delete from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = v_id;
    return pos.done(p_restaurant_id, v_current.version + 1);
  end if;
  if p_action in ('add_items', 'update_item', 'void_item') then
    if not v_exists then
      return pos.refused('VALIDATION', format('there is no table %s', v_id), 'id');
    end if;
    return pos.mutate_lines(v_current, p_client_id, p_action, p_body);
  end if;

  if not v_exists and not p_body ?& array['number', 'seats', 'status'] then
    v_missing := pos.missing_field(p_body, array['number', 'seats', 'status']);
    return pos.refused('VALIDATION', format('%s is required to make a table', v_missing), v_missing);
  end if;
  v_new := v_current;
  v_new.restaurant_id := p_restaurant_id;
  v_new.id := v_id;
  v_new.number := coalesce((p_body ->> 'number')::numeric::integer, v_current.number);
  v_new.seats := coalesce((p_body ->> 'seats')::numeric::integer, v_current.seats);
  v_new.status := coalesce(p_body ->> 'status', v_current.status);
  v_new.order_id := nullif(p_body ->> 'orderId', '');
  v_new.reservation_time := p_body ->> 'reservationTime';
  v_new.customer := nullif(p_body -> 'customer', 'null');
  v_new.order_items := pos.lines_of(p_body -> 'orderItems');
  v_new.order_total := (p_body ->> 'orderTotal')::numeric;
  v_new.extra := pos.extra_of(p_body,
    array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'],
    array['orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal']);
  if p_body ->> 'orderId' = '' then
    v_new.extra := v_new.extra || '{"orderId": ""}';
  end if;

  if v_new.number is distinct from v_current.number then
    select t.* into v_holder from pos.tables as t
    where t.restaurant_id = p_restaurant_id and t.number = v_new.number and t.id <> v_id;
  end if;
  if v_holder.id is not null then
    select n.number::bigint + 1 into v_free
    from pos.tables as n
    where n.restaurant_id = p_restaurant_id and n.number >= v_new.number
      and not exists (select from pos.tables as t where t.restaurant_id = p_restaurant_id and t.number = n.number::bigint + 1)
    order by n.number limit 1;
    if v_action <> 'add' or v_exists or p_mutation_id is not null or v_free > 2147483647 then
      return pos.conflict(format('number %s is taken by table %s', v_new.number, v_holder.id), 'number',
                          pos.row_of(case when v_exists then v_current else v_holder end));
    end if;
    v_new.number := v_free;
  end if;
  if v_new.order_id is not null then
    select s.order_id, s.stale into v_new.order_id, v_stale from pos.settle_order_id(v_new, v_current, p_client_id, p_action not like '%_apart') as s;
    if v_stale then
      return pos.conflict(format('order %s is finished', v_new.order_id), 'orderId', pos.row_of(v_current));
    end if;
  end if;
  return pos.store_table(v_new, v_exists);
end
$$;
comment on function pos.mutate_table(bigint, text, text, text, jsonb, bigint) is 'UPDATE_TABLE. add_apart, update_apart and delete_apart are the web app''s, whose terminals choose ids without knowing of each other: a table id that another one made is another table''s, an order id that is open elsewhere another order''s.';

create or replace function pos.merged_lines(p_lines jsonb, p_action text, p_items jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with given as (
    -- A line that is named twice gets the fields of both; of a field given twice, the later one.
    select i.item ->> 'id' as id, min(i.place) as place, jsonb_object_agg(f.key, f.value order by i.place) as item
    from jsonb_array_elements(p_items) with ordinality as i (item, place)
    cross join lateral jsonb_each(i.item) as f
    group by i.item ->> 'id'
  ), kept as (
    select l.place, case when g.id is null then l.line else l.line || g.item end as line
    from jsonb_array_elements(p_lines) with ordinality as l (line, place)
    left join given as g on g.id = l.line ->> 'id'
    where g.id is null or p_action <> 'void_item'
  ), added as (
    select g.place, g.item as line
    from given as g
    where p_action = 'add_items'
      and not exists (select from jsonb_array_elements(p_lines) as l (line) where l.line ->> 'id' = g.id)
  )
  select coalesce(jsonb_agg(a.line order by a.added, a.place), '[]')
  from (select k.line, k.place, false as added from kept as k union all select d.line, d.place, true from added as d) as a;
$$;
comment on function pos.merged_lines(jsonb, text, jsonb) is 'Lines of an order after add_items, update_item or void_item; a line is known by its id.';

create or replace function pos.mutate_lines(p_current pos.tables, p_client_id text, p_action text, p_body jsonb) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_new pos.tables := p_current;
  v_lines constant jsonb := coalesce(p_current.order_items, '[]');
  v_wanted_id constant text := nullif(p_body ->> 'orderId', '');
  v_merged jsonb;
  v_unknown text;
  v_stale boolean;
begin
  -- Lines meant for an order that is no longer the one on the table must not land on the next guests' bill,
  if v_wanted_id <> p_current.order_id
    and pos.replaced_order_id(p_current.restaurant_id, v_wanted_id, p_client_id, p_current.id) is distinct from p_current.order_id then
    return pos.conflict(format('order %s is not the one open on table %s', v_wanted_id, p_current.id), 'orderId',
                        pos.row_of(p_current));
  end if;
  -- nor on a bill that is paid.
  if exists (select from pos.order_history as o where o.restaurant_id = p_current.restaurant_id
             and o.id = p_current.order_id and pos.is_finished(o.status)) then
    return pos.conflict(format('order %s is finished', p_current.order_id), 'orderId', pos.row_of(p_current));
  end if;
  if p_action = 'update_item' then
    select i.item ->> 'id' into v_unknown from jsonb_array_elements(p_body -> 'items') as i (item)
    where not exists (select from jsonb_array_elements(v_lines) as l (line) where l.line ->> 'id' = i.item ->> 'id') limit 1;
    if found then
      return pos.conflict(format('table %s has no line %s', p_current.id, v_unknown), 'items', pos.row_of(p_current));
    end if;
  end if;
  v_merged := pos.merged_lines(v_lines, p_action, p_body -> 'items');
  if v_merged::text <> v_lines::text then
    v_new.order_items := v_merged;
    v_new.order_total := pos.total_of(v_new.order_items, p_current.order_total);
    v_new.extra := p_current.extra - array['orderItems', 'orderTotal'];
    if v_new.status = 'available' and p_action = 'add_items' then
      v_new.status := 'occupied';
    end if;
  end if;
  if p_action = 'add_items' and p_current.order_id is null and v_wanted_id is not null then
    v_new.order_id := v_wanted_id;
    v_new.extra := v_new.extra - 'orderId';
    select s.order_id, s.stale into v_new.order_id, v_stale from pos.settle_order_id(v_new, p_current, p_client_id, true) as s;
    if v_stale then
      return pos.conflict(format('order %s is finished', v_wanted_id), 'orderId', pos.row_of(p_current));
    end if;
  end if;
  return pos.store_table(v_new, true);
end
$$;
comment on function pos.mutate_lines(pos.tables, text, text, jsonb) is 'UPDATE_TABLE add_items, update_item, void_item: merges lines of the open order and sums them up.';
-- UPDATE_MENU: dishes and categories.

create or replace function pos.mutate_menu(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_action text := p_action;
  v_current pos.menu_items;
  v_exists boolean;
  v_missing text;
  v_version bigint;
begin
  if p_action = 'delete_category_apart' then
    v_id := p_body ->> 'name';
    if not exists (select from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = v_id) then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_MENU', 'delete_category', 'categories', v_id);
    end if;
    return pos.mutate_category(p_restaurant_id, 'delete_category', v_id, p_if_version);
  end if;
  if p_action in ('add_category', 'delete_category') then
    return pos.mutate_category(p_restaurant_id, p_action, p_body ->> 'name', p_if_version);
  end if;
  if coalesce(p_action, '') not in ('add_item', 'add_item_apart', 'update_item', 'delete_item', 'delete_item_apart') then
    return pos.unknown_action('UPDATE_MENU', p_action);
  end if;
  select m.* into v_current from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = v_id for update;
  v_exists := found;
  if p_action like '%_apart' then
    v_action := regexp_replace(p_action, '_apart$', '');
    if v_action = 'add_item' and v_exists and v_current.created_by <> p_client_id then
      v_id := pos.id_apart(p_restaurant_id, 'menu_items', v_id);
      v_exists := false;
      v_current := null;
    end if;
  end if;
  if v_action = 'delete_item' and not v_exists then
    if p_action = 'delete_item_apart' then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_MENU', v_action, 'menu_items', v_id);
    end if;
    return pos.done(p_restaurant_id, null);
  end if;
  if not v_exists and v_action <> 'add_item' and pos.is_deleted(p_restaurant_id, 'menu_items', v_id) then
    return pos.refused('GONE', format('dish %s was deleted; add it to make it again', v_id), 'id');
  end if;
  if p_if_version <> coalesce(v_current.version, 0) then
    return pos.conflict(format('dish %s has version %s', v_id, coalesce(v_current.version, 0)), 'ifVersion', pos.row_of(v_current));
  end if;
  if v_action = 'delete_item' then
    delete from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = v_id;
    return pos.done(p_restaurant_id, v_current.version + 1);
  end if;

  v_missing := pos.missing_field(p_body, array['name', 'price', 'category', 'description']);
  if not v_exists and v_missing is not null then
    return pos.refused('VALIDATION', format('%s is required to make a dish', v_missing), v_missing);
  end if;
  v_current.name := coalesce(p_body ->> 'name', v_current.name);
  v_current.price := coalesce((p_body ->> 'price')::numeric, v_current.price);
  v_current.category := coalesce(p_body ->> 'category', v_current.category);
  v_current.description := coalesce(p_body ->> 'description', v_current.description);
  v_current.image := p_body ->> 'image';
  v_current.extra := pos.extra_of(p_body, array['id', 'name', 'price', 'category', 'description', 'image'], array['image']);
  if v_exists then
    update pos.menu_items as m
    set (name, price, category, description, image, extra)
      = row(v_current.name, v_current.price, v_current.category, v_current.description, v_current.image, v_current.extra)
    where m.restaurant_id = p_restaurant_id and m.id = v_id
    returning m.version into v_version;
    return pos.done(p_restaurant_id, coalesce(v_version, v_current.version));
  end if;
  insert into pos.menu_items (restaurant_id, id, name, price, category, description, image, extra)
  values (p_restaurant_id, v_id, v_current.name, v_current.price, v_current.category, v_current.description,
          v_current.image, v_current.extra)
  returning version into v_version;
  return pos.done(p_restaurant_id, v_version);
end
$$;
comment on function pos.mutate_menu(bigint, text, text, text, jsonb, bigint) is 'UPDATE_MENU. add_item_apart is an add of the web app: an id that another terminal made is another dish''s.';

create or replace function pos.mutate_category(p_restaurant_id bigint, p_action text, p_name text, p_if_version bigint) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_version bigint;
begin
  select c.version into v_version from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = p_name for update;
  if p_if_version <> coalesce(v_version, 0) and not (p_action = 'delete_category' and v_version is null) then
    return pos.conflict(format('category %s has version %s', p_name, coalesce(v_version, 0)), 'ifVersion',
                        case when v_version is not null then jsonb_build_object('name', p_name, 'version', v_version) end);
  end if;
  if p_action = 'delete_category' then
    delete from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = p_name;
    return pos.done(p_restaurant_id, v_version + 1);
  end if;
  if v_version is null then
    insert into pos.categories (restaurant_id, name) values (p_restaurant_id, p_name) returning version into v_version;
  end if;
  return pos.done(p_restaurant_id, v_version);
end
$$;
comment on function pos.mutate_category(bigint, text, text, bigint) is 'UPDATE_MENU add_category and delete_category.';
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
-- UPDATE_USERS, and what else only the web app's sessions need: its users, what each terminal has seen, ids apart.

create or replace function pos.row_of(p_row pos.staff) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return p_row.data || jsonb_build_object('id', p_row.id);
end
$$;
comment on function pos.row_of(pos.staff) is 'A user as the app sees it, without the password.';

create or replace function pos.tg_staff__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    new.version := pos.next_version(new.restaurant_id, 'staff', new.id);
    new.created_by := pos.client_id();
  else
    if (new.restaurant_id, new.id) <> (old.restaurant_id, old.id) then
      raise exception 'the id of a row cannot be changed' using errcode = 'RL403', hint = 'Insert the new row and delete the old one.';
    end if;
    new.version := old.version;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.updated_at := old.updated_at;
    if new *= old then
      return null;
    end if;
    new.version := old.version + 1;
  end if;
  new.updated_by := pos.client_id();
  new.updated_at := clock_timestamp();
  return new;
end
$$;
comment on function pos.tg_staff__write() is 'Drops what does not change and counts the version.';

create or replace function pos.tg_staff__count() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.count_staff(array_agg(distinct c.restaurant_id)) from changed as c;
  return null;
end
$$;
comment on function pos.tg_staff__count() is 'Tells the relays of changed users.';

create or replace function pos.tg_staff__delete() returns trigger
language plpgsql set search_path = '' as $$
begin
  insert into pos.tombstones as t (restaurant_id, kind, id, version)
  select d.restaurant_id, 'staff', d.id, d.version + 1 from deleted as d
  on conflict (restaurant_id, kind, id) do update
    set version = greatest(t.version, excluded.version), deleted_at = excluded.deleted_at;
  perform pos.count_staff(array_agg(distinct d.restaurant_id)) from deleted as d;
  return null;
end
$$;
comment on function pos.tg_staff__delete() is 'Leaves tombstones of deleted users, who are never revived by an add, and tells the relays.';

create or replace trigger a_write before insert or update on pos.staff
  for each row execute function pos.tg_staff__write();
create or replace trigger b_count_insert after insert on pos.staff referencing new table as changed
  for each statement execute function pos.tg_staff__count();
create or replace trigger b_count_update after update on pos.staff referencing new table as changed
  for each statement execute function pos.tg_staff__count();
create or replace trigger c_delete after delete on pos.staff referencing old table as deleted
  for each statement execute function pos.tg_staff__delete();
create or replace trigger d_truncate before truncate on pos.staff
  for each statement execute function pos.tg_any__truncate();

create or replace function pos.delete_unknown(p_restaurant_id bigint, p_type text, p_action text, p_kind text, p_id text) returns void
language plpgsql set search_path = '' as $$
begin
  if pos.is_deleted(p_restaurant_id, p_kind, p_id)
    or exists (select from pos.restaurants as r where r.restaurant_id = p_restaurant_id and r.complete) then
    return;
  end if;
  if p_kind = 'staff' then
    insert into pos.tombstones (restaurant_id, kind, id, version) values (p_restaurant_id, p_kind, p_id, 1);
    perform pos.count_staff(array[p_restaurant_id]);
  else
    perform pos.log_deletes(p_type, p_action, p_kind, array[p_restaurant_id], array[p_id], array[1::bigint]);
  end if;
end
$$;
comment on function pos.delete_unknown(bigint, text, text, text, text) is 'Where this database does not hold all lists, a row that it does not know may be in every browser: its delete is told and remembered.';

create or replace function pos.id_apart(p_restaurant_id bigint, p_kind text, p_id text) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_parts constant text[] := coalesce(regexp_match(p_id, '^(.*?)([0-9]{1,15})$'), array[left(p_id, 110) || '-', '1']);
  v_number bigint := v_parts[2]::bigint;
  v_id text;
begin
  loop
    v_number := v_number + 1;
    v_id := left(v_parts[1], 110) || lpad(v_number::text, greatest(length(v_parts[2]), length(v_number::text)), '0');
    exit when not pos.is_deleted(p_restaurant_id, p_kind, v_id) and not case p_kind
      when 'tables' then exists (select from pos.tables as t where t.restaurant_id = p_restaurant_id and t.id = v_id)
      when 'menu_items' then exists (select from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = v_id)
      when 'staff' then exists (select from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_id)
    end;
  end loop;
  return v_id;
end
$$;
comment on function pos.id_apart(bigint, text, text) is 'The next free id of the same form as one that two terminals made in the same millisecond.';

create or replace function pos.mutate_staff(p_restaurant_id bigint, p_client_id text, p_action text, p_body jsonb) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_data constant jsonb := p_body - array['id', 'password'];
  v_current pos.staff;
  v_exists boolean;
begin
  if coalesce(p_action, '') not in ('add', 'update', 'delete') then
    return pos.unknown_action('UPDATE_USERS', p_action);
  end if;
  select s.* into v_current from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_id for update;
  v_exists := found;
  if p_action = 'delete' then
    if not v_exists then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_USERS', p_action, 'staff', v_id);
    end if;
    delete from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_id;
    return pos.done(p_restaurant_id, v_current.version + 1);
  end if;
  if p_action = 'add' then
    -- Every fresh browser announces the three default users: an add never overwrites a user and never revives one.
    if pos.is_deleted(p_restaurant_id, 'staff', v_id)
      or (v_exists and (v_current.created_by = p_client_id
                        or (v_id, p_body ->> 'username') in (('1', 'admin'), ('2', 'cashier'), ('3', 'waiter')))) then
      return pos.done(p_restaurant_id, v_current.version);
    end if;
    if v_exists then
      v_id := pos.id_apart(p_restaurant_id, 'staff', v_id);
      v_exists := false;
    end if;
  elsif not v_exists and pos.is_deleted(p_restaurant_id, 'staff', v_id) then
    return pos.refused('GONE', format('user %s was deleted', v_id), 'id');
  end if;
  if v_exists then
    update pos.staff as s set data = s.data || v_data, announced = false, password = coalesce(p_body ->> 'password', s.password)
    where s.restaurant_id = p_restaurant_id and s.id = v_id;
    return pos.done(p_restaurant_id, null);
  end if;
  if not p_body ? 'username' then
    return pos.refused('VALIDATION', 'username is required to make a user', 'username');
  end if;
  insert into pos.staff (restaurant_id, id, data, password, announced)
  values (p_restaurant_id, v_id, v_data, p_body ->> 'password',
          p_action = 'add' and (v_id, p_body ->> 'username') in (('1', 'admin'), ('2', 'cashier'), ('3', 'waiter')));
  return pos.done(p_restaurant_id, 1);
end
$$;
comment on function pos.mutate_staff(bigint, text, text, jsonb) is 'UPDATE_USERS: add, update, delete.';

create or replace function pos.read_staff(p_restaurant_id bigint)
returns table (staff bigint, complete boolean, id text, version bigint, updated_by text, data text, password text)
language sql stable set search_path = '' as $$
  select h.staff, r.complete, s.id, s.version, s.updated_by, pos.row_of(s)::text, s.password
  from pos.heads as h
  join pos.restaurants as r on r.restaurant_id = h.restaurant_id
  left join pos.staff as s on s.restaurant_id = h.restaurant_id
  where h.restaurant_id = p_restaurant_id
  order by length(s.id), s.id;
$$;
comment on function pos.read_staff(bigint) is 'The users of a restaurant with the count they were read at; one row without a user where there is none.';

create or replace function pos.seal_password(p_restaurant_id bigint, p_id text, p_readable text, p_sealed text) returns void
language sql set search_path = '' as $$
  update pos.staff as s set password = p_sealed
  where s.restaurant_id = p_restaurant_id and s.id = p_id and s.password = p_readable;
$$;
comment on function pos.seal_password(bigint, text, text, text) is 'Puts a sealed password in place of a readable one, unless it was changed meanwhile.';

create or replace function pos.meet_terminal(p_restaurant_id bigint, p_client_id text) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_revision bigint;
begin
  select a.revision into v_revision from pos.app_terminals as a
  where a.restaurant_id = p_restaurant_id and a.client_id = p_client_id;
  insert into pos.app_terminals (restaurant_id, client_id) values (p_restaurant_id, p_client_id)
  on conflict (restaurant_id, client_id) do update set seen_at = now();
  return v_revision;
end
$$;
comment on function pos.meet_terminal(bigint, text) is 'Notes that a terminal of the web app is here; the revision it has certainly seen, null where it was never here.';

create or replace function pos.note_terminals(p_restaurant_ids bigint[], p_client_ids text[], p_revisions bigint[]) returns void
language sql set search_path = '' as $$
  update pos.app_terminals as a set revision = n.revision, seen_at = now()
  from unnest(p_restaurant_ids, p_client_ids, p_revisions) as n (restaurant_id, client_id, revision)
  where a.restaurant_id = n.restaurant_id and a.client_id = n.client_id;
$$;
comment on function pos.note_terminals(bigint[], text[], bigint[]) is 'Notes what terminals of the web app have certainly seen.';

create or replace function pos.expect_renamed(p_restaurant_id bigint, p_client_id text) returns void
language sql set search_path = '' as $$
  -- Below every clear: its next state comes after one, or it would keep the sale under both ids.
  update pos.app_terminals as a set revision = -1 where a.restaurant_id = p_restaurant_id and a.client_id = p_client_id;
$$;
comment on function pos.expect_renamed(bigint, text) is 'An order of this terminal was stored under another id; its socket may be gone before it hears of that.';
-- Who may come in: enrolled terminals by the hash of their token, and what each role may change.

create or replace function pos.may(p_role text, p_type text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  return case p_role
    when 'manager' then true
    -- All other mutations, those that are yet to come among them, are a manager's.
    when 'terminal' then p_type in ('UPDATE_TABLE', 'UPDATE_ORDER', 'NEXT_ORDER_ID', 'MESSAGE', 'USER_LOGIN', 'USER_LOGOUT',
                                    'SESSION_UPDATE', 'SESSION_SYNC', 'REFRESH_SESSIONS')
    else false
  end;
end
$$;
comment on function pos.may(text, text) is 'Whether a terminal of this role may ask for this mutation; a display may for none.';

create or replace function pos.find_terminals(p_token_hashes bytea[])
returns table (token_hash bytea, restaurant_id bigint, slug text, name text, role text, staff bigint)
language sql stable set search_path = '' as $$
  select t.token_hash, t.restaurant_id, r.slug, t.name, t.role, h.staff
  from pos.terminals as t
  join pos.restaurants as r on r.restaurant_id = t.restaurant_id
  join pos.heads as h on h.restaurant_id = t.restaurant_id
  where t.token_hash = any (p_token_hashes) and t.revoked_at is null;
$$;
comment on function pos.find_terminals(bytea[]) is 'Whose tokens these are, by their hashes; with the count that tells of later changes.';

create or replace function pos.read_terminals(p_restaurant_ids bigint[])
returns table (restaurant_id bigint, token_hash bytea, role text)
language sql stable set search_path = '' as $$
  select t.restaurant_id, t.token_hash, t.role
  from pos.terminals as t
  where t.restaurant_id = any (p_restaurant_ids) and t.revoked_at is null;
$$;
comment on function pos.read_terminals(bigint[]) is 'The tokens, as hashes, that are good in these restaurants.';

create or replace function pos.tg_terminals__write() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.restaurant_id <> old.restaurant_id then
    raise exception 'a terminal cannot be moved to another restaurant' using errcode = 'RL403', hint = 'Revoke it, and enrol it there.';
  end if;
  return case when new *= old then null else new end;
end
$$;
comment on function pos.tg_terminals__write() is 'Drops what does not change, and keeps a token in its restaurant.';

create or replace function pos.tg_terminals__count() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pos.count_staff(array_agg(distinct c.restaurant_id)) from changed as c;
  return null;
end
$$;
comment on function pos.tg_terminals__count() is 'Tells the relays to look whether the tokens of their terminals are still good.';

create or replace trigger a_write before update on pos.terminals
  for each row execute function pos.tg_terminals__write();
create or replace trigger b_count_update after update on pos.terminals referencing new table as changed
  for each statement execute function pos.tg_terminals__count();
create or replace trigger c_count_delete after delete on pos.terminals referencing old table as changed
  for each statement execute function pos.tg_terminals__count();
create or replace trigger d_truncate before truncate on pos.terminals
  for each statement execute function pos.tg_any__truncate();
-- The short way of a batch: what most mutations are (a table that is known is saved again, a new sale is stored) is done
-- for all restaurants of the batch in one statement, and the rest of it one by one. What comes of it is the same as one
-- after the other: tests/sql/test_sets.py compares the two.
--
-- A statement takes what does not depend on each other. So each restaurant's mutations are cut into rounds, in their
-- order: a round ends before a row, an order id or a mutation id comes a second time. Round n of all restaurants is done
-- together. Whether a mutation is as simple as it looks is only seen in the rows; where one of a restaurant's round is
-- not, the whole round is done one by one.
--
-- `offset 0` inside an `exists`: otherwise the planner may read all of the ledger once, to look into it by hash.

create or replace function pos.plan_rounds(
  p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[], p_bodies text[],
  p_if_versions bigint[], p_roles text[], out places integer[], out rounds integer[], out kinds text[], out bodies jsonb[]
)
language plpgsql stable set search_path = '' as $$
begin
  select array_agg(r.place order by r.round, r.restaurant_id, r.place), array_agg(r.round order by r.round, r.restaurant_id, r.place),
         array_agg(r.kind order by r.round, r.restaurant_id, r.place), array_agg(r.body order by r.place)
  into places, rounds, kinds, bodies
  from (
    select c.place, c.restaurant_id, c.kind, c.body,
           sum(c.starts::integer) over (partition by c.restaurant_id order by c.place)::integer as round
    from (
      select k.place, k.restaurant_id, k.kind, k.body,
             k.kind is distinct from lag(k.kind) over (partition by k.restaurant_id order by k.place)
             or (k.kind <> 'one' and (
               -- By hash: where two are equal by chance, a round is shorter than it could be.
               row_number() over (partition by k.row_hash order by k.place) > 1
               or (k.order_hash is not null and row_number() over (partition by k.order_hash order by k.place) > 1)
               or (k.mutation_hash is not null and row_number() over (partition by k.mutation_hash order by k.place) > 1)
             )) as starts
      from (
        select m.place::integer, m.restaurant_id, m.body,
               case
                 when m.if_version is not null or jsonb_typeof(m.body) <> 'object' or not pos.may(coalesce(m.role, 'manager'), m.type) then 'one'
                 when m.type = 'UPDATE_TABLE' and m.action in ('add', 'update', 'update_apart') then 'table'
                 when m.type = 'UPDATE_ORDER' and m.action = 'add' then 'order'
                 else 'one'
               end as kind,
               hashtextextended(m.type || ' ' || coalesce(m.body ->> 'id', ''), m.restaurant_id) as row_hash,
               hashtextextended(case m.type when 'UPDATE_TABLE' then nullif(m.body ->> 'orderId', '') else m.body ->> 'id' end,
                                m.restaurant_id) as order_hash,
               hashtextextended(m.client_id || ' ' || m.mutation_id, m.restaurant_id) as mutation_hash
        from (
          select b.place, b.restaurant_id, b.client_id, b.mutation_id, b.type, b.action, b.if_version, p_roles[b.place] as role,
                 b.body::jsonb - array['version', 'revision', 'action'] as body
          from unnest(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions) with ordinality
            as b (restaurant_id, client_id, mutation_id, type, action, body, if_version, place)
        ) as m
      ) as k
    ) as c
  ) as r;
end
$$;
comment on function pos.plan_rounds(bigint[], text[], text[], text[], text[], text[], bigint[], text[]) is 'Cuts a batch into rounds; the places of its mutations in the order they are done, with the round and the kind of each (table, order, or one: never in a set), and the bodies in the order they came.';

create or replace function pos.apply_tables(
  p_places integer[], p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[],
  p_texts text[], p_bodies jsonb[], out places integer[], out revisions bigint[], out versions bigint[]
)
language plpgsql set search_path = '' as $$
begin
  with known as materialized (
    select g.place, g.restaurant_id, g.client_id, g.mutation_id, g.type, g.action, g.text, g.body, h.revision as head,
           count(*) over (partition by g.restaurant_id) as given
    from (
      select x.place, p_restaurant_ids[x.place] as restaurant_id, p_client_ids[x.place] as client_id,
             p_mutation_ids[x.place] as mutation_id, p_types[x.place] as type, p_actions[x.place] as action,
             p_texts[x.place] as text, p_bodies[x.place] as body
      from unnest(p_places) as x (place)
    ) as g
    join pos.heads as h on h.restaurant_id = g.restaurant_id
  ), found as materialized (
    select k.*, t.id, t.version, t.number, t.extra as old_extra, t.order_id as old_order_id, t.order_items as old_order_items,
           t.seats as old_seats, t.status as old_status, t.reservation_time as old_reservation_time,
           t.customer as old_customer, t.order_total as old_order_total, t.created_by,
           (k.body ->> 'number')::numeric::integer as new_number,
           coalesce((k.body ->> 'seats')::numeric::integer, t.seats) as seats,
           coalesce(k.body ->> 'status', t.status) as status,
           nullif(k.body ->> 'orderId', '') as order_id,
           k.body ->> 'reservationTime' as reservation_time,
           nullif(k.body -> 'customer', 'null') as customer,
           case jsonb_typeof(k.body -> 'orderItems') when 'array' then k.body -> 'orderItems'
             when 'string' then (k.body ->> 'orderItems')::jsonb end as order_items,
           (k.body ->> 'orderTotal')::numeric as order_total,
           case when k.text not like '%null%' then
             k.body - array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal']
           else
             pos.extra_of(k.body,
               array['id', 'number', 'seats', 'status', 'orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'],
               array['orderId', 'reservationTime', 'customer', 'orderItems', 'orderTotal'])
           end || case when k.body ->> 'orderId' = '' then '{"orderId": ""}' else '{}' end::jsonb as extra
    from known as k
    join pos.tables as t on t.restaurant_id = k.restaurant_id and t.id = k.body ->> 'id'
    where k.mutation_id is null or not exists (
      select from pos.mutations as m
      where m.restaurant_id = k.restaurant_id and m.client_id = k.client_id and m.mutation_id = k.mutation_id offset 0)
    for update of t
  ), decided as materialized (
    select f.*,
      -- By image, as in tg_tables__write. Between two rows the operator *<> would compare column by column.
      record_image_ne(
        row(f.seats, f.status, f.order_id, f.reservation_time, f.customer, f.order_items, f.order_total, f.extra),
        row(f.old_seats, f.old_status, f.old_order_id, f.old_reservation_time, f.old_customer, f.old_order_items,
            f.old_order_total, f.old_extra)) as changes,
      f.given = count(*) over (partition by f.restaurant_id) and bool_and(
        coalesce(f.new_number, f.number) = f.number
        and (f.order_id is null or (
          -- Nobody else's, not paid, and never replaced by another: then it is the order id that the table gets.
          not exists (select from pos.order_history as o
                      where o.restaurant_id = f.restaurant_id and o.id = f.order_id and o.status in ('completed', 'void') offset 0)
          and not exists (select from pos.tables as n
                          where n.restaurant_id = f.restaurant_id and n.order_id = f.order_id and n.id <> f.id offset 0)
          and (f.order_id = f.old_order_id or not exists (
            select from pos.order_replacements as r where r.restaurant_id = f.restaurant_id and r.wanted_id = f.order_id offset 0))))
      ) over (partition by f.restaurant_id) as simple
    from found as f
  ), numbered as materialized (
    select d.*, d.head + sum(d.changes::integer) over (partition by d.restaurant_id order by d.place) as revision,
           d.version + d.changes::integer as new_version
    from decided as d where d.simple
  ), counted as (
    update pos.heads as h set revision = c.revision
    from (select n.restaurant_id, max(n.revision) as revision from numbered as n where n.changes group by n.restaurant_id) as c
    where h.restaurant_id = c.restaurant_id
    returning pg_notify('pos_doorbell', h.restaurant_id::text)
  ), written as (
    update pos.tables as t
    set (seats, status, order_id, reservation_time, customer, order_items, order_total, extra, version, updated_by, updated_at)
      = row(n.seats, n.status, n.order_id, n.reservation_time, n.customer, n.order_items, n.order_total, n.extra,
            n.new_version, n.client_id, clock_timestamp())
    from numbered as n
    where n.changes and t.restaurant_id = n.restaurant_id and t.id = n.id
  ), claimed as (
    insert into pos.order_claims (restaurant_id, order_id, table_id, client_id)
    select n.restaurant_id, n.order_id, n.id, n.client_id from numbered as n
    where n.changes and n.order_id is distinct from n.old_order_id and n.order_id is not null
    on conflict do nothing
  ), logged as (
    insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
    select l.restaurant_id, l.revision, l.type, 'update', l.id, l.new_version, l.data, octet_length(l.data::text), l.client_id
    from (
      select n.restaurant_id, n.revision, n.type, n.id, n.new_version, n.client_id,
             pos.row_of(row(n.restaurant_id, n.id, n.number, n.seats, n.status, n.order_id, n.reservation_time, n.customer,
                            n.order_items, n.order_total, n.extra, n.new_version, '', '', null)::pos.tables) as data
      from numbered as n where n.changes offset 0
    ) as l
  ), remembered as (
    insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision, version)
    select n.restaurant_id, n.client_id, n.mutation_id, pos.body_hash(n.type, n.action, null, n.body), n.revision, n.new_version
    from numbered as n where n.mutation_id is not null
  )
  select array_agg(n.place), array_agg(n.revision), array_agg(n.new_version) into places, revisions, versions from numbered as n;
end
$$;
comment on function pos.apply_tables(integer[], bigint[], text[], text[], text[], text[], text[], jsonb[]) is 'One round of saved tables, each restaurant''s only where all of them are simple; which were done, and their answers.';

create or replace function pos.apply_orders(
  p_places integer[], p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[],
  p_bodies jsonb[], out places integer[], out revisions bigint[], out versions bigint[]
)
language plpgsql set search_path = '' as $$
begin
  with decided as materialized (
    select g.*, h.revision as head,
      bool_and(
        g.body ?& array['tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items']
        and (g.mutation_id is null or not exists (
          select from pos.mutations as m
          where m.restaurant_id = g.restaurant_id and m.client_id = g.client_id and m.mutation_id = g.mutation_id offset 0))
        -- A new id, which nobody has for another sale.
        and not exists (select from pos.order_history as o where o.restaurant_id = g.restaurant_id and o.id = g.body ->> 'id' offset 0)
        and not exists (select from pos.order_replacements as r where r.restaurant_id = g.restaurant_id and r.wanted_id = g.body ->> 'id' offset 0)
        and not exists (
          select from pos.tables as t where t.restaurant_id = g.restaurant_id and t.order_id = g.body ->> 'id'
            and t.number is distinct from (g.body ->> 'tableNumber')::numeric::integer offset 0)
      ) over (partition by g.restaurant_id) as simple
    from (
      select x.place, p_restaurant_ids[x.place] as restaurant_id, p_client_ids[x.place] as client_id,
             p_mutation_ids[x.place] as mutation_id, p_types[x.place] as type, p_actions[x.place] as action,
             p_bodies[x.place] as body
      from unnest(p_places) as x (place)
    ) as g
    join pos.heads as h on h.restaurant_id = g.restaurant_id
  ), numbered as materialized (
    select d.place, d.restaurant_id, d.client_id, d.mutation_id, d.type, d.action, d.body,
           d.head + row_number() over (partition by d.restaurant_id order by d.place) as revision,
           row(d.restaurant_id, d.body ->> 'id', (d.body ->> 'tableNumber')::numeric::integer, d.body ->> 'customerName',
               d.body ->> 'orderDate', d.body ->> 'status', (d.body ->> 'total')::numeric, pos.lines_of(d.body -> 'items'),
               case when d.body ? 'createdAt' then pos.moment_of(d.body -> 'createdAt') end,
               d.body - array['id', 'tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items'],
               1, d.head + row_number() over (partition by d.restaurant_id order by d.place), d.client_id, d.client_id,
               clock_timestamp())::pos.order_history as sale
    from decided as d where d.simple
  ), counted as (
    update pos.heads as h set revision = c.revision
    from (select n.restaurant_id, max(n.revision) as revision from numbered as n group by n.restaurant_id) as c
    where h.restaurant_id = c.restaurant_id
    returning pg_notify('pos_doorbell', h.restaurant_id::text)
  ), written as (
    insert into pos.order_history select (n.sale).* from numbered as n
  ), logged as (
    insert into pos.sync_log (restaurant_id, revision, type, action, row_id, version, data, size, client_id)
    select l.restaurant_id, l.revision, l.type, 'add', l.id, 1, l.data, octet_length(l.data::text), l.client_id
    from (
      select n.restaurant_id, n.revision, n.type, n.body ->> 'id' as id, n.client_id, pos.row_of(n.sale) as data
      from numbered as n offset 0
    ) as l
  ), remembered as (
    insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision, version)
    select n.restaurant_id, n.client_id, n.mutation_id, pos.body_hash(n.type, n.action, null, n.body), n.revision, 1
    from numbered as n where n.mutation_id is not null
  )
  select array_agg(n.place), array_agg(n.revision), array_agg(1::bigint) into places, revisions, versions from numbered as n;
end
$$;
comment on function pos.apply_orders(integer[], bigint[], text[], text[], text[], text[], jsonb[]) is 'One round of new sales, each restaurant''s only where all of them are simple; which were done, and their answers.';

create or replace function pos.apply_together(
  p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[], p_bodies text[],
  p_if_versions bigint[], p_roles text[]
) returns pos.result[]
language plpgsql set search_path = '' as $$
declare
  v_few constant integer := 3;  -- fewer are done sooner one by one
  v_results pos.result[] := array_fill(null::pos.result, array[cardinality(p_restaurant_ids)]);
  v_places integer[];
  v_rounds integer[];
  v_kinds text[];
  v_bodies jsonb[];
  v_first integer := 1;
  v_last integer;
  v_kind text;
  v_part integer[];
  v_done integer[];
  v_revisions bigint[];
  v_versions bigint[];
  v_entered bigint;
  v_i integer;
  v_place integer;
  v_set text;
begin
  if exists (select from pos.staged_transactions as t where t.transaction_id = pg_current_xact_id()) then
    perform pos.stamp();
  end if;
  -- In ascending id, whoever locks, and before anything is read: from here on nobody else gives these restaurants revisions.
  perform 1 from pos.heads as h where h.restaurant_id = any (p_restaurant_ids) order by h.restaurant_id for no key update;
  get diagnostics v_i = row_count;
  if v_i <> (select count(distinct r.id) from unnest(p_restaurant_ids) as r (id)) then
    raise exception 'one of the restaurants is not there' using errcode = 'RL404';
  end if;
  select p.places, p.rounds, p.kinds, p.bodies into v_places, v_rounds, v_kinds, v_bodies
  from pos.plan_rounds(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions, p_roles) as p;

  while v_first <= cardinality(v_places) loop
    v_last := v_first;
    while v_rounds[v_last + 1] = v_rounds[v_first] loop
      v_last := v_last + 1;
    end loop;
    -- The triggers stand back: a statement does itself what they would do row by row.
    v_set := set_config('pos.stamping', 'on', true);
    foreach v_kind in array array['table', 'order'] loop
      v_part := array(select v_places[p.i] from generate_series(v_first, v_last) as p (i) where v_kinds[p.i] = v_kind order by p.i);
      continue when cardinality(v_part) < v_few;
      if v_kind = 'table' then
        select d.places, d.revisions, d.versions into v_done, v_revisions, v_versions
        from pos.apply_tables(v_part, p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, v_bodies) as d;
      else
        select d.places, d.revisions, d.versions into v_done, v_revisions, v_versions
        from pos.apply_orders(v_part, p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, v_bodies) as d;
      end if;
      for v_i in 1 .. coalesce(cardinality(v_done), 0) loop
        v_results[v_done[v_i]] := row('OK', null, null, v_revisions[v_i], v_versions[v_i], null)::pos.result;
      end loop;
    end loop;
    v_set := set_config('pos.stamping', '', true);
    -- What is left of the round, in its order.
    v_entered := null;
    for v_i in v_first .. v_last loop
      v_place := v_places[v_i];
      continue when v_results[v_place].code is not null;
      if v_entered is distinct from p_restaurant_ids[v_place] then
        v_entered := p_restaurant_ids[v_place];
        perform pos.enter(v_entered);
      end if;
      v_results[v_place] := pos.mutate_entered(v_entered, p_client_ids[v_place], p_mutation_ids[v_place], p_types[v_place],
                                               p_actions[v_place], p_bodies[v_place]::jsonb, p_if_versions[v_place], p_roles[v_place]);
    end loop;
    if v_entered is not null then
      perform pos.leave(v_entered);
    end if;
    v_first := v_last + 1;
  end loop;
  return v_results;
end
$$;
comment on function pos.apply_together(bigint[], text[], text[], text[], text[], text[], bigint[], text[]) is 'A batch, round by round: one result each. Raises where one of its mutations fails.';
-- The way in: one mutation, or a batch of them in one transaction. Here are the lock and the ledger.
--
-- A plan is kept as long as its session. One made while a table was small reads it from end to end, and goes on to when
-- it is large, until somebody analyzes it: hence no sequential scans, and plans that do not look at the parameters.

create or replace function pos.enter(p_restaurant_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_revision bigint;
  v_set text;
begin
  -- Changes of plain SQL earlier in this transaction go first: a revision must not be given to an older row later.
  if pg_current_xact_id_if_assigned() is not null then
    if exists (select from pos.staged_transactions as t where t.transaction_id = pg_current_xact_id()) then
      perform pos.stamp();
    end if;
  end if;
  select h.revision into v_revision from pos.heads as h where h.restaurant_id = p_restaurant_id for no key update;
  if not found then
    raise exception 'there is no restaurant %', p_restaurant_id using errcode = 'RL404';
  end if;
  -- Nobody but pos.stamp and pos.apply_together says that a change needs no log: a session of the relay's role could have
  -- set it before.
  v_set := set_config('pos.stamping', '', true);
  -- Assigned and not performed, here and below: an expression costs a tenth of a statement.
  v_set := set_config('pos.applying', p_restaurant_id::text, true);
  v_set := set_config('pos.revision', v_revision::text, true);
end
$$;
comment on function pos.enter(bigint) is 'Takes the restaurant''s head; until pos.leave its changes are stamped at once.';

create or replace function pos.leave(p_restaurant_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_set text;
begin
  v_set := set_config('pos.applying', '', true);
  v_set := set_config('pos.client_id', '', true);
end
$$;
comment on function pos.leave(bigint) is 'Ends what pos.enter began.';

create or replace function pos.mutate_entered(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_type text, p_action text, p_body jsonb, p_if_version bigint,
  p_role text default null
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_body constant jsonb := p_body - array['version', 'revision', 'action'];
  v_hash bytea;
  v_known pos.mutations;
  v_result pos.result;
  v_set text;
begin
  if p_role is not null and not pos.may(p_role, p_type) then
    return pos.refused('FORBIDDEN', format('%s is not for the role %s', p_type, p_role), 'type');
  end if;
  if p_mutation_id is not null then
    v_hash := pos.body_hash(p_type, p_action, p_if_version, v_body);
    select m.* into v_known from pos.mutations as m
    where m.restaurant_id = p_restaurant_id and m.client_id = p_client_id and m.mutation_id = p_mutation_id;
    if found then
      if v_known.body_hash <> v_hash then
        return pos.refused('VALIDATION', format('id %s was used for another mutation; give each its own', p_mutation_id), 'id');
      end if;
      return row('OK', null, null, v_known.revision, v_known.version, v_known.details)::pos.result;
    end if;
  end if;

  v_set := set_config('pos.client_id', p_client_id, true);
  case p_type
    when 'UPDATE_TABLE' then
      v_result := pos.mutate_table(p_restaurant_id, p_client_id, p_mutation_id, p_action, v_body, p_if_version);
    when 'UPDATE_MENU' then
      v_result := pos.mutate_menu(p_restaurant_id, p_client_id, p_mutation_id, p_action, v_body, p_if_version);
    when 'UPDATE_ORDER' then
      v_result := pos.mutate_order(p_restaurant_id, p_client_id, p_mutation_id, p_action, v_body, p_if_version);
    when 'UPDATE_SETTINGS' then
      v_result := pos.mutate_settings(p_restaurant_id, v_body, p_if_version);
    when 'NEXT_ORDER_ID' then
      v_result := pos.done(p_restaurant_id, null, jsonb_build_object('orderId', pos.next_order_id(p_restaurant_id)));
    when 'UPDATE_USERS' then
      v_result := pos.mutate_staff(p_restaurant_id, p_client_id, p_action, v_body);
    when 'MESSAGE' then
      v_result := pos.send_message(p_restaurant_id, p_client_id, p_type, null, p_body ->> 'to', p_body);
    when 'USER_LOGIN', 'USER_LOGOUT', 'SESSION_UPDATE', 'SESSION_SYNC', 'REFRESH_SESSIONS', 'FORCE_LOGOUT', 'TERMINATE_SESSION' then
      v_result := pos.send_message(p_restaurant_id, p_client_id, p_type, 'app', null, p_body);
    else
      v_result := pos.refused('UNKNOWN_TYPE', format('%s is no mutation', p_type), 'type');
  end case;

  -- Only what was applied is remembered: after an ERROR the same id may be tried again.
  if p_mutation_id is not null and v_result.code = 'OK' then
    insert into pos.mutations (restaurant_id, client_id, mutation_id, body_hash, revision, version, details)
    values (p_restaurant_id, p_client_id, p_mutation_id, v_hash, v_result.revision, v_result.version, v_result.details);
  end if;
  return v_result;
end
$$;
comment on function pos.mutate_entered(bigint, text, text, text, text, jsonb, bigint, text) is 'One mutation between pos.enter and pos.leave; without a role nobody asks whether it is allowed.';

create or replace function pos.mutate(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_type text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_result pos.result;
begin
  perform pos.enter(p_restaurant_id);
  v_result := pos.mutate_entered(p_restaurant_id, p_client_id, p_mutation_id, p_type, p_action, p_body, p_if_version);
  perform pos.leave(p_restaurant_id);
  return v_result;
end
$$;
comment on function pos.mutate(bigint, text, text, text, text, jsonb, bigint) is 'One mutation.';

create or replace function pos.update_table(
  p_restaurant_id bigint, p_action text, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_TABLE', p_action, p_body, p_if_version);
end
$$;
comment on function pos.update_table(bigint, text, jsonb, text, text, bigint) is 'UPDATE_TABLE: add, update, delete, add_items, update_item, void_item.';

create or replace function pos.update_menu(
  p_restaurant_id bigint, p_action text, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_MENU', p_action, p_body, p_if_version);
end
$$;
comment on function pos.update_menu(bigint, text, jsonb, text, text, bigint) is 'UPDATE_MENU: add_item, update_item, delete_item, add_category, delete_category.';

create or replace function pos.update_order(
  p_restaurant_id bigint, p_action text, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_ORDER', p_action, p_body, p_if_version);
end
$$;
comment on function pos.update_order(bigint, text, jsonb, text, text, bigint) is 'UPDATE_ORDER: add, update, void, clear.';

create or replace function pos.update_settings(
  p_restaurant_id bigint, p_body jsonb,
  p_client_id text default 'database', p_mutation_id text default null, p_if_version bigint default null
) returns pos.result
language plpgsql set search_path = '' as $$
begin
  return pos.mutate(p_restaurant_id, p_client_id, p_mutation_id, 'UPDATE_SETTINGS', 'update', p_body, p_if_version);
end
$$;
comment on function pos.update_settings(bigint, jsonb, text, text, bigint) is 'UPDATE_SETTINGS.';

create or replace function pos.apply_apart(
  p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[], p_actions text[], p_bodies text[],
  p_if_versions bigint[], p_isolate boolean, p_roles text[]
) returns pos.result[]
language plpgsql set search_path = '' as $$
declare
  v_results pos.result[] := array_fill(null::pos.result, array[cardinality(p_restaurant_ids)]);
  v_restaurant_id bigint;
  v_positions integer[];
  v_i integer;
  v_state text;
  v_message text;
  v_field text;
begin
  -- Heads in ascending id, one block a restaurant: a restaurant that is held up is left out, the others go on.
  for v_restaurant_id, v_positions in
    select b.restaurant_id, array_agg(b.place::integer order by b.place)
    from unnest(p_restaurant_ids) with ordinality as b (restaurant_id, place)
    group by b.restaurant_id order by b.restaurant_id
  loop
    begin
      perform pos.enter(v_restaurant_id);
      foreach v_i in array v_positions loop
        if not p_isolate then
          v_results[v_i] := pos.mutate_entered(v_restaurant_id, p_client_ids[v_i], p_mutation_ids[v_i], p_types[v_i],
                                               p_actions[v_i], p_bodies[v_i]::jsonb, p_if_versions[v_i], p_roles[v_i]);
          continue;
        end if;
        begin
          v_results[v_i] := pos.mutate_entered(v_restaurant_id, p_client_ids[v_i], p_mutation_ids[v_i], p_types[v_i],
                                               p_actions[v_i], p_bodies[v_i]::jsonb, p_if_versions[v_i], p_roles[v_i]);
        exception
          when lock_not_available or deadlock_detected or serialization_failure then
            v_results[v_i] := pos.refused('LOCKED', 'a row is locked by another transaction');
            perform set_config('lock_timeout', '10ms', true);
          when others then
            get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_field = constraint_name;
            v_results[v_i] := pos.refused('SQLSTATE ' || v_state, v_message, nullif(v_field, ''));
        end;
      end loop;
      perform pos.leave(v_restaurant_id);
    exception
      when lock_not_available or deadlock_detected or serialization_failure then
        foreach v_i in array v_positions loop
          v_results[v_i] := pos.refused('LOCKED', 'the restaurant is locked by another transaction');
        end loop;
        -- One wait a batch: whoever else is held up in it is left out at once.
        perform set_config('lock_timeout', '10ms', true);
      when others then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        foreach v_i in array v_positions loop
          v_results[v_i] := pos.refused(case when p_isolate then 'SQLSTATE ' || v_state else 'APART' end, v_message);
        end loop;
    end;
  end loop;
  return v_results;
end
$$;
comment on function pos.apply_apart(bigint[], text[], text[], text[], text[], text[], bigint[], boolean, text[]) is 'A batch, one restaurant after the other: whoever fails or is held up is left out.';

create or replace function pos.apply(
  p_batch_id uuid, p_restaurant_ids bigint[], p_client_ids text[], p_mutation_ids text[], p_types text[],
  p_actions text[], p_bodies text[], p_if_versions bigint[], p_isolate boolean default false, p_roles text[] default null
) returns setof pos.result
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off as $$
declare
  v_results pos.result[];
  v_refused jsonb;
begin
  -- Here, and not only in the relay's session: behind a pooler that would be anybody's. Whoever asks for more than a
  -- commit on the disk has a reason.
  if current_setting('synchronous_commit') <> 'remote_apply' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  insert into pos.batches (batch_id) values (p_batch_id) on conflict do nothing;
  if not found then
    -- This batch is committed, its answer was lost. What was not applied is known by its place, and the ledger has the
    -- answers of mutations with an id.
    select b.refused into v_refused from pos.batches as b where b.batch_id = p_batch_id;
    return query
      select r.*
      from unnest(p_restaurant_ids, p_client_ids, p_mutation_ids) with ordinality as b (restaurant_id, client_id, mutation_id, place)
      left join pos.mutations as m using (restaurant_id, client_id, mutation_id)
      cross join lateral jsonb_populate_record(
        row(case when m.mutation_id is null then 'REPEATED' else 'OK' end, null, null, m.revision, m.version, m.details)::pos.result,
        coalesce(v_refused -> b.place::text, '{}')) as r
      order by b.place;
    return;
  end if;

  -- The short way first. In it everything fails together, so then it is done again, one restaurant after the other. (A
  -- block, and not a block for each mutation: 64 subtransactions are what PostgreSQL keeps in memory.)
  if not p_isolate and cardinality(p_restaurant_ids) > 1 then
    begin
      v_results := pos.apply_together(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions, p_roles);
    exception
      when lock_not_available or deadlock_detected or serialization_failure then
        -- One wait a batch: now whoever is held up is left out at once.
        perform set_config('lock_timeout', '10ms', true);
      when others then
        null;
    end;
  end if;
  if v_results is null then
    v_results := pos.apply_apart(p_restaurant_ids, p_client_ids, p_mutation_ids, p_types, p_actions, p_bodies, p_if_versions, p_isolate, p_roles);
  end if;
  select jsonb_object_agg(r.place, to_jsonb(row(r.code, r.message, r.field, r.revision, r.version, r.details)::pos.result))
  into v_refused
  from unnest(v_results) with ordinality as r (code, message, field, revision, version, details, place)
  where r.code <> 'OK';
  if v_refused is not null then
    update pos.batches as b set refused = v_refused where b.batch_id = p_batch_id;
  end if;
  return query select r.* from unnest(v_results) as r;
end
$$;
comment on function pos.apply(uuid, bigint[], text[], text[], text[], text[], text[], bigint[], boolean, text[]) is
  'Many mutations in one transaction, one result each in their order. Beside the codes of pos.result: LOCKED (try this restaurant again, on its own), APART (one of its mutations failed: try each in a block of its own, p_isolate), SQLSTATE nnnnn (what failed), REPEATED (the batch was committed before).';
-- How a restaurant begins: empty, or with the app's export (relay import). Both set the mark `complete`.

create or replace function pos.default_settings(p_name text) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object(
    'id', 1, 'restaurantName', p_name, 'description', 'Professional Point of Sale System', 'currency', 'MMK',
    'taxRate', 5, 'serviceCharge', 0, 'serviceChargeEnabled', false, 'theme', 'light', 'language', 'en',
    'sessionTimeout', 60);
$$;
comment on function pos.default_settings(text) is 'The settings that the app begins with; it knows none but complete ones.';

create or replace function pos.add_restaurant(p_slug text, p_name text, p_empty boolean) returns bigint
language sql set search_path = '' as $$
  insert into pos.restaurants (slug, name, complete, settings)
  values (p_slug, p_name, p_empty, case when p_empty then pos.default_settings(p_name) else '{}' end)
  returning restaurant_id;
$$;
comment on function pos.add_restaurant(text, text, boolean) is 'Makes a restaurant; an empty one has all its lists, and nothing in them.';

create or replace function pos.import_one(p_restaurant_id bigint, p_type text, p_action text, p_body jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_result constant pos.result := pos.mutate_entered(p_restaurant_id, 'import', null, p_type, p_action, p_body, null);
begin
  if v_result.code = 'OK' then
    return true;
  elsif v_result.code = 'CONFLICT' then
    return false;
  end if;
  raise exception '% %: %', p_type, coalesce(p_body ->> 'id', p_body ->> 'name'), v_result.message using errcode = 'RL400';
end
$$;
comment on function pos.import_one(bigint, text, text, jsonb) is 'One row of an export by the rules of a message; false where what is here is newer.';

create or replace function pos.import_rows(p_restaurant_id bigint, p_kind text, p_rows jsonb, p_fill boolean) returns void
language plpgsql set search_path = '' as $$
declare
  v_type constant text := case p_kind when 'tables' then 'UPDATE_TABLE' else 'UPDATE_MENU' end;
  v_suffix constant text := case p_kind when 'tables' then '' when 'menu_items' then '_item' else '_category' end;
  v_key constant text := case p_kind when 'categories' then 'name' else 'id' end;
  v_here text[];
  v_id text;
  v_row jsonb;
begin
  v_here := case p_kind
    when 'tables' then array(select t.id from pos.tables as t where t.restaurant_id = p_restaurant_id)
    when 'menu_items' then array(select m.id from pos.menu_items as m where m.restaurant_id = p_restaurant_id)
    when 'categories' then array(select c.name from pos.categories as c where c.restaurant_id = p_restaurant_id)
  end;
  if not p_fill then
    foreach v_id in array v_here loop
      continue when exists (select from jsonb_array_elements(p_rows) as r (row) where r.row ->> v_key = v_id);
      perform pos.import_one(p_restaurant_id, v_type, 'delete' || v_suffix, jsonb_build_object(v_key, v_id));
    end loop;
    if p_kind = 'tables' then
      -- In one statement: two tables may have changed their numbers. A number that the file has twice was settled.
      update pos.tables as t set number = n.number
      from (
        select min(r.row ->> 'id') as id, (r.row ->> 'number')::numeric::integer as number
        from jsonb_array_elements(p_rows) as r (row) group by 2 having count(*) = 1
      ) as n
      where t.restaurant_id = p_restaurant_id and t.id = n.id;
    end if;
  end if;
  for v_row in select r.row from jsonb_array_elements(p_rows) with ordinality as r (row, place) order by r.place loop
    v_id := v_row ->> v_key;
    if v_id = any (v_here) then
      if not p_fill and p_kind <> 'categories' then
        perform pos.import_one(p_restaurant_id, v_type, 'update' || v_suffix, v_row);
      end if;
    elsif not p_fill or not pos.is_deleted(p_restaurant_id, p_kind, v_id) then
      perform pos.import_one(p_restaurant_id, v_type, 'add' || v_suffix, v_row);
    end if;
  end loop;
end
$$;
comment on function pos.import_rows(bigint, text, jsonb, boolean) is 'A list of an export: fills what is missing here, or makes the list here equal to it.';

create or replace function pos.import_orders(p_restaurant_id bigint, p_orders jsonb, p_fill boolean) returns integer
language plpgsql set search_path = '' as $$
declare
  v_order jsonb;
  v_here pos.order_history;
  v_kept integer := 0;
begin
  -- Oldest first: a snapshot has the orders that were changed last.
  for v_order in
    select o.row from jsonb_array_elements(p_orders) with ordinality as o (row, place)
    order by pos.moment_of(o.row -> 'createdAt') nulls first, o.place
  loop
    if p_fill then
      select h.* into v_here from pos.order_history as h where h.restaurant_id = p_restaurant_id and h.id = v_order ->> 'id';
      continue when found and pos.is_same_sale(v_here, v_order, 'import') is not false;
    end if;
    if not pos.import_one(p_restaurant_id, 'UPDATE_ORDER', 'add', v_order) then
      v_kept := v_kept + 1;
    end if;
  end loop;
  return v_kept;
end
$$;
comment on function pos.import_orders(bigint, jsonb, boolean) is 'The sales of an export. None is ever deleted, and a finished one stays finished: how many were kept for that.';

create or replace function pos.import_users(p_restaurant_id bigint, p_users jsonb, p_fill boolean) returns integer
language plpgsql set search_path = '' as $$
declare
  v_user jsonb;
  v_changed integer := 0;
  v_rows integer;
begin
  -- The default users are announced by every fresh browser: one that the shop has deleted must not come in by that.
  with gone as (
    delete from pos.staff as s
    where s.restaurant_id = p_restaurant_id
      and (not p_fill or s.announced)
      and not exists (select from jsonb_array_elements(p_users) as u (row) where u.row ->> 'id' = s.id)
    returning 1
  ) select count(*) into v_changed from gone;
  insert into pos.tombstones (restaurant_id, kind, id, version)
  select p_restaurant_id, 'staff', d.id, 1 from unnest(array['1', '2', '3']) as d (id)
  where not exists (select from jsonb_array_elements(p_users) as u (row) where u.row ->> 'id' = d.id)
    and not exists (select from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = d.id)
  on conflict do nothing;
  for v_user in select u.row from jsonb_array_elements(p_users) with ordinality as u (row, place) order by u.place loop
    update pos.staff as s
    set data = v_user - array['id', 'password'], password = coalesce(v_user ->> 'password', s.password), announced = false
    where s.restaurant_id = p_restaurant_id and s.id = v_user ->> 'id'
      and (not p_fill or s.announced);
    get diagnostics v_rows = row_count;
    v_changed := v_changed + v_rows;
    insert into pos.staff (restaurant_id, id, data, password)
    select p_restaurant_id, v_user ->> 'id', v_user - array['id', 'password'], v_user ->> 'password'
    where not exists (select from pos.staff as s where s.restaurant_id = p_restaurant_id and s.id = v_user ->> 'id')
      and (not p_fill or not pos.is_deleted(p_restaurant_id, 'staff', v_user ->> 'id'));
    get diagnostics v_rows = row_count;
    v_changed := v_changed + v_rows;
  end loop;
  return v_changed;
end
$$;
comment on function pos.import_users(bigint, jsonb, boolean) is 'The users of an export; how many changed.';

create or replace function pos.import_backup(p_restaurant_id bigint, p_backup jsonb, p_users jsonb, p_replace boolean)
returns table (list text, changes bigint)
language plpgsql set search_path = '' as $$
declare
  v_complete boolean;
  v_before bigint;
  v_kept integer;
  v_users integer;
begin
  perform pos.enter(p_restaurant_id);
  perform set_config('pos.client_id', 'import', true);
  select r.complete, h.revision into v_complete, v_before
  from pos.restaurants as r join pos.heads as h on h.restaurant_id = r.restaurant_id
  where r.restaurant_id = p_restaurant_id for update of r;

  -- Not marked complete: what terminals changed here meanwhile is newer than the export.
  perform pos.import_one(p_restaurant_id, 'UPDATE_SETTINGS', 'update',
    case when v_complete then p_backup -> 'settings'
         else (p_backup -> 'settings') || (select r.settings from pos.restaurants as r where r.restaurant_id = p_restaurant_id) end);
  perform pos.import_rows(p_restaurant_id, 'categories', (
    select coalesce(jsonb_agg(jsonb_build_object('name', c.name) order by c.place), '[]')
    from jsonb_array_elements(p_backup -> 'categories') with ordinality as c (name, place)), not v_complete);
  perform pos.import_rows(p_restaurant_id, 'menu_items', p_backup -> 'menuItems', not v_complete);
  perform pos.import_rows(p_restaurant_id, 'tables', p_backup -> 'tables', not v_complete);
  v_kept := pos.import_orders(p_restaurant_id, p_backup -> 'orderHistory', not v_complete);
  perform set_config('pos.client_id', 'import', true);
  v_users := pos.import_users(p_restaurant_id, p_users, not v_complete);
  update pos.restaurants as r set complete = true where r.restaurant_id = p_restaurant_id;
  perform pos.leave(p_restaurant_id);

  return query
    select k.list, k.changes from (
      select t.list, (
        select count(*) from pos.sync_log as l
        where l.restaurant_id = p_restaurant_id and l.revision > v_before and l.type = t.type
          and (t.actions is null or l.action like t.actions)) as changes
      from (values ('settings', 'UPDATE_SETTINGS', null), ('categories', 'UPDATE_MENU', '%_category'),
                   ('dishes', 'UPDATE_MENU', '%_item'), ('tables', 'UPDATE_TABLE', null),
                   ('orders', 'UPDATE_ORDER', null)) as t (list, type, actions)
      union all select 'users', v_users
    ) as k;
  if v_complete and not p_replace and (v_users > 0 or exists (
    select from pos.sync_log as l where l.restaurant_id = p_restaurant_id and l.revision > v_before)) then
    raise exception 'the restaurant is complete and has other data than this file'
      using errcode = 'RL409', hint = 'To make its lists equal to the file, give --replace; sales are only added.';
  end if;
  return query select 'kept', v_kept::bigint;
end
$$;
comment on function pos.import_backup(bigint, jsonb, jsonb, boolean) is 'The app''s export: fills a restaurant that is not marked complete; one that is, only with p_replace. How much changed, by list.';
-- What the relay reads. Every function is one statement, so that what it returns is one state.

create or replace function pos.epoch() returns text
language sql stable set search_path = '' as $$
  -- A restore makes new oids, a promotion a new timeline; a crash recovery changes none of these.
  select left(encode(sha256(convert_to(concat_ws(' ',
      i.epoch_seed,
      (select c.system_identifier from pg_control_system() as c),
      left(pg_walfile_name(pg_current_wal_lsn()), 8),
      (select d.oid from pg_catalog.pg_database as d where d.datname = current_database()),
      'pos.sync_log'::regclass::oid), 'UTF8')), 'hex'), 16)
  from pos.installation as i;
$$;
comment on function pos.epoch() is 'Names this history of changes; another restore, timeline or truncation has another one.';

create or replace function pos.find_restaurant(p_slug text) returns table (restaurant_id bigint, slug text)
language sql stable set search_path = '' as $$
  select r.restaurant_id, r.slug from pos.restaurants as r where r.slug = coalesce(p_slug, 'default');
$$;
comment on function pos.find_restaurant(text) is 'The restaurant with this slug; null means the default one. No row: there is none.';

create or replace function pos.read_heads(p_restaurant_ids bigint[])
returns table (epoch text, restaurant_id bigint, revision bigint, messages bigint, staff bigint)
language sql stable set search_path = '' as $$
  select e.epoch, h.restaurant_id, h.revision, h.messages, h.staff
  from pos.epoch() as e (epoch)
  left join pos.heads as h on h.restaurant_id = any (p_restaurant_ids);
$$;
comment on function pos.read_heads(bigint[]) is 'The epoch, and the newest revision and message of each restaurant; one row without a restaurant where there is none.';

create or replace function pos.changes_after(p_restaurant_id bigint, p_revision bigint, p_rows integer, p_bytes bigint)
returns table (revision bigint, type text, action text, row_id text, version bigint, data jsonb, client_id text, created_at timestamptz)
language sql stable rows 100 set search_path = '' as $$
  -- The sizes are summed before the rows are unpacked. The first change is returned whatever its size.
  select l.revision, l.type, l.action, l.row_id, l.version, l.data, l.client_id, l.created_at
  from (
    select s.*, sum(s.size) over (order by s.revision) - s.size as before
    from (
      select n.* from pos.sync_log as n
      where n.restaurant_id = p_restaurant_id and n.revision > p_revision
      order by n.revision limit p_rows
    ) as s
  ) as l
  where l.before < p_bytes
  order by l.revision;
$$;
comment on function pos.changes_after(bigint, bigint, integer, bigint) is 'Changes of a restaurant after a revision, oldest first, at most so many rows and about so many bytes.';

create or replace function pos.read_changes(p_restaurant_ids bigint[], p_revisions bigint[], p_rows integer, p_bytes bigint)
returns table (epoch text, restaurant_id bigint, head bigint, messages bigint, staff bigint,
               revision bigint, type text, action text, row_id text, data text, client_id text, milliseconds bigint)
language sql stable set search_path = '' as $$
  select e.epoch, h.restaurant_id, h.revision, h.messages, h.staff,
         c.revision, c.type, c.action, c.row_id, c.data::text, c.client_id, (extract(epoch from c.created_at) * 1000)::bigint
  from pos.epoch() as e (epoch)
  cross join unnest(p_restaurant_ids, p_revisions) as a (restaurant_id, revision)
  join pos.heads as h on h.restaurant_id = a.restaurant_id
  left join lateral pos.changes_after(a.restaurant_id, a.revision, p_rows, p_bytes) as c on true
  order by h.restaurant_id, c.revision;
$$;
comment on function pos.read_changes(bigint[], bigint[], integer, bigint) is 'The changes of many restaurants, each after its own revision, with the epoch and the heads they were read at.';

create or replace function pos.read_messages(p_restaurant_ids bigint[], p_numbers bigint[])
returns table (restaurant_id bigint, number bigint, type text, profile text, client_id text, to_client_id text, data text,
               milliseconds bigint)
language sql stable set search_path = '' as $$
  select m.restaurant_id, m.number, m.type, m.profile, m.client_id, m.to_client_id, m.data::text, (extract(epoch from m.created_at) * 1000)::bigint
  from unnest(p_restaurant_ids, p_numbers) as a (restaurant_id, number)
  cross join lateral (
    select n.* from pos.messages as n
    where n.restaurant_id = a.restaurant_id and n.number > a.number and n.created_at > now() - interval '1 minute'
    order by n.number desc limit 1000
  ) as m
  order by m.restaurant_id, m.number;
$$;
comment on function pos.read_messages(bigint[], bigint[]) is 'The messages of many restaurants, each after its own number, at most the newest 1,000 of each.';

create or replace function pos.read_lists(p_restaurant_id bigint, p_kinds text[], p_order_ids text[], p_orders integer)
returns table (epoch text, revision bigint, tables text, menu_items text, categories text, settings text, orders text,
               complete boolean, cleared_revision bigint)
language sql stable set search_path = '' as $$
  select pos.epoch(), h.revision,
    case when 'tables' = any (p_kinds) then
      (select '[' || coalesce(string_agg(pos.row_of(t)::text, ',' order by t.number, t.id), '') || ']'
       from pos.tables as t where t.restaurant_id = p_restaurant_id)
    end,
    case when 'menu_items' = any (p_kinds) then
      (select '[' || coalesce(string_agg(pos.row_of(m)::text, ',' order by m.position, m.id), '') || ']'
       from pos.menu_items as m where m.restaurant_id = p_restaurant_id)
    end,
    case when 'categories' = any (p_kinds) then
      (select coalesce(json_agg(c.name order by c.position, c.name), '[]')::text
       from pos.categories as c where c.restaurant_id = p_restaurant_id)
    end,
    case when 'settings' = any (p_kinds) then r.settings::text end,
    case
      when 'orders' <> all (p_kinds) then null
      when p_order_ids is null then
        (select '[' || coalesce(string_agg(pos.row_of(x.row)::text, ',' order by x.revision desc), '') || ']'
         from (
           select n as row, n.revision from pos.order_history as n
           where n.restaurant_id = p_restaurant_id and n.revision > h.cleared_revision
           order by n.revision desc limit p_orders
         ) as x)
      else
        (select '[' || coalesce(string_agg(pos.row_of(n)::text, ',' order by n.revision desc), '') || ']'
         from pos.order_history as n
         where n.restaurant_id = p_restaurant_id and n.id = any (p_order_ids) and n.revision > h.cleared_revision)
    end,
    r.complete, h.cleared_revision
  from pos.restaurants as r
  join pos.heads as h on h.restaurant_id = r.restaurant_id
  where r.restaurant_id = p_restaurant_id;
$$;
comment on function pos.read_lists(bigint, text[], text[], integer) is 'Lists of a restaurant (tables, menu_items, categories, settings, orders) at one revision, as JSON texts; of the orders those named, or the newest.';

create or replace function pos.snapshot(p_restaurant_id bigint, p_orders integer)
returns table (epoch text, revision bigint, tables text, menu_items text, categories text, settings text, orders text,
               complete boolean, cleared_revision bigint)
language sql stable set search_path = '' as $$
  select s.epoch, s.revision, s.tables, s.menu_items, s.categories, s.settings, s.orders, s.complete, s.cleared_revision
  from pos.read_lists(p_restaurant_id, array['tables', 'menu_items', 'categories', 'settings', 'orders'], null, p_orders) as s;
$$;
comment on function pos.snapshot(bigint, integer) is 'The state of a restaurant at one revision, as JSON texts, with its newest orders.';

create or replace function pos.checklist(p_restaurant_id bigint, p_orders integer)
returns table (epoch text, revision bigint, lines text[])
language sql stable set search_path = '' as $$
  -- Only what every terminal can write in the same way: no digits of a price, no order of keys. What a row says beyond
  -- its version cannot differ, for a version is written once.
  select pos.epoch(), h.revision, array(
    select concat_ws(' ', 'table', t.version, t.id) from pos.tables as t where t.restaurant_id = p_restaurant_id
    union all
    select concat_ws(' ', 'dish', m.version, m.id) from pos.menu_items as m where m.restaurant_id = p_restaurant_id
    union all
    select concat_ws(' ', 'category', c.name) from pos.categories as c where c.restaurant_id = p_restaurant_id
    union all
    select concat_ws(' ', 'order', x.version, x.id)
    from (
      select o.version, o.id from pos.order_history as o
      where o.restaurant_id = p_restaurant_id and o.revision > h.cleared_revision
      order by o.revision desc limit p_orders
    ) as x
    union all
    -- Terminals know no version of the settings, so of these the values count, as far as they have no digits.
    select concat_ws(' ', 'setting', s.key, case when jsonb_typeof(s.value) in ('string', 'boolean') then s.value #>> '{}' end)
    from jsonb_each(r.settings) as s
  )
  from pos.restaurants as r
  join pos.heads as h on h.restaurant_id = r.restaurant_id
  where r.restaurant_id = p_restaurant_id;
$$;
comment on function pos.checklist(bigint, integer) is 'What a terminal of the restaurant must show at one revision, a line for each row; a checksum is made of it.';

create or replace function pos.read_orders(p_restaurant_id bigint, p_before bigint, p_rows integer)
returns table (revision bigint, data text)
language sql stable set search_path = '' as $$
  select o.revision, pos.row_of(o)::text
  from pos.order_history as o
  join pos.heads as h on h.restaurant_id = o.restaurant_id
  where o.restaurant_id = p_restaurant_id and o.revision < p_before and o.revision > h.cleared_revision
  order by o.revision desc limit p_rows;
$$;
comment on function pos.read_orders(bigint, bigint, integer) is 'Orders last changed before a revision, newest first; cleared ones are left out.';

create or replace function pos.prove(p_instance_id text) returns void
language sql set search_path = '' as $$
  select pg_notify('pos_proof', p_instance_id);
$$;
comment on function pos.prove(text) is 'Rings one relay''s own bell, which it must hear to know that it is not deaf.';
-- What is let go, but for the log: see retention.sql.

create or replace function pos.is_order_kept(p_restaurant_id bigint, p_order_id text, p_keep interval) returns boolean
language plpgsql stable set search_path = '' set enable_seqscan = off as $$
begin
  return exists (select from pos.tables as t where t.restaurant_id = p_restaurant_id and t.order_id = p_order_id)
    or exists (select from pos.order_history as o where o.restaurant_id = p_restaurant_id and o.id = p_order_id
               and (not pos.is_finished(o.status) or o.updated_at >= now() - p_keep));
end
$$;
comment on function pos.is_order_kept(bigint, text, interval) is 'Whether an order is open, or was changed within so long.';

create or replace function pos.prune(p_keep interval, p_rows integer)
returns table (mutations bigint, tombstones bigint, messages bigint, batches bigint, claims bigint, replacements bigint,
               counters bigint)
language plpgsql set search_path = '' as $$
begin
  -- One instance at a time; the others find nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('pos.prune', 0)) then
    return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint;
    return;
  end if;
  with gone as (
    delete from pos.messages as m where m.created_at < now() - interval '1 minute' returning 1
  ) select count(*) into messages from gone;
  with gone as (
    delete from pos.batches as b where b.batch_id in (
      select x.batch_id from pos.batches as x where x.created_at < now() - interval '1 hour' order by x.created_at limit p_rows)
    returning 1
  ) select count(*) into batches from gone;
  with gone as (
    delete from pos.mutations as m where m.ctid = any (array(
      select x.ctid from pos.mutations as x where x.created_at < now() - p_keep order by x.created_at limit p_rows))
    returning 1
  ) select count(*) into mutations from gone;
  with gone as (
    delete from pos.tombstones as t where t.ctid = any (array(
      -- Every fresh browser announces the default users again: those of staff are kept for ever.
      select x.ctid from pos.tombstones as x
      where x.deleted_at < now() - p_keep and x.kind <> 'staff' order by x.deleted_at limit p_rows))
    returning 1
  ) select count(*) into tombstones from gone;

  -- What is known of an order id stays as long as the order is open, on a table or in the history, and its time after the
  -- order was changed last: until then a late edit or a repeat must find which sale is meant.
  with gone as (
    delete from pos.order_claims as c where c.ctid = any (array(
      select x.ctid from pos.order_claims as x
      where x.created_at < now() - p_keep and not pos.is_order_kept(x.restaurant_id, x.order_id, p_keep)
      order by x.created_at limit p_rows))
    returning 1
  ) select count(*) into claims from gone;
  with gone as (
    delete from pos.order_replacements as r where r.ctid = any (array(
      select x.ctid from pos.order_replacements as x
      where x.created_at < now() - p_keep and not pos.is_order_kept(x.restaurant_id, x.given_id, p_keep)
      order by x.created_at limit p_rows))
    returning 1
  ) select count(*) into replacements from gone;
  with gone as (
    delete from pos.order_counters as n where n.ctid = any (array(
      select x.ctid from pos.order_counters as x where x.used_at < now() - p_keep order by x.used_at limit p_rows))
    returning 1
  ) select count(*) into counters from gone;

  delete from pos.actors as a where a.seen_at < now() - p_keep;
  delete from pos.app_terminals as a where a.seen_at < now() - interval '7 days';
  return next;
end
$$;
comment on function pos.prune(interval, integer) is 'Lets go at most so many rows each of what is older than it need be; returns how many went.';
-- How much of the log is kept.

create or replace function pos.note_lagging(p_instance_id text, p_restaurant_ids bigint[], p_revisions bigint[]) returns void
language sql set search_path = '' as $$
  delete from pos.lagging as g where g.instance_id = p_instance_id and g.restaurant_id <> all (p_restaurant_ids);
  insert into pos.lagging (restaurant_id, instance_id, revision)
  select n.restaurant_id, p_instance_id, n.revision from unnest(p_restaurant_ids, p_revisions) as n (restaurant_id, revision)
  on conflict (restaurant_id, instance_id) do update set revision = excluded.revision, seen_at = excluded.seen_at;
$$;
comment on function pos.note_lagging(text, bigint[], bigint[]) is 'Notes what the slowest terminals of one instance hold, restaurant by restaurant; those that it does not name lag no longer.';

create or replace function pos.first_kept(p_restaurant_id bigint, p_oldest bigint, p_head bigint, p_keep interval, p_keep_rows bigint, p_rows integer)
returns bigint
language sql stable set search_path = '' as $$
  -- Up to the first change that is young enough, not all that are old: clocks are set back, and the log has no holes.
  -- The newest change stays, whatever its age.
  select least(m.most, greatest(p_head - p_keep_rows + 1, coalesce((
    select min(l.revision) from pos.sync_log as l
    where l.restaurant_id = p_restaurant_id and l.revision >= p_oldest and l.revision < m.most and l.created_at >= now() - p_keep), m.most)))
  from (select least(p_head, p_oldest + p_rows) as most) as m;
$$;
comment on function pos.first_kept(bigint, bigint, bigint, interval, bigint, integer) is 'The first change that stays when those older than p_keep, and all but the newest p_keep_rows, go; at most p_rows of them.';

create or replace function pos.prune_log(p_after bigint, p_keep interval, p_keep_rows bigint, p_rows integer)
returns table (restaurant_id bigint, changes bigint)
language plpgsql set search_path = '' as $$
declare
  v_head record;
  v_keep bigint;
  v_needed bigint;
begin
  -- One instance at a time; the others find nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('pos.prune_log', 0)) then
    return;
  end if;
  perform set_config('lock_timeout', '500ms', true);
  for v_head in
    select h.restaurant_id, h.revision, l.oldest
    from pos.heads as h
    -- From the floor on: below it may lie a million index entries of rows that went and are not vacuumed yet.
    cross join lateral (
      select min(n.revision) as oldest from pos.sync_log as n
      where n.restaurant_id = h.restaurant_id and n.revision >= h.floor
    ) as l
    where h.restaurant_id > p_after and l.oldest < h.revision
      and (h.revision - l.oldest >= p_keep_rows or exists (
        select from pos.sync_log as o
        where o.restaurant_id = h.restaurant_id and o.revision = l.oldest and o.created_at < now() - p_keep))
    order by h.restaurant_id
  loop
    v_keep := pos.first_kept(v_head.restaurant_id, v_head.oldest, v_head.revision, p_keep, p_keep_rows, p_rows);
    -- A terminal that is connected and slow is waited for: an hour, and 100,000 changes beyond those that are kept.
    select min(g.revision) + 1 into v_needed from pos.lagging as g
    where g.restaurant_id = v_head.restaurant_id and g.seen_at > now() - interval '1 minute';
    if v_needed < v_keep then
      v_keep := greatest(v_needed, least(v_keep, pos.first_kept(
        v_head.restaurant_id, v_head.oldest, v_head.revision, greatest(p_keep, interval '1 hour'), p_keep_rows + 100000, p_rows)));
    end if;
    continue when v_keep <= v_head.oldest;
    begin
      delete from pos.sync_log as l where l.restaurant_id = v_head.restaurant_id and l.revision >= v_head.oldest and l.revision < v_keep;
      get diagnostics changes = row_count;
      -- The head last, and one restaurant in a transaction: its writers wait for the commit that follows, and for no delete.
      update pos.heads as h set floor = v_keep where h.restaurant_id = v_head.restaurant_id;
    exception when lock_not_available then
      continue;  -- its head is held by somebody's open transaction: it has its turn the next time
    end;
    restaurant_id := v_head.restaurant_id;
    return next;
    return;
  end loop;
end
$$;
comment on function pos.prune_log(bigint, interval, bigint, integer) is
  'Lets go at most p_rows of the oldest changes of one restaurant, the first above p_after that has any to let go, and raises its floor; no row: there is none.';
-- Who changed what, and when: read from the log, which has every change, those made by hand among them.

create or replace function pos.note_actors(
  p_restaurant_ids bigint[], p_client_ids text[], p_terminals text[], p_roles text[], p_addresses text[]
) returns void
language sql set search_path = '' as $$
  insert into pos.actors (restaurant_id, client_id, terminal, role, address)
  select n.restaurant_id, n.client_id, n.terminal, n.role, n.address
  from unnest(p_restaurant_ids, p_client_ids, p_terminals, p_roles, p_addresses)
    as n (restaurant_id, client_id, terminal, role, address)
  order by 1, 2, 3, 4, 5
  on conflict (restaurant_id, client_id, terminal, role, address) do update set seen_at = excluded.seen_at;
$$;
comment on function pos.note_actors(bigint[], text[], text[], text[], text[]) is 'Notes who is about to change something; a relay says it at the first change of a terminal and then every ten minutes.';

create or replace function pos.history_of(p_table text, p_id text, p_restaurant text default null)
returns table (revision bigint, at timestamptz, client_id text, terminal text, role text, terminal_address text,
               database_user text, address inet, action text, field text, before jsonb, after jsonb)
language sql stable set search_path = '' as $$
  with image as (
    select l.restaurant_id, l.revision, l.created_at, l.client_id, l.database_user, l.address, l.action, l.data, l.version,
           lag(l.data) over w as data_before, lag(l.action) over w like 'delete%' as was_deleted
    from pos.restaurants as r
    join pos.sync_log as l on l.restaurant_id = r.restaurant_id
    where r.slug = coalesce(p_restaurant, 'default')
      and l.type = case p_table
        when 'tables' then 'UPDATE_TABLE' when 'menu_items' then 'UPDATE_MENU' when 'categories' then 'UPDATE_MENU'
        when 'order_history' then 'UPDATE_ORDER' when 'restaurants' then 'UPDATE_SETTINGS' end
      and (p_table = 'categories') = (l.action like '%_category')
      and (p_table = 'restaurants' or l.row_id = p_id)
    window w as (order by l.revision)
  )
  select i.revision, i.created_at, i.client_id, w.terminal, w.role, w.address, i.database_user, i.address, i.action,
         f.field, f.before, f.after
  from image as i
  -- Two terminals may call themselves the same: then it was one of them.
  cross join lateral (
    select string_agg(distinct nullif(a.terminal, ''), ' or ') as terminal, string_agg(distinct nullif(a.role, ''), ' or ') as role,
           string_agg(distinct nullif(a.address, ''), ' or ') as address
    from pos.actors as a
    where a.restaurant_id = i.restaurant_id and a.client_id = i.client_id
      and i.created_at between a.first_at and a.seen_at + interval '15 minutes'
  ) as w
  cross join lateral (
    select coalesce(b.key, a.key) as field, b.value as before, a.value as after
    from jsonb_each(case when not i.was_deleted then i.data_before end) as b
    full join jsonb_each(case when i.action not like 'delete%' then i.data end) as a on a.key = b.key
    -- As text: 5 and 5.0 are equal in jsonb, and digits are kept.
    where coalesce(b.key, a.key) <> 'version' and b.value::text is distinct from a.value::text
    -- A delete of what the log no longer shows has no field to tell of.
    union all
    select null, null, null where i.action like 'delete%' and i.data_before is null
  ) as f
  order by i.revision, f.field;
$$;
comment on function pos.history_of(text, text, text) is
  'What became of a row, field by field, oldest first: history_of(''tables'', ''4''), of the restaurant with this slug (null: the default one). A category goes by its name; for restaurants, which is the settings, the id is not looked at. Where the log no longer has what was before, before is null. database_user and address are those of the login; a terminal''s, with its role, are in terminal, role and terminal_address.';
-- The default restaurant, the version, and who may call what.

-- Only a new database gets it: somebody may have given it another slug since.
insert into pos.restaurants (slug, name)
select 'default', 'Default restaurant' where not exists (select from pos.restaurants);
insert into pos.installation as i (version) values (2)
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
-- Who may do what, in a database where a DBA has made the roles (roles.sql). Does nothing in any other.
--
-- What each role may do is exactly what stands here. To a function that the relay calls, pos_owner lends its rights; what
-- reads the log and the heads goes without, for these two the relay may read. Triggers lend them too, so that whoever is
-- given rights on a data table can use them.

do $$
declare
  -- What a running relay calls.
  v_relay constant text[] := array[
    'apply', 'changes_after', 'checklist', 'epoch', 'find_restaurant', 'find_terminals', 'meet_terminal', 'note_actors',
    'note_lagging', 'note_terminals', 'prove', 'prune', 'prune_log', 'read_changes', 'read_heads', 'read_lists', 'read_messages',
    'read_orders', 'read_staff', 'read_terminals', 'seal_password', 'snapshot'];
  v_unaided constant text[] := array['changes_after', 'epoch', 'read_changes', 'read_heads', 'prove'];
  v_admin constant text[] := array['prune', 'prune_log'];
  v_reader constant text[] := array['history_of'];
  v_read constant text[] := array['restaurants', 'heads', 'tables', 'menu_items', 'categories', 'order_history', 'sync_log', 'actors'];
  v_object record;
begin
  if not exists (select from pg_catalog.pg_namespace as n
                 where n.nspname = 'pos' and pg_get_userbyid(n.nspowner) = 'pos_owner') then
    return;
  end if;
  revoke all on schema pos from pos_relay, pos_admin, pos_reader;
  revoke all on all tables in schema pos from pos_relay, pos_admin, pos_reader;
  revoke all on all functions in schema pos from pos_relay, pos_admin, pos_reader;
  grant usage on schema pos to pos_relay, pos_admin, pos_reader;

  for v_object in
    select p.oid::regprocedure as name, p.proname, p.prorettype = 'trigger'::regtype as is_trigger
    from pg_catalog.pg_proc as p where p.pronamespace = 'pos'::regnamespace
  loop
    execute format('alter function %s security %s', v_object.name, case
      when v_object.is_trigger
        or (v_object.proname = any (v_relay || v_admin) and v_object.proname <> all (v_unaided)) then 'definer'
      else 'invoker' end);
    if v_object.proname = any (v_relay) then
      execute format('grant execute on function %s to pos_relay', v_object.name);
    end if;
    if v_object.proname = any (v_admin) then
      execute format('grant execute on function %s to pos_admin', v_object.name);
    end if;
    if v_object.proname = any (v_reader) then
      execute format('grant execute on function %s to pos_reader', v_object.name);
    end if;
  end loop;

  grant select on pos.sync_log, pos.heads, pos.installation to pos_relay;
  grant select on pos.restaurants, pos.heads, pos.installation to pos_admin;
  grant select, insert, update, delete on pos.terminals to pos_admin;

  -- The owner is not held to the policies: the functions are the relay's wall. They are for those who read by hand.
  for v_object in
    select t.name, t.name = any ('{sync_log,heads}'::text[]) as of_relay, t.name = any ('{restaurants,heads}'::text[]) as of_admin
    from unnest(v_read) as t (name)
  loop
    execute format('grant select on pos.%I to pos_reader', v_object.name);
    execute format('alter table pos.%I enable row level security', v_object.name);
    execute format('drop policy if exists reader on pos.%I', v_object.name);
    execute format($policy$create policy reader on pos.%I for select to pos_reader
      using (restaurant_id = nullif(current_setting('pos.restaurant_id', true), '')::bigint)$policy$, v_object.name);
    if v_object.of_relay then
      execute format('drop policy if exists relay on pos.%I', v_object.name);
      execute format('create policy relay on pos.%I for select to pos_relay using (true)', v_object.name);
    end if;
    if v_object.of_admin then
      execute format('drop policy if exists admin on pos.%I', v_object.name);
      execute format('create policy admin on pos.%I for select to pos_admin using (true)', v_object.name);
    end if;
  end loop;
end
$$;
commit;
