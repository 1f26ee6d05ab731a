-- Installs or upgrades the relay's schema `pos`, in one transaction; running it again changes nothing.
--
--   psql -d minipos_db -f sql/schema.sql
--
-- `relay schema apply` reads this same file with a loader of its own, which knows `\set ON_ERROR_STOP on` and `\ir FILE`
-- and no other backslash command.

\set ON_ERROR_STOP on
begin isolation level read committed;
\ir guard.sql
\ir upgrade/2.sql
\ir upgrade/3.sql
\ir tables.sql
\ir tables_log.sql
\ir tables_instances.sql
\ir rows.sql
\ir log.sql
\ir triggers.sql
\ir triggers_rows.sql
\ir triggers_deletes.sql
\ir orders.sql
\ir answers.sql
\ir update_table.sql
\ir update_menu.sql
\ir update_order.sql
\ir update_settings.sql
\ir staff.sql
\ir terminals.sql
\ir apply_sets.sql
\ir apply.sql
\ir begin.sql
\ir reads.sql
\ir upkeep.sql
\ir retention.sql
\ir audit.sql
\ir rollcall.sql
\ir board.sql
\ir finish.sql
\ir grants.sql
commit;
