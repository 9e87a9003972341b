-- name: migrations_table
CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;

-- name: migrations_applied
SELECT name FROM migrations;

-- name: migration_done
INSERT INTO migrations VALUES (?, ?);

-- name: version
SELECT version FROM registry;

-- name: moved
UPDATE registry SET version = version + 1 RETURNING version;

-- name: functions
SELECT function_id, revision, pool, owner, spec FROM functions ORDER BY function_id;

-- name: listens
SELECT name, path FROM listens ORDER BY name, path;

-- name: schedules
SELECT schedule_id, function_id, cron, created, last_due, next_due FROM schedules ORDER BY schedule_id;

-- name: owned_functions
SELECT function_id, revision, pool, owner, spec FROM functions WHERE owner = ?;

-- name: owned_schedules
SELECT schedule_id, function_id, owner, cron FROM schedules WHERE owner = ?;

-- name: drop_functions
DELETE FROM functions WHERE owner = ?;

-- name: put_function
INSERT INTO functions (function_id, revision, pool, owner, spec) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (function_id) DO UPDATE SET revision = excluded.revision, pool = excluded.pool, owner = excluded.owner, spec = excluded.spec;

-- name: drop_schedules
DELETE FROM schedules WHERE owner = ? AND schedule_id NOT IN (SELECT value FROM json_each(?));

-- name: put_schedule
INSERT INTO schedules (schedule_id, function_id, owner, cron, created, last_due, next_due) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (schedule_id) DO UPDATE SET function_id = excluded.function_id, owner = excluded.owner, cron = excluded.cron;

-- name: listen
INSERT INTO listens (name, path) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING name;

-- name: enrol
INSERT INTO runners (runner_id, pools, functions, slots, expires, draining) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (runner_id) DO UPDATE SET pools = excluded.pools, functions = excluded.functions, slots = excluded.slots,
    expires = excluded.expires, draining = excluded.draining;

-- name: beat
UPDATE runners SET expires = ? WHERE runner_id = ? RETURNING runner_id;

-- name: hand_back
UPDATE queue SET runner_id = NULL, due = ?, since = ?, state = 0 WHERE runner_id = ?;

-- name: leave
DELETE FROM runners WHERE runner_id = ?;

-- name: held
SELECT run_id, epoch FROM queue WHERE runner_id = ? ORDER BY run_id;

-- name: expire_all
UPDATE runners SET expires = 0 RETURNING runner_id;
