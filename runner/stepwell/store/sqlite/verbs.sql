-- What is no pile: the schema, leases, the registry.

-- name: migrations_there
-- Whether the file has a well at all.
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'migrations';

-- name: migrations_table
-- Where applied migrations are noted.
CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, digest TEXT NOT NULL, at INTEGER NOT NULL) STRICT;

-- name: migrations_applied
-- What is there, and with which text it was made.
SELECT name, digest FROM migrations;

-- name: migration_done
-- Note one.
INSERT INTO migrations (name, digest, at) VALUES (?, ?, ?);

-- name: version
-- The registry's version.
SELECT version FROM registry;

-- name: moved
-- The registry's next version.
UPDATE registry SET version = version + 1 RETURNING version;

-- name: functions
-- What is registered.
SELECT function_id, revision, pool, owner, spec FROM functions WHERE active ORDER BY function_id;

-- name: listens
-- What waits listen on.
SELECT name, path FROM listens ORDER BY name, path;

-- name: schedules
-- What is planned.
SELECT schedule_id, function_id, cron, created, last_due, next_due FROM schedules WHERE active ORDER BY schedule_id;

-- name: drop_functions
-- An owner's functions that are no longer wanted.
UPDATE functions SET active = 0 WHERE owner = ? AND active AND function_id NOT IN (SELECT value FROM json_each(?));

-- name: put_function
-- Register a function, or change it.
INSERT INTO functions (function_id, revision, pool, owner, spec) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (function_id) DO UPDATE
SET revision = excluded.revision, pool = excluded.pool, owner = excluded.owner, spec = excluded.spec, active = 1
WHERE (revision, pool, owner, spec, active) <> (excluded.revision, excluded.pool, excluded.owner, excluded.spec, 1);

-- name: drop_schedules
-- An owner's schedules that are no longer wanted.
UPDATE schedules SET active = 0 WHERE owner = ? AND active AND schedule_id NOT IN (SELECT value FROM json_each(?));

-- name: put_schedule
-- Register a schedule, or change it. One that was away begins anew: what fell due meanwhile was nobody's.
INSERT INTO schedules (schedule_id, function_id, owner, cron, created, last_due, next_due) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (schedule_id) DO UPDATE
SET function_id = excluded.function_id, owner = excluded.owner, cron = excluded.cron, active = 1,
    created = CASE WHEN active THEN created ELSE excluded.created END,
    last_due = CASE WHEN active THEN last_due ELSE excluded.last_due END,
    next_due = CASE WHEN active THEN next_due ELSE excluded.next_due END
WHERE (function_id, owner, cron, active) <> (excluded.function_id, excluded.owner, excluded.cron, 1);

-- name: listen
-- Listen on a pair.
INSERT INTO listens (name, path) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: enrol
-- Make or renew a lease row.
INSERT INTO runners (runner_id, pools, functions, slots, expires, draining) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (runner_id) DO UPDATE SET pools = excluded.pools, functions = excluded.functions, slots = excluded.slots,
    expires = excluded.expires, draining = excluded.draining;

-- name: beat
-- Renew a lease, if it is still there.
UPDATE runners SET expires = ? WHERE runner_id = ?;

-- name: held
-- What a runner holds.
SELECT run_id, epoch FROM queue WHERE runner_id = ? ORDER BY run_id;

-- name: expire_all
-- End every lease.
UPDATE runners SET expires = 0 WHERE expires > 0;
