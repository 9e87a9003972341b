-- name: version
SELECT version FROM registry;

-- name: candidates
SELECT run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail
FROM waits WHERE match_key IN (SELECT value FROM json_each(?)) AND kind IN (3, 9);

-- name: fence
SELECT epoch, runner_id FROM queue WHERE run_id = ?;

-- name: ended_under
SELECT epoch FROM ends WHERE run_id = ?;

-- name: tick_known
SELECT 1 FROM ticks WHERE schedule_id = ? AND due = ?;

-- name: schedule_last
SELECT last_run FROM schedules WHERE schedule_id = ?;

-- name: live
SELECT 1 FROM queue WHERE run_id = ?;

-- name: tick
INSERT INTO ticks (schedule_id, due, outcome, reason, run_id, at) VALUES (?, ?, ?, ?, ?, ?);

-- name: schedule_moved
UPDATE schedules SET last_due = max(last_due, ?), next_due = max(next_due, ?), last_run = coalesce(?, last_run) WHERE schedule_id = ?;

-- name: event_known
SELECT body_hash FROM event_ids WHERE id = ?;

-- name: event
INSERT INTO events (id, name, data, ts, received, registry_version) VALUES (?, ?, ?, ?, ?, ?);

-- name: event_id
INSERT INTO event_ids (id, body_hash, received, seq) VALUES (?, ?, ?, ?);

-- name: decide
INSERT INTO decisions (event_id, function_id, decision, detail, received) VALUES (?, ?, ?, ?, ?);

-- name: take_wait
DELETE FROM waits WHERE run_id = ? AND kind = ? AND step_id = ? AND occurrence = ? RETURNING opened;

-- name: step
INSERT INTO steps (run_id, step_id, occurrence, kind, ok, value, attempts, started, ended, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, step_id, occurrence) DO NOTHING;

-- name: stored_step
SELECT epoch, value FROM steps WHERE run_id = ? AND step_id = ? AND occurrence = ?;

-- name: wake
UPDATE queue SET inbox = inbox + ?1, due = CASE WHEN runner_id IS NULL THEN min(due, ?2) ELSE due END WHERE run_id = ?3
RETURNING runner_id, pool;

-- name: end_status
SELECT status FROM ends WHERE run_id = ?;

-- name: end_value
SELECT status, value FROM ends WHERE run_id = ?;

-- name: leave_queue
DELETE FROM queue WHERE run_id = ? RETURNING epoch, runner_id, key1, key2, started;

-- name: end
INSERT INTO ends (run_id, status, value, started, ended, epoch) VALUES (?, ?, ?, ?, ?, ?);

-- name: drop_waits
DELETE FROM waits WHERE run_id = ?;

-- name: outbox
INSERT INTO outbox (run_id, at) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: outbox_done
DELETE FROM outbox WHERE run_id = ?;

-- name: invokers
DELETE FROM waits WHERE target_run = ? AND kind = 4 RETURNING run_id, step_id, occurrence, opened, target_run;

-- name: run_known
SELECT 1 FROM runs WHERE run_id = ?;

-- name: idempotency_known
SELECT run_id FROM idempotency WHERE function_id = ? AND key = ? AND expires > ?;

-- name: idempotency
INSERT INTO idempotency (function_id, key, run_id, expires) VALUES (?, ?, ?, ?)
ON CONFLICT (function_id, key) DO UPDATE SET run_id = excluded.run_id, expires = excluded.expires;

-- name: run
INSERT INTO runs (run_id, function_id, revision, pool, trigger, input, event_ids, created, rerun_of, registry_version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: run_event
INSERT INTO run_events (event_id, run_id) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: enqueue
INSERT INTO queue (run_id, function_id, revision, pool, priority, due, state, since, created, runner_id, epoch, key1, key2, started, deadline,
    deadline_kind, finish_within)
VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: open_wait
INSERT INTO waits (run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, kind, step_id, occurrence) DO UPDATE SET due = excluded.due, attempt = max(attempt, excluded.attempt),
    detail = excluded.detail;

-- name: attempt
INSERT INTO attempts (run_id, step_id, occurrence, attempt, started, ended, error, retry_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: signal_wait
SELECT run_id, step_id, occurrence FROM waits WHERE match_key = ? AND kind = 6 ORDER BY opened, run_id LIMIT 1;

-- name: park
UPDATE queue SET runner_id = NULL, due = CASE WHEN inbox > ? THEN ? ELSE ? END, state = ?, attempt = ?, attempt_steps = ?, since = ?
WHERE run_id = ? RETURNING key1, key2, pool, due;
