-- What is read for resuming and for people. `run_rows` is a view (migrations/0001_well.sql); its `status` is the one of the last write,
-- and a run whose time has come since is queued.

-- name: journals
-- What live runs have recorded, in that order, and what they wait for: one row a run.
SELECT q.run_id, q.inbox,
    (SELECT json_group_array(json_array(s.step_id, s.occurrence, s.kind, s.ok, CAST(s.value AS TEXT), s.attempts, s.started, s.ended)
        ORDER BY s.rowid) FROM steps s WHERE s.run_id = q.run_id),
    (SELECT json_group_array(json_array(w.kind, w.step_id, w.occurrence, w.due, w.opened, w.attempt, w.name, w.match_key, w.residual,
        CAST(w.context AS TEXT), w.target_run, CAST(w.detail AS TEXT)) ORDER BY w.opened, w.kind, w.step_id, w.occurrence)
        FROM waits w WHERE w.run_id = q.run_id)
FROM json_each(?) t CROSS JOIN queue q ON q.run_id = t.value;

-- name: one_run
-- One run.
SELECT * FROM run_rows WHERE run_id = ?;

-- name: progress
-- What the last beat of a run's runner carried of its attempts that are not over.
SELECT json_group_array(json(w.value))
FROM queue q CROSS JOIN runners l ON l.runner_id = q.runner_id CROSS JOIN json_each(l.told) w
WHERE q.run_id = ?1 AND w.value ->> 0 = ?1
    AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.run_id = ?1 AND s.step_id = w.value ->> 1 AND s.occurrence = w.value ->> 2)
    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.run_id = ?1 AND a.step_id = w.value ->> 1 AND a.occurrence = w.value ->> 2
        AND a.attempt = w.value ->> 3);

-- name: waits
-- What a run waits for.
SELECT json_group_array(json_array(kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, CAST(context AS TEXT),
    target_run, CAST(detail AS TEXT)) ORDER BY opened, kind, step_id, occurrence)
FROM waits WHERE run_id = ?;

-- name: runs
-- Runs, newest first.
SELECT * FROM run_rows
WHERE (:before IS NULL OR run_id < :before) AND (:after_at IS NULL OR created >= :after_at) AND (:before_at IS NULL OR created < :before_at)
ORDER BY run_id DESC LIMIT :limit;

-- name: runs_of_function
-- Runs of one function, newest first.
SELECT * FROM run_rows
WHERE function_id = :function AND (:before IS NULL OR run_id < :before)
    AND (:status IS NULL OR CASE WHEN status IN ('sleeping', 'waiting') AND due <= :now THEN 'queued' ELSE status END = :status)
    AND (:after_at IS NULL OR created >= :after_at) AND (:before_at IS NULL OR created < :before_at)
ORDER BY run_id DESC LIMIT :limit;

-- name: runs_live
-- Live runs of one status, newest first.
SELECT * FROM run_rows WHERE run_id IN (
    SELECT q.run_id FROM queue q
    WHERE CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 0 OR q.due <= :now THEN 'queued'
            WHEN q.state = 1 THEN 'sleeping' ELSE 'waiting' END = :status
        AND (:before IS NULL OR q.run_id < :before)
        AND (:after_at IS NULL OR q.created >= :after_at) AND (:before_at IS NULL OR q.created < :before_at)
    ORDER BY q.run_id DESC LIMIT :limit)
ORDER BY run_id DESC;

-- name: runs_completed
-- Completed runs, newest first: most are.
SELECT * FROM run_rows WHERE run_id IN (
    SELECT e.run_id FROM ends e CROSS JOIN runs r ON r.run_id = e.run_id
    WHERE e.status = :status AND (:before IS NULL OR e.run_id < :before)
        AND (:after_at IS NULL OR r.created >= :after_at) AND (:before_at IS NULL OR r.created < :before_at)
    ORDER BY e.run_id DESC LIMIT :limit)
ORDER BY run_id DESC;

-- name: runs_ended
-- Runs that ended in another way, newest first.
SELECT * FROM run_rows WHERE run_id IN (
    SELECT e.run_id FROM ends e CROSS JOIN runs r ON r.run_id = e.run_id
    WHERE e.status = :status AND e.status <> 'completed' AND (:before IS NULL OR e.run_id < :before)
        AND (:after_at IS NULL OR r.created >= :after_at) AND (:before_at IS NULL OR r.created < :before_at)
    ORDER BY e.run_id DESC LIMIT :limit)
ORDER BY run_id DESC;

-- name: runs_of_event
-- The runs that an event is the input of, newest first.
SELECT * FROM run_rows
WHERE run_id IN (SELECT v.run_id FROM run_events v WHERE v.event_id = :event)
    AND (:function IS NULL OR function_id = :function) AND (:before IS NULL OR run_id < :before)
    AND (:after_at IS NULL OR created >= :after_at) AND (:before_at IS NULL OR created < :before_at)
    AND (:status IS NULL OR CASE WHEN status IN ('sleeping', 'waiting') AND due <= :now THEN 'queued' ELSE status END = :status)
ORDER BY run_id DESC LIMIT :limit;

-- name: steps
-- A run's journal, in the order recorded.
SELECT step_id, occurrence, kind, ok, value, attempts, started, ended FROM steps WHERE run_id = ? ORDER BY rowid;

-- name: attempts
-- A run's failed tries.
SELECT step_id, occurrence, attempt, started, ended, error, retry_at FROM attempts WHERE run_id = ? ORDER BY started, attempt;

-- name: one_event
-- One event.
SELECT id, name, data, ts, received, registry_version FROM events
WHERE seq = (SELECT i.seq FROM event_ids i WHERE i.id = ?1) AND id = ?1;

-- name: events
-- Events, newest first.
SELECT id, name, data, ts, received, registry_version FROM events
WHERE :before IS NULL OR seq < (SELECT i.seq FROM event_ids i WHERE i.id = :before) ORDER BY seq DESC LIMIT :limit;

-- name: events_named
-- Events of one name, newest first.
SELECT id, name, data, ts, received, registry_version FROM events
WHERE name = :name AND (:before IS NULL OR seq < (SELECT i.seq FROM event_ids i WHERE i.id = :before)) ORDER BY seq DESC LIMIT :limit;

-- name: decisions
-- Why an event started nothing, though its name matched.
SELECT function_id, decision, detail FROM decisions
WHERE event_id = ? AND decision NOT IN ('ended wait', 'cancelled run') ORDER BY function_id, decision, detail;

-- name: ended_by
-- The waits that an event ended and the runs that it cancelled: what was decided as it came in, where the run's rows name it.
SELECT r.function_id, d.run_id, d.step_id FROM (
    SELECT DISTINCT substr(o.detail, 1, 26) AS run_id, CASE o.decision WHEN 'ended wait' THEN substr(o.detail, 28) END AS step_id
    FROM decisions o WHERE o.event_id = ?1 AND o.decision IN ('ended wait', 'cancelled run')
    ORDER BY 1, 2 LIMIT ?2) d
CROSS JOIN runs r ON r.run_id = d.run_id
WHERE CASE WHEN d.step_id IS NULL
    THEN EXISTS (SELECT 1 FROM ends e WHERE e.run_id = d.run_id AND e.status = 'cancelled'
                 AND instr(json_extract(CAST(e.value AS TEXT), '$.message'), '(' || ?1 || ')') > 0)
    ELSE EXISTS (SELECT 1 FROM steps s WHERE s.run_id = d.run_id AND s.step_id = d.step_id AND s.kind = 3 AND s.ok
                 AND json_extract(CAST(s.value AS TEXT), '$.id') = ?1) END
ORDER BY 2, 3;

-- name: key_holders
-- Whose unexpired leases count under a concurrency key.
SELECT q.run_id FROM queue q JOIN runners l ON l.runner_id = q.runner_id AND l.expires > ?2
WHERE (q.key1 = ?1 OR q.key2 = ?1) AND q.runner_id IS NOT NULL ORDER BY q.run_id;

-- name: ledger
-- A schedule's ticks, newest first.
SELECT due, outcome, reason, run_id FROM ticks WHERE schedule_id = ? ORDER BY due DESC LIMIT ?;

-- name: revisions
-- The revisions of one pool, or all.
SELECT function_id, revision, pool, code, created FROM revisions WHERE ?1 IS NULL OR pool = ?1 ORDER BY function_id, created, revision;

-- name: work
-- What lives, by function, revision and pool.
SELECT function_id, revision, pool, count(*), sum(runner_id IS NULL AND (state = 0 OR due <= ?1)),
    sum(runner_id IS NULL AND blocked_on IS NULL AND due <= ?1), sum(runner_id IS NOT NULL),
    min(CASE WHEN runner_id IS NULL AND due > ?1 AND due < ?2 THEN due END)
FROM queue GROUP BY function_id, revision, pool ORDER BY function_id, revision, pool;

-- name: live_runs
-- A function's unfinished runs, oldest first.
SELECT run_id FROM queue WHERE function_id = ? ORDER BY run_id LIMIT ?;

-- name: stats
-- The live figures in one statement, so of one snapshot. What a pause holds isn't due; whose time has come is queued:
-- {now, functions: [id, queued, running, sleeping, waiting, oldest due, queued due, queued later, held by a pause],
-- limits: [function, place, in use, blocked, oldest blocked], revisions: [function, revision, due, later], runners,
-- overdue: [function, leases under the first key, under the second, runs], next}.
WITH keyed AS MATERIALIZED (
    SELECT q.function_id, q.run_id, k.place, CASE k.place WHEN 1 THEN q.key1 ELSE q.key2 END AS key, q.due, q.blocked_on,
        l.runner_id IS NOT NULL AS leased
    FROM queue q CROSS JOIN (SELECT 1 AS place UNION ALL SELECT 2) k LEFT JOIN runners l ON l.runner_id = q.runner_id AND l.expires > ?1
    WHERE (k.place = 1 AND q.key1 IS NOT NULL) OR (k.place = 2 AND q.key2 IS NOT NULL AND q.key2 IS NOT q.key1)),
used AS (SELECT key, count(*) AS leases FROM keyed WHERE leased GROUP BY key),
live AS (SELECT q.*, p.function_id IS NOT NULL AS paused FROM queue q LEFT JOIN pauses p ON p.function_id = q.function_id)
SELECT json_object(
    'now', ?1,
    'functions', json((SELECT json_group_array(json_array(
        f.function_id, f.queued, f.running, f.sleeping, f.waiting, f.oldest, f.due, f.later, f.paused)) FROM (
        SELECT function_id, sum(runner_id IS NULL AND (state = 0 OR due <= ?1)) AS queued, sum(runner_id IS NOT NULL) AS running,
            sum(runner_id IS NULL AND state = 1 AND due > ?1) AS sleeping, sum(runner_id IS NULL AND state = 2 AND due > ?1) AS waiting,
            min(CASE WHEN runner_id IS NULL AND blocked_on IS NULL AND due <= ?1 AND NOT paused THEN due END) AS oldest,
            sum(runner_id IS NULL AND blocked_on IS NULL AND due <= ?1 AND NOT paused) AS due,
            sum(runner_id IS NULL AND state = 0 AND due > ?1) AS later, sum(runner_id IS NULL AND due <= ?1 AND paused) AS paused
        FROM live GROUP BY function_id ORDER BY function_id) f)),
    'limits', json((SELECT json_group_array(json_array(m.function_id, m.place, m.used, m.blocked, m.oldest)) FROM (
        SELECT k.function_id, k.place, coalesce(max(u.leases), 0) AS used, sum(k.blocked_on IS k.key) AS blocked,
            min(CASE WHEN k.blocked_on IS k.key THEN k.due END) AS oldest
        FROM keyed k LEFT JOIN used u ON u.key = k.key GROUP BY k.function_id, k.place ORDER BY k.function_id, k.place) m)),
    'revisions', json((SELECT json_group_array(json_array(v.function_id, v.revision, v.due, v.later)) FROM (
        SELECT function_id, revision, sum(due <= ?1 AND NOT paused) AS due, sum(due > ?1) AS later FROM live
        WHERE runner_id IS NULL GROUP BY function_id, revision ORDER BY function_id, revision) v)),
    'runners', json((SELECT json_group_array(json_array(l.runner_id, json(l.pools), json(l.functions), l.slots, l.expires, l.draining,
        json(l.broken))) FROM (
        SELECT * FROM runners WHERE expires > ?1 ORDER BY runner_id) l)),
    'overdue', json((SELECT json_group_array(json_array(o.function_id, o.first, o.second, o.runs)) FROM (
        SELECT q.function_id, coalesce(one.leases, 0) AS first, coalesce(two.leases, 0) AS second, count(*) AS runs
        FROM live q LEFT JOIN used one ON one.key = q.key1 LEFT JOIN used two ON two.key = q.key2
        WHERE q.runner_id IS NULL AND q.blocked_on IS NULL AND q.state <> 0 AND q.recoveries < 5 AND q.due <= ?1 - 1000000
            AND NOT q.paused
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3) o)),
    'next', json((SELECT json_group_array(json_array(s.function_id, s.due)) FROM (
        SELECT function_id, min(next_due) AS due FROM schedules WHERE active AND next_due > 0 GROUP BY function_id ORDER BY function_id) s)),
    'horizon', NULL, 'dead', json_array());

-- name: stats_runners
-- Every live lease.
SELECT runner_id, pools, functions, slots, expires, draining, broken FROM runners WHERE expires > ? ORDER BY runner_id;
