-- name: journal_steps
SELECT run_id, step_id, occurrence, kind, ok, value, attempts, started, ended FROM steps
WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY rowid;

-- name: journal_waits
SELECT run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail FROM waits
WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY opened, step_id, occurrence;

-- name: journal_runs
SELECT run_id, inbox FROM queue WHERE run_id IN (SELECT value FROM json_each(?));

-- name: one_run
SELECT r.run_id, r.function_id, r.revision, r.trigger,
    coalesce(e.status, CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 1 THEN 'sleeping' WHEN q.state = 2 THEN 'waiting'
        ELSE 'queued' END),
    r.created, coalesce(q.started, e.started), e.ended, r.event_ids, r.input, e.value, r.rerun_of, q.due, q.since, r.pool, q.runner_id,
    q.blocked_on, q.attempt
FROM runs r LEFT JOIN ends e USING (run_id) LEFT JOIN queue q USING (run_id) WHERE r.run_id = ?;

-- name: runs
SELECT r.run_id, r.function_id, r.revision, r.trigger,
    coalesce(e.status, CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 1 THEN 'sleeping' WHEN q.state = 2 THEN 'waiting'
        ELSE 'queued' END) AS status,
    r.created, coalesce(q.started, e.started), e.ended, r.event_ids, r.input, e.value, r.rerun_of, q.due, q.since, r.pool, q.runner_id,
    q.blocked_on, q.attempt
FROM runs r LEFT JOIN ends e USING (run_id) LEFT JOIN queue q USING (run_id)
WHERE (:function IS NULL OR r.function_id = :function) AND (:before IS NULL OR r.run_id < :before)
    AND (:after_at IS NULL OR r.created >= :after_at) AND (:before_at IS NULL OR r.created < :before_at)
    AND (:status IS NULL OR coalesce(e.status, CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 1 THEN 'sleeping' WHEN q.state = 2 THEN 'waiting'
        ELSE 'queued' END) = :status) AND :event IS NULL
ORDER BY r.run_id DESC LIMIT :limit;

-- name: runs_of_event
SELECT r.run_id, r.function_id, r.revision, r.trigger,
    coalesce(e.status, CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 1 THEN 'sleeping' WHEN q.state = 2 THEN 'waiting'
        ELSE 'queued' END) AS status,
    r.created, coalesce(q.started, e.started), e.ended, r.event_ids, r.input, e.value, r.rerun_of, q.due, q.since, r.pool, q.runner_id,
    q.blocked_on, q.attempt
FROM run_events v JOIN runs r ON r.run_id = v.run_id LEFT JOIN ends e ON e.run_id = r.run_id LEFT JOIN queue q ON q.run_id = r.run_id
WHERE v.event_id = :event AND (:function IS NULL OR r.function_id = :function) AND (:before IS NULL OR r.run_id < :before)
    AND (:after_at IS NULL OR r.created >= :after_at) AND (:before_at IS NULL OR r.created < :before_at)
    AND (:status IS NULL OR coalesce(e.status, CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 1 THEN 'sleeping' WHEN q.state = 2 THEN 'waiting'
        ELSE 'queued' END) = :status)
ORDER BY r.run_id DESC LIMIT :limit;

-- name: attempts
SELECT step_id, occurrence, attempt, started, ended, error, retry_at FROM attempts WHERE run_id = ? ORDER BY rowid;

-- name: one_event
SELECT id, name, data, ts, received, registry_version FROM events WHERE seq = (SELECT seq FROM event_ids WHERE id = ?);

-- name: events
SELECT id, name, data, ts, received, registry_version FROM events
WHERE (:before IS NULL OR seq < (SELECT seq FROM event_ids WHERE id = :before)) AND :name IS NULL ORDER BY seq DESC LIMIT :limit;

-- name: events_named
SELECT id, name, data, ts, received, registry_version FROM events
WHERE name = :name AND (:before IS NULL OR seq < (SELECT seq FROM event_ids WHERE id = :before)) ORDER BY seq DESC LIMIT :limit;

-- name: decisions
SELECT function_id, decision, detail FROM decisions WHERE event_id = ? ORDER BY rowid;

-- name: key_holders
SELECT run_id FROM queue WHERE (key1 = ?1 OR key2 = ?1) AND runner_id IS NOT NULL ORDER BY run_id;

-- name: ledger
SELECT due, outcome, reason, run_id FROM ticks WHERE schedule_id = ? ORDER BY due DESC LIMIT ?;

-- name: stats
SELECT function_id,
    sum(runner_id IS NULL AND state = 0 AND due <= ?1), sum(runner_id IS NULL AND state = 0 AND due > ?1), sum(runner_id IS NOT NULL),
    sum(runner_id IS NULL AND state = 1), sum(runner_id IS NULL AND state = 2),
    max(0, ?1 - coalesce(min(CASE WHEN runner_id IS NULL AND due <= ?1 THEN due END), ?1)), sum(blocked_on IS NOT NULL),
    max(0, ?1 - coalesce(min(CASE WHEN blocked_on IS NOT NULL THEN due END), ?1))
FROM queue GROUP BY function_id ORDER BY function_id;

-- name: stats_keys
SELECT function_id, max(used) FROM (
    SELECT function_id, count(*) AS used FROM queue WHERE runner_id IS NOT NULL AND key1 IS NOT NULL GROUP BY function_id, key1
) GROUP BY function_id;

-- name: stats_revisions
SELECT function_id, revision, sum(due <= ?1), sum(due > ?1) FROM queue WHERE runner_id IS NULL GROUP BY function_id, revision;

-- name: stats_runners
SELECT runner_id, pools, functions, slots, expires, draining FROM runners WHERE expires > ? ORDER BY runner_id;

-- name: stats_overdue
SELECT count(*) FROM queue WHERE runner_id IS NULL AND blocked_on IS NULL AND due <= ? AND recoveries < 5;
