-- name: runner
SELECT expires, draining FROM runners WHERE runner_id = ?;

-- name: claimable
SELECT run_id, function_id, key1, key2, due FROM queue
WHERE pool = ? AND runner_id IS NULL AND blocked_on IS NULL AND due <= ? AND recoveries < ? ORDER BY due, run_id LIMIT ? OFFSET ?;

-- name: count_key1
SELECT count(*) FROM queue WHERE key1 = ? AND runner_id IS NOT NULL;

-- name: count_key2
SELECT count(*) FROM queue WHERE key2 = ? AND runner_id IS NOT NULL;

-- name: block
UPDATE queue SET blocked_on = ? WHERE run_id = ?;

-- name: unblock
UPDATE queue SET blocked_on = NULL WHERE run_id IN (SELECT run_id FROM queue WHERE blocked_on = ? ORDER BY due, run_id LIMIT ?)
RETURNING pool;

-- name: blocked_keys
SELECT DISTINCT blocked_on, CASE WHEN blocked_on = key1 THEN 1 ELSE 2 END, function_id FROM queue WHERE blocked_on IS NOT NULL;

-- name: take
UPDATE queue SET runner_id = ?1, epoch = epoch + 1, state = 0, since = ?2, started = coalesce(started, ?2),
    deadline = CASE WHEN epoch = 0 THEN ?2 + finish_within ELSE deadline END,
    deadline_kind = CASE WHEN epoch = 0 THEN CASE WHEN finish_within IS NULL THEN NULL ELSE 'finish' END ELSE deadline_kind END
WHERE run_id = ?3 RETURNING revision, epoch, inbox, attempt, attempt_steps, created, recoveries > 0;

-- name: input
SELECT trigger, input FROM runs WHERE run_id = ?;

-- name: held_now
SELECT epoch, runner_id, inbox FROM queue WHERE run_id = ?;

-- name: next_due
SELECT min(due) FROM queue WHERE pool = ? AND runner_id IS NULL AND blocked_on IS NULL AND due > ?;

-- name: next_deadline
SELECT min(deadline) FROM queue WHERE deadline > ?;

-- name: expired_runners
SELECT runner_id FROM runners WHERE expires <= ?;

-- name: held_by
SELECT run_id, key1, key2, pool FROM queue WHERE runner_id = ?;

-- name: recover
UPDATE queue SET runner_id = NULL, due = ?2, since = ?2,
    recoveries = CASE WHEN (SELECT count(*) FROM steps WHERE steps.run_id = ?1) > recovered_steps THEN 1 ELSE recoveries + 1 END,
    recovered_steps = (SELECT count(*) FROM steps WHERE steps.run_id = ?1)
WHERE run_id = ?1;

-- name: forget_runner
DELETE FROM runners WHERE runner_id = ?;

-- name: overdue
SELECT run_id, function_id, deadline_kind FROM queue WHERE deadline <= ?1
UNION ALL SELECT run_id, function_id, 'poison' FROM queue WHERE recoveries >= ?2 AND runner_id IS NULL LIMIT 500;

-- name: outbox_waiting
SELECT run_id FROM outbox ORDER BY at LIMIT 100;
