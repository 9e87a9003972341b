-- name: I2
-- for every (function, event) there is at most one run; reruns and skipped starts don't count
SELECT min(r.run_id) FROM run_events v JOIN runs r USING (run_id) LEFT JOIN ends e USING (run_id)
WHERE r.rerun_of IS NULL AND coalesce(e.status, '') <> 'skipped' AND r.trigger IN (1, 2)
GROUP BY v.event_id, r.function_id HAVING count(*) > 1;

-- name: I4
-- for every (run, step key) at most one result
SELECT run_id FROM steps GROUP BY run_id, step_id, occurrence HAVING count(*) > 1;

-- name: I6
-- a result's epoch is at most the run's epoch now
SELECT s.run_id FROM steps s JOIN queue q USING (run_id) WHERE s.epoch > q.epoch
UNION ALL SELECT s.run_id FROM steps s JOIN ends e USING (run_id) WHERE s.epoch > e.epoch;

-- name: I9
-- running: its queue row points to a lease row
SELECT q.run_id FROM queue q LEFT JOIN runners r USING (runner_id) WHERE q.runner_id IS NOT NULL AND r.runner_id IS NULL;

-- name: I10
-- sleeping: at least one open sleep; waiting: at least one open wait
SELECT q.run_id FROM queue q WHERE q.runner_id IS NULL AND q.state IN (1, 2) AND q.due > :now AND q.blocked_on IS NULL
    AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run_id = q.run_id AND w.kind IN (2, 3, 4, 6));

-- name: I11
-- terminal: no queue row, no wait row
SELECT e.run_id FROM ends e JOIN queue q USING (run_id)
UNION SELECT e.run_id FROM ends e JOIN waits w USING (run_id)
UNION SELECT w.run_id FROM waits w LEFT JOIN queue q USING (run_id) WHERE q.run_id IS NULL;

-- name: I12
-- for every concurrency key: leases at most its limit (a lowered limit counts only once leases were given under it)
SELECT q.key1 FROM queue q JOIN functions f USING (function_id)
WHERE q.runner_id IS NOT NULL AND q.key1 IS NOT NULL AND json_extract(CAST(f.spec AS TEXT), '$.concurrency[0].limit') > 0
GROUP BY q.key1, q.function_id HAVING count(*) > max(json_extract(CAST(f.spec AS TEXT), '$.concurrency[0].limit'));

-- name: I13
-- for every (schedule, due instant) at most one ledger row
SELECT schedule_id FROM ticks GROUP BY schedule_id, due HAVING count(*) > 1;

-- name: I15
-- every ledger row "fired" has its run
SELECT t.schedule_id FROM ticks t LEFT JOIN runs r ON r.run_id = t.run_id WHERE t.outcome = 1 AND r.run_id IS NULL;

-- name: I17
-- recoveries without progress are at most the limit
SELECT run_id FROM queue WHERE recoveries > 5;

-- name: I20
-- no stored payload exceeds its limit
SELECT run_id FROM steps WHERE length(value) > 4194304 UNION ALL SELECT id FROM events WHERE length(data) > 524288;

-- name: G4
-- every live run is claimable, leased, asleep, waiting or blocked: none is due never with nothing to wake it
SELECT q.run_id FROM queue q WHERE q.runner_id IS NULL AND q.due >= 4611686018427387904
    AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run_id = q.run_id AND w.kind IN (3, 4, 6));
