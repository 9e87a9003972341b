-- Leases: the sweep, the concurrency limits, the claim, the news. Those that read answer with one row, as in pile.sql.

-- name: runner
-- Whether a runner may claim, and what it may not: functions that are paused.
SELECT (SELECT json_group_array(p.function_id) FROM pauses p) FROM runners l WHERE l.runner_id = ? AND l.expires > ? AND NOT l.draining;

-- name: claimable
-- What is due in a pool, oldest due first.
SELECT json_group_array(json_array(c.due, c.run_id, c.function_id, c.key1, c.key2)) FROM (
    SELECT due, run_id, function_id, key1, key2 FROM queue
    WHERE pool = ?1 AND runner_id IS NULL AND blocked_on IS NULL AND due <= ?2 AND recoveries < ?3
        AND function_id IN (SELECT value FROM json_each(?4))
    ORDER BY due, run_id LIMIT ?5) c;

-- name: leases_under
-- How many leases count under each of these concurrency keys.
SELECT json_group_object(t.value,
    (SELECT count(*) FROM queue q WHERE q.key1 = t.value AND q.runner_id IS NOT NULL)
    + (SELECT count(*) FROM queue q WHERE q.key2 = t.value AND q.key1 IS NOT t.value AND q.runner_id IS NOT NULL))
FROM json_each(?) t;

-- name: block
-- Take runs whose key is full out of what is claimable.
UPDATE queue SET blocked_on = b.key FROM (SELECT value ->> 0 AS run_id, value ->> 1 AS key FROM json_each(?)) b
WHERE queue.run_id = b.run_id;

-- name: take
-- Lease runs.
UPDATE queue SET runner_id = ?1, epoch = epoch + 1, state = 0, since = ?2, started = coalesce(started, ?2),
    deadline = CASE WHEN started IS NULL THEN ?2 + finish_within ELSE deadline END,
    deadline_kind = CASE WHEN started IS NULL THEN CASE WHEN finish_within IS NULL THEN NULL ELSE 'finish' END ELSE deadline_kind END
WHERE run_id IN (SELECT value FROM json_each(?3));

-- name: taken
-- What an execution needs to know of its run.
SELECT json_group_array(json_array(q.run_id, q.function_id, q.revision, q.epoch, q.inbox, q.attempt, q.attempt_steps, q.created,
    r.trigger, CAST(r.input AS TEXT), q.recoveries > 0,
    iif(q.lifted > q.due, q.lifted, 0)))
FROM json_each(?) t CROSS JOIN queue q ON q.run_id = t.value CROSS JOIN runs r ON r.run_id = q.run_id;

-- name: news
-- Held runs that are no longer ours (-1) or whose inbox has grown.
SELECT json_group_array(json_array(t.value ->> 0, coalesce(q.inbox, -1)))
FROM json_each(?1) t LEFT JOIN queue q ON q.run_id = t.value ->> 0 AND q.epoch = t.value ->> 1 AND q.runner_id = ?2
WHERE q.run_id IS NULL OR q.inbox > t.value ->> 2;

-- name: next_due
-- When the next run of these pools is due, or a deadline is over.
SELECT json_array((SELECT min(deadline) FROM queue WHERE deadline > ?1), (
    SELECT min((SELECT min(due) FROM queue q WHERE q.pool = t.value AND q.runner_id IS NULL AND q.blocked_on IS NULL AND q.due > ?1))
    FROM json_each(?2) t));

-- name: expired
-- Runners whose lease has run out.
SELECT json_group_array(runner_id) FROM runners WHERE expires <= ?;

-- name: held_by
-- What these runners hold.
SELECT json_group_array(json_array(run_id, key1, key2, pool)) FROM queue WHERE runner_id IN (SELECT value FROM json_each(?));

-- name: lost_by
-- The same of runners whose lease is over, with whose it was, when that ended (0: it was ended) and the last beat.
SELECT json_group_array(json_array(h.run_id, h.key1, h.key2, h.pool, h.function_id, h.expires, h.beaten)) FROM (
    SELECT q.run_id, q.key1, q.key2, q.pool, q.function_id, l.expires, l.beaten FROM queue q JOIN runners l ON l.runner_id = q.runner_id
    WHERE q.runner_id IN (SELECT value FROM json_each(?)) ORDER BY q.run_id) h;

-- name: recover
-- Free runs; one that recorded nothing since it was last recovered comes nearer to being parked.
UPDATE queue SET runner_id = NULL, due = ?1, since = ?1,
    recoveries = CASE WHEN (SELECT count(*) FROM steps WHERE steps.run_id = queue.run_id) > recovered_steps THEN 1 ELSE recoveries + 1 END,
    recovered_steps = max(recovered_steps, (SELECT count(*) FROM steps WHERE steps.run_id = queue.run_id))
WHERE run_id IN (SELECT value FROM json_each(?2));

-- name: forget
-- Remove lease rows that hold nothing more.
DELETE FROM runners WHERE runner_id IN (SELECT value FROM json_each(?));

-- name: blocked_keys
-- Which keys block runs (up to ?), and for the one of each that is due first: its function, and whether it is its first (1) or second key.
WITH RECURSIVE keys (key) AS (
    SELECT min(blocked_on) FROM queue WHERE blocked_on IS NOT NULL
    UNION ALL
    SELECT (SELECT min(q.blocked_on) FROM queue q WHERE q.blocked_on > k.key) FROM keys k WHERE k.key IS NOT NULL LIMIT ?)
SELECT json_group_array(json_array(k.key, CASE WHEN k.key = b.key1 THEN 1 ELSE 2 END, b.function_id))
FROM keys k CROSS JOIN queue b ON b.run_id = (SELECT o.run_id FROM queue o WHERE o.blocked_on = k.key ORDER BY o.due, o.run_id LIMIT 1);

-- name: overdue
-- Live runs past their deadline, and poisoned ones.
SELECT json_group_array(json_array(o.run_id, o.function_id, o.reason)) FROM (
    SELECT * FROM (SELECT run_id, function_id, deadline_kind AS reason FROM queue WHERE deadline <= ?1 ORDER BY deadline LIMIT 100)
    UNION ALL
    SELECT * FROM (SELECT run_id, function_id, 'poison' FROM queue
                   WHERE recoveries >= 5 AND runner_id IS NULL AND (deadline IS NULL OR deadline > ?1) LIMIT 100)) o;

-- name: outbox_waiting
-- Ends whose system events are not out yet.
SELECT json_group_array(o.run_id) FROM (SELECT run_id FROM outbox ORDER BY run_id LIMIT 100) o;

-- name: held_of
-- Which of these runs, at these epochs, a runner holds.
SELECT json_group_array(json_array(q.run_id, q.key1, q.key2)) FROM json_each(?1) t
JOIN queue q ON q.run_id = t.value ->> 0 AND q.epoch = t.value ->> 1 AND q.runner_id = ?2;

-- name: hand_back
-- Give runs back, counting nothing against them.
UPDATE queue SET runner_id = NULL, due = ?1, since = ?1, state = 0 WHERE run_id IN (SELECT value FROM json_each(?2));

-- name: hold
-- Take what is due of paused functions out of what may be claimed.
UPDATE queue SET blocked_on = '!' || function_id WHERE run_id IN (
    SELECT c.run_id FROM pauses p CROSS JOIN functions f ON f.function_id = p.function_id
    CROSS JOIN queue c ON c.pool IN (SELECT f.pool UNION SELECT r.pool FROM revisions r WHERE r.function_id = p.function_id)
        AND c.runner_id IS NULL AND c.blocked_on IS NULL AND c.due <= ?1 AND c.function_id = p.function_id
    LIMIT ?2);

-- name: let_go
-- Put back what is paused no longer.
UPDATE queue SET blocked_on = NULL, lifted = ?1 WHERE run_id IN (
    SELECT b.run_id FROM queue b WHERE b.blocked_on >= '!' AND b.blocked_on < '"'
        AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.function_id = substr(b.blocked_on, 2))
    ORDER BY b.blocked_on, b.due LIMIT ?2);
