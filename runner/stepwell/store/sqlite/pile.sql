-- Statements of a pile. Those that read answer with one row: a JSON array or object. `?` that name many things are JSON arrays.
-- CROSS JOIN keeps the order of the tables: from the keys that are given to the rows that have them.

-- name: version
-- The registry's version.
SELECT version FROM registry;

-- name: candidates
-- Open waits and cancel listeners that an event of the pile may match.
SELECT json_group_array(json_array(w.run_id, w.kind, w.step_id, w.occurrence, w.due, w.opened, w.attempt, w.name, w.match_key, w.residual,
    CAST(w.context AS TEXT), w.target_run, CAST(w.detail AS TEXT)))
FROM json_each(?) k CROSS JOIN waits w ON w.match_key = k.value WHERE w.kind IN (3, 9);

-- name: leased
-- The epochs of those of these runs that somebody holds.
SELECT json_group_object(q.run_id, q.epoch) FROM json_each(?) t CROSS JOIN queue q ON q.run_id = t.value WHERE q.runner_id IS NOT NULL;

-- name: end_of
-- How a run ended.
SELECT epoch, status, value FROM ends WHERE run_id = ?;

-- name: tick_known
-- Whether a due instant was accounted for before.
SELECT 1 FROM ticks WHERE schedule_id = ? AND due = ?;

-- name: last_run
-- The last run that a schedule fired, if it lives.
SELECT q.run_id FROM schedules s JOIN queue q ON q.run_id = s.last_run WHERE s.schedule_id = ?;

-- name: tick
-- Account for a due instant.
INSERT INTO ticks (schedule_id, due, outcome, reason, run_id, at) VALUES (?, ?, ?, ?, ?, ?);

-- name: schedule_moved
-- Move a schedule on, never back.
UPDATE schedules SET last_due = max(last_due, ?), next_due = max(next_due, ?), last_run = coalesce(?, last_run) WHERE schedule_id = ?;

-- name: known_events
-- The hashes of those of these event ids that were accepted before.
SELECT json_group_object(i.id, hex(i.body_hash)) FROM json_each(?) t CROSS JOIN event_ids i ON i.id = t.value;

-- name: last_event
-- The place of the newest event.
SELECT json_array(coalesce(max(seq), 0)) FROM events;

-- name: event
-- Accepted events.
INSERT INTO events (seq, id, name, data, ts, received, registry_version) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: event_id
-- Their ids, for the dedupe.
INSERT INTO event_ids (id, body_hash, received, seq) VALUES (?, ?, ?, ?);

-- name: decide
-- Why an event started nothing, though its name matched.
INSERT INTO decisions (event_id, function_id, decision, detail, received) VALUES (?, ?, ?, ?, ?);

-- name: open_now
-- Which of these waits are open, since when, and whose they are.
SELECT json_group_array(json_array(t.key, w.opened, q.epoch, q.runner_id, q.pool))
FROM json_each(?) t
CROSS JOIN waits w ON w.run_id = t.value ->> 0 AND w.kind = t.value ->> 1 AND w.step_id = t.value ->> 2 AND w.occurrence = t.value ->> 3
CROSS JOIN queue q ON q.run_id = w.run_id;

-- name: not_open
-- Which of these waits are not open.
SELECT json_group_array(t.key) FROM json_each(?) t WHERE NOT EXISTS (
    SELECT 1 FROM waits w
    WHERE w.run_id = t.value ->> 0 AND w.kind = t.value ->> 1 AND w.step_id = t.value ->> 2 AND w.occurrence = t.value ->> 3);

-- name: take_waits
-- Close waits.
DELETE FROM waits WHERE (run_id, kind, step_id, occurrence) IN (
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?));

-- name: step
-- The journal: written once, never changed.
INSERT INTO steps (run_id, step_id, occurrence, kind, ok, value, attempts, started, ended, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: stored_step
-- What is recorded under a key.
SELECT epoch, value FROM steps WHERE run_id = ? AND step_id = ? AND occurrence = ?;

-- name: recorded
-- Which of these (run, step, occurrence) are recorded.
SELECT json_group_array(t.key) FROM json_each(?) t WHERE EXISTS (
    SELECT 1 FROM steps s WHERE s.run_id = t.value ->> 0 AND s.step_id = t.value ->> 1 AND s.occurrence = t.value ->> 2);

-- name: wake
-- News for runs: those that nobody holds are due now.
UPDATE queue SET inbox = inbox + ?, due = CASE WHEN runner_id IS NULL THEN min(due, ?) ELSE due END
WHERE run_id IN (SELECT value FROM json_each(?));

-- name: in_queue
-- Which of these runs live, and how.
SELECT json_group_array(json_array(q.run_id, q.epoch, q.runner_id, q.state, q.pool, q.inbox, q.key1, q.key2, q.started))
FROM json_each(?) t CROSS JOIN queue q ON q.run_id = t.value;

-- name: end
-- The last words of runs.
INSERT INTO ends (run_id, status, value, started, ended, epoch) VALUES (?, ?, ?, ?, ?, ?);

-- name: drop_queue
-- What has ended is no longer in the queue.
DELETE FROM queue WHERE run_id IN (SELECT value FROM json_each(?));

-- name: drop_waits
-- What has ended waits for nothing.
DELETE FROM waits WHERE run_id IN (SELECT value FROM json_each(?));

-- name: outbox
-- Note ends for the system events that follow.
INSERT INTO outbox (run_id, at) SELECT value, ? FROM json_each(?) WHERE true ON CONFLICT DO NOTHING;

-- name: outbox_done
-- Those whose system events are out.
DELETE FROM outbox WHERE run_id IN (SELECT value FROM json_each(?));

-- name: invokers
-- Who waits for the end of these runs.
SELECT json_group_array(json_array(w.run_id, w.step_id, w.occurrence, w.target_run))
FROM json_each(?) t CROSS JOIN waits w ON w.target_run = t.value WHERE w.kind = 4;

-- name: end_statuses
-- How those of these runs that have ended did.
SELECT json_group_object(e.run_id, e.status) FROM json_each(?) t CROSS JOIN ends e ON e.run_id = t.value;

-- name: end_values
-- How those of these runs that have ended did, and with what.
SELECT json_group_array(json_array(e.run_id, e.status, CAST(e.value AS TEXT))) FROM json_each(?) t CROSS JOIN ends e ON e.run_id = t.value;

-- name: known_runs
-- Which of these runs were started before.
SELECT json_group_array(r.run_id) FROM json_each(?) t CROSS JOIN runs r ON r.run_id = t.value;

-- name: known_keys
-- The runs that stand for these (function, idempotency key).
SELECT json_group_array(json_array(i.function_id, i.key, i.run_id)) FROM json_each(?) t
CROSS JOIN idempotency i ON i.function_id = t.value ->> 0 AND i.key = t.value ->> 1 WHERE i.expires > ?;

-- name: idempotency
-- The run that stands for a key from now on.
INSERT INTO idempotency (function_id, key, run_id, expires) VALUES (?, ?, ?, ?)
ON CONFLICT (function_id, key) DO UPDATE SET run_id = excluded.run_id, expires = excluded.expires;

-- name: alive
-- Which of these runners have a lease.
SELECT json_group_array(l.runner_id) FROM json_each(?) t CROSS JOIN runners l ON l.runner_id = t.value WHERE l.expires > ?;

-- name: run
-- New runs.
INSERT INTO runs (run_id, function_id, revision, pool, trigger, input, event_ids, created, rerun_of, registry_version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: run_event
-- The events that they stand for.
INSERT INTO run_events (event_id, run_id) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: skip
-- Starts that a rule refused: runs that ended as they began.
INSERT INTO ends (run_id, status, value, started, ended, epoch) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: enqueue
-- Their queue rows.
INSERT INTO queue (run_id, function_id, revision, pool, priority, due, since, created, runner_id, epoch, key1, key2, started, deadline,
    deadline_kind, finish_within)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: open_wait
-- Open waits; one that is open already moves on.
INSERT INTO waits (run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, kind, step_id, occurrence) DO UPDATE SET due = excluded.due, attempt = max(attempt, excluded.attempt),
    name = excluded.name, match_key = excluded.match_key, residual = excluded.residual, context = excluded.context,
    target_run = excluded.target_run, detail = excluded.detail;

-- name: attempt
-- Failed tries.
INSERT INTO attempts (run_id, step_id, occurrence, attempt, started, ended, error, retry_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: signal_wait
-- The wait that has been open longest for a signal.
SELECT run_id, step_id, occurrence FROM waits WHERE match_key = ? AND kind = 6 ORDER BY opened, run_id LIMIT 1;

-- name: park
-- Give leases back.
UPDATE queue SET runner_id = NULL, due = p.due, state = p.state, attempt = p.attempt, attempt_steps = p.attempt_steps, since = ?
FROM (SELECT value ->> 0 AS run_id, value ->> 1 AS due, value ->> 2 AS state, value ->> 3 AS attempt, value ->> 4 AS attempt_steps
      FROM json_each(?)) p
WHERE queue.run_id = p.run_id;

-- name: waited_for
-- Which of these concurrency keys block somebody.
SELECT json_group_array(t.value) FROM json_each(?) t WHERE EXISTS (SELECT 1 FROM queue b WHERE b.blocked_on = t.value);

-- name: oldest_blocked
-- The runs that a key has blocked, oldest due first.
SELECT json_group_array(json_array(b.run_id, b.pool)) FROM (
    SELECT run_id, pool FROM queue WHERE blocked_on = ? ORDER BY due, run_id LIMIT ?) b;

-- name: unblock
-- Make blocked runs claimable again.
UPDATE queue SET blocked_on = NULL, lifted = ? WHERE run_id IN (SELECT value FROM json_each(?));
