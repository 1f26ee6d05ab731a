-- The default restaurant, the version, and who may call what.

-- Only a new database gets it: somebody may have given it another slug since.
insert into pos.restaurants (slug, name)
select 'default', 'Default restaurant' where not exists (select from pos.restaurants);
insert into pos.installation as i (version) values (2)
on conflict (only_row) do update set version = excluded.version where i.version <> excluded.version;

revoke all on all functions in schema pos from public;
