-- One query an invariant, returning what violates it; :now where one depends on it. The first line of each is its statement.
-- What speaks of change (I3, I5, I7, I8), of cron arithmetic (the rest of I14) or of other wells (I18, I19) rows can't show.

-- name: I1
-- every event id that was accepted has its event, until that has grown too old
SELECT i.id FROM event_ids i WHERE i.seq > 0 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = i.seq AND e.id = i.id);

-- name: I2
-- for every function and event there is at most one run that is neither a rerun nor skipped
SELECT r.function_id || ' ' || v.event_id FROM run_events v JOIN runs r ON r.run_id = v.run_id LEFT JOIN ends e ON e.run_id = r.run_id
WHERE r.rerun_of IS NULL AND e.status IS NOT 'skipped'
GROUP BY r.function_id, v.event_id HAVING count(*) > 1;

-- name: I4
-- for every run and step key there is at most one result
SELECT run_id || ' ' || step_id || ' ' || occurrence FROM steps GROUP BY run_id, step_id, occurrence HAVING count(*) > 1;

-- name: I6
-- no result was recorded under a later epoch than its run has, or had at its end
SELECT s.run_id || ' ' || s.step_id FROM steps s LEFT JOIN queue q ON q.run_id = s.run_id LEFT JOIN ends e ON e.run_id = s.run_id
WHERE s.epoch > coalesce(q.epoch, e.epoch, -1);

-- name: I9
-- a running run is leased to a runner that the store knows
SELECT q.run_id FROM queue q
WHERE q.runner_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM runners l WHERE l.runner_id = q.runner_id);

-- name: I10
-- a sleeping or waiting run that is not due has an open wait, and will be due no later than the first of them
SELECT q.run_id FROM queue q LEFT JOIN waits w ON w.run_id = q.run_id AND w.kind <> 9
WHERE q.runner_id IS NULL AND q.state IN (1, 2) AND q.due > :now
GROUP BY q.run_id HAVING count(w.run_id) = 0 OR q.due > min(w.due);

-- name: I11
-- a run that has ended has no queue row and no wait
SELECT e.run_id FROM ends e
WHERE EXISTS (SELECT 1 FROM queue q WHERE q.run_id = e.run_id) OR EXISTS (SELECT 1 FROM waits w WHERE w.run_id = e.run_id);

-- name: I11_lost
-- every run is live or has ended
SELECT r.run_id FROM runs r
WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.run_id = r.run_id) AND NOT EXISTS (SELECT 1 FROM ends e WHERE e.run_id = r.run_id);

-- name: I12
-- no concurrency key has more unexpired leases than its limit
SELECT k.key FROM (
    SELECT q.key1 AS key, 0 AS place, q.function_id FROM queue q JOIN runners l ON l.runner_id = q.runner_id AND l.expires > :now
    WHERE q.key1 IS NOT NULL
    UNION ALL
    SELECT q.key2, 1, q.function_id FROM queue q JOIN runners l ON l.runner_id = q.runner_id AND l.expires > :now
    WHERE q.key2 IS NOT NULL AND q.key2 IS NOT q.key1
) k JOIN functions f ON f.function_id = k.function_id
GROUP BY k.key HAVING count(*) > min(CAST(f.spec AS TEXT) ->> ('$.concurrency[' || k.place || '].limit'));

-- name: I13
-- every due instant of a schedule has at most one ledger row
SELECT schedule_id || ' ' || due FROM ticks GROUP BY schedule_id, due HAVING count(*) > 1;

-- name: I14
-- no ledger row is later than what its schedule has accounted for, and the next one due lies after that
SELECT s.schedule_id FROM schedules s
WHERE (s.next_due > 0 AND s.next_due <= s.last_due)
    OR EXISTS (SELECT 1 FROM ticks t WHERE t.schedule_id = s.schedule_id AND t.due > s.last_due AND t.at >= s.created);

-- name: I15
-- every tick that fired has its run
SELECT t.schedule_id || ' ' || t.due FROM ticks t
WHERE t.outcome = 1 AND t.run_id IS NOT NULL AND t.run_id >= (SELECT min(r.run_id) FROM runs r)
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.run_id = t.run_id);

-- name: I16
-- a cancelled run has no result that was recorded after its cancellation
SELECT s.run_id || ' ' || s.step_id FROM ends e JOIN steps s ON s.run_id = e.run_id WHERE e.status = 'cancelled' AND s.ended > e.ended;

-- name: I17
-- no run was recovered more than five times without progress
SELECT run_id FROM queue WHERE recoveries > 5;

-- name: I20
-- no stored payload is over its limit
SELECT 'event ' || id FROM events WHERE length(data) > 524288
UNION ALL
SELECT 'step ' || run_id || ' ' || step_id FROM steps WHERE length(value) > 4194304
UNION ALL
SELECT 'run ' || run_id FROM steps GROUP BY run_id HAVING count(*) > 1000 OR sum(length(value)) > 33554432;
