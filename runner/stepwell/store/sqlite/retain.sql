-- What goes when it is old, each in batches of at most :most rows; :before is the instant (µs). Runs and what belongs to them go last.

-- name: event_ids
-- Ids are kept for the dedupe as long as their event, and for seven days at least.
DELETE FROM event_ids WHERE id IN (SELECT i.id FROM event_ids i WHERE i.received < :ids_before LIMIT :most);

-- name: ids_left
-- Ids that are remembered for longer than the events that go next: they have no place any more.
UPDATE event_ids SET seq = 0 WHERE id IN (
    SELECT e.id FROM events e
    WHERE e.received < :before AND e.seq < (SELECT max(seq) FROM events)
        AND NOT EXISTS (SELECT 1 FROM run_events v JOIN queue q ON q.run_id = v.run_id WHERE v.event_id = e.id)
    ORDER BY e.seq LIMIT :most);

-- name: events
-- Events, oldest first; not what a live run stands for, and never the newest, from which the next place is counted.
DELETE FROM events WHERE seq IN (
    SELECT e.seq FROM events e
    WHERE e.received < :before AND e.seq < (SELECT max(seq) FROM events)
        AND NOT EXISTS (SELECT 1 FROM run_events v JOIN queue q ON q.run_id = v.run_id WHERE v.event_id = e.id)
    ORDER BY e.seq LIMIT :most);

-- name: decisions
-- Decisions, oldest first.
DELETE FROM decisions WHERE rowid IN (SELECT d.rowid FROM decisions d WHERE d.received < :before ORDER BY d.rowid LIMIT :most);

-- name: idempotency
-- Keys that stand for nothing any more.
DELETE FROM idempotency WHERE (function_id, key) IN (SELECT i.function_id, i.key FROM idempotency i WHERE i.expires <= :now LIMIT :most);

-- name: ticks
-- Ledger rows; the newest of each schedule stays, for the next one is computed from it.
DELETE FROM ticks WHERE (schedule_id, due) IN (
    SELECT t.schedule_id, t.due FROM ticks t
    WHERE t.at < :before AND t.due < (SELECT max(n.due) FROM ticks n WHERE n.schedule_id = t.schedule_id) LIMIT :most);

-- name: schedules
-- Schedules that are no longer registered and have no ledger left.
DELETE FROM schedules WHERE schedule_id IN (
    SELECT s.schedule_id FROM schedules s
    WHERE NOT s.active AND max(s.last_due, s.created) < :before
        AND NOT EXISTS (SELECT 1 FROM ticks t WHERE t.schedule_id = s.schedule_id) LIMIT :most);

-- name: audit
-- Acts, oldest first; a trigger keeps those of the last ninety days.
DELETE FROM audit WHERE audit_id IN (
    SELECT a.audit_id FROM audit a
    WHERE a.at < min(:audit_before, (unixepoch() - 91 * 86400) * 1000000) ORDER BY a.audit_id LIMIT :most);

-- name: old_runs
-- Runs that ended before, oldest first.
SELECT json_group_array(o.run_id) FROM (SELECT e.run_id FROM ends e WHERE e.ended < :before ORDER BY e.run_id LIMIT :most) o;

-- name: old_ledger
-- What the ledger says of them: the newest tick of a schedule stays, and its run is history.
UPDATE ticks SET run_id = NULL WHERE run_id IN (SELECT value FROM json_each(:runs));

-- name: old_steps
-- Their journals.
DELETE FROM steps WHERE run_id IN (SELECT value FROM json_each(:runs));

-- name: old_attempts
-- Their failed tries.
DELETE FROM attempts WHERE run_id IN (SELECT value FROM json_each(:runs));

-- name: old_run_events
-- What they stood for.
DELETE FROM run_events WHERE run_id IN (SELECT value FROM json_each(:runs))
    AND event_id IN (SELECT e.value FROM runs r, json_each(r.event_ids) e WHERE r.run_id IN (SELECT value FROM json_each(:runs)));

-- name: old_rows
-- The runs.
DELETE FROM runs WHERE run_id IN (SELECT value FROM json_each(:runs));

-- name: old_ends
-- Their last words.
DELETE FROM ends WHERE run_id IN (SELECT value FROM json_each(:runs));
