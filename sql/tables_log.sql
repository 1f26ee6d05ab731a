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
  traceparent text,
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
comment on column pos.sync_log.traceparent is 'The trace that the change belongs to, as in W3C Trace Context. Null: it is not traced.';
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
comment on table pos.batches is 'Committed batches of the last day: a relay whose connection broke in COMMIT asks here before it tries again.';
comment on column pos.batches.batch_id is 'Given by the relay: the time, and a random number.';
comment on column pos.batches.refused is 'What of it was not applied: the pos.result by its place in the batch. Null when all was; {"closed": true}: nothing was, and nothing will be.';
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
