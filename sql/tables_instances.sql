-- Which relays run, and what people ask all of them at once. Unlogged: after a crash each relay says again that it is here.

create unlogged table if not exists pos.instances (
  instance_id text not null,
  host text not null,
  port integer not null,
  version text not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  constraint instances_key primary key (instance_id)
);
comment on table pos.instances is 'The relays that run on this database, as they say themselves every few seconds. A row of one that ended without a word goes after an hour.';
comment on column pos.instances.instance_id is 'Random, of one run of a relay.';
comment on column pos.instances.host is 'Name of its machine.';
comment on column pos.instances.port is 'The port it serves terminals on.';
comment on column pos.instances.version is 'The version of its package.';
comment on column pos.instances.started_at is 'When it came.';
comment on column pos.instances.seen_at is 'When it said last that it is here; it counts as silent after 15 seconds.';

create unlogged table if not exists pos.calls (
  call_id uuid not null default gen_random_uuid(),
  kind text not null,
  restaurant_id bigint,
  client_id text,
  terminal text,
  instance_id text,
  come_back boolean not null default false,
  created_at timestamptz not null default now(),
  constraint calls_key primary key (call_id),
  constraint calls_kind check (kind in ('list', 'kick', 'board'))
);
comment on table pos.calls is 'Roll calls of the last minute: who asked the relays which terminals they have, or to close some.';
comment on column pos.calls.call_id is 'Random.';
comment on column pos.calls.kind is 'list: which terminals are connected; kick: close those that are meant; board: what the page /board shows.';
comment on column pos.calls.restaurant_id is 'Only terminals of this restaurant; null: of all.';
comment on column pos.calls.client_id is 'Only terminals with this client id; null: with any.';
comment on column pos.calls.terminal is 'Only terminals of this name; null: of any.';
comment on column pos.calls.instance_id is 'Only of this relay; null: of all.';
comment on column pos.calls.come_back is 'Of a kick: whether the terminals are told to connect again.';
comment on column pos.calls.created_at is 'When it was asked; a relay answers within ten seconds or not at all.';

create unlogged table if not exists pos.call_answers (
  call_id uuid not null,
  instance_id text not null,
  terminals jsonb not null,
  answered_at timestamptz not null default now(),
  constraint call_answers_key primary key (call_id, instance_id)
);
comment on table pos.call_answers is 'What each relay answered to a roll call of the last minute.';
comment on column pos.call_answers.call_id is 'The call.';
comment on column pos.call_answers.instance_id is 'The relay.';
comment on column pos.call_answers.terminals is 'A list of the terminals that are meant, as relay terminals --json shows them; of a kick those that were closed; for a board an object with all that it shows.';
comment on column pos.call_answers.answered_at is 'When.';
