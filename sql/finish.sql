-- The default restaurant, the version, and who may call what.

insert into pos.restaurants (slug, name) values ('default', 'Default restaurant') on conflict do nothing;
insert into pos.installation (version) values (1) on conflict (only_row) do update set version = excluded.version;

revoke all on all functions in schema pos from public;
