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
-- What is registered; what starts nothing is known while it has a revision.
SELECT function_id, revision, pool, owner, spec, active, since FROM functions
WHERE active OR function_id IN (SELECT function_id FROM revisions UNION ALL SELECT function_id || '-failure' FROM revisions)
ORDER BY function_id;

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
INSERT INTO functions (function_id, revision, pool, owner, spec, active) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (function_id) DO UPDATE
SET revision = excluded.revision, pool = excluded.pool, owner = excluded.owner, spec = excluded.spec, active = excluded.active
WHERE (revision, pool, owner, spec, active) <> (excluded.revision, excluded.pool, excluded.owner, excluded.spec, excluded.active);

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

-- name: put_revision
-- Add a revision, or change where its code lies.
INSERT INTO revisions (function_id, revision, pool, code, created) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (function_id, revision) DO UPDATE SET pool = excluded.pool, code = excluded.code
WHERE (pool, code) <> (excluded.pool, excluded.code);

-- name: revision_needed
-- Whether a revision is what an active function starts runs with, or what a live run is pinned to.
SELECT EXISTS (SELECT 1 FROM functions WHERE function_id IN (?1, ?1 || '-failure') AND revision = ?2 AND active)
    OR EXISTS (SELECT 1 FROM queue WHERE function_id IN (?1, ?1 || '-failure') AND revision = ?2);

-- name: drop_revision
-- Forget a revision.
DELETE FROM revisions WHERE function_id = ? AND revision = ?;

-- name: listen
-- Listen on a pair.
INSERT INTO listens (name, path) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: enrol
-- Make or renew a lease row.
INSERT INTO runners (runner_id, pools, functions, slots, expires, draining, broken, beaten)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (runner_id) DO UPDATE SET pools = excluded.pools, functions = excluded.functions, slots = excluded.slots,
    expires = excluded.expires, draining = excluded.draining, broken = excluded.broken, beaten = excluded.beaten;

-- name: beat
-- Renew a lease, if it is still there, and carry along what its steps tell, if that is any news.
UPDATE runners SET expires = ?, beaten = ?, told = coalesce(?, told) WHERE runner_id = ?;

-- name: move_runs
-- Pin live runs to another revision.
UPDATE queue SET revision = ?2, pool = ?3
WHERE function_id IN (?1, ?1 || '-failure') AND (revision <> ?2 OR pool <> ?3);

-- name: held
-- What a runner holds.
SELECT run_id, epoch FROM queue WHERE runner_id = ? ORDER BY run_id;

-- name: expire_all
-- End every lease.
UPDATE runners SET expires = 0 WHERE expires > 0;

-- name: keys
-- Every key that was given out.
SELECT key_id, name, kind, proof, events, created, created_by, revoked, revoked_by FROM access_keys ORDER BY created DESC, key_id;

-- name: add_key
-- Add a key, if its name has room for one.
INSERT INTO access_keys (key_id, name, kind, proof, events, created, created_by) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
WHERE (SELECT count(*) FROM access_keys WHERE name = ?2 AND revoked IS NULL) < ?8;

-- name: revoke_key
-- End a live key.
UPDATE access_keys SET revoked = ?3, revoked_by = ?2 WHERE key_id = ?1 AND revoked IS NULL;

-- name: note
-- Add an act to the audit.
INSERT INTO audit (at, actor, verb, object, decision, request_id, detail) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: audit
-- Acts, newest first.
SELECT at, actor, verb, object, decision, request_id, detail, audit_id FROM audit
WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR verb = ?2) AND (?3 IS NULL OR object = ?3) AND (?4 IS NULL OR audit_id < ?4)
ORDER BY audit_id DESC LIMIT ?5;

-- name: pauses
-- What somebody paused.
SELECT function_id, since, paused_by, reason, source FROM pauses ORDER BY function_id;

-- name: pause
-- Pause a function.
INSERT INTO pauses (function_id, since, paused_by, reason, source) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: resume
-- Pause it no longer.
DELETE FROM pauses WHERE function_id = ?;
