-- name: event_ids
DELETE FROM event_ids WHERE received < ?;

-- name: events
DELETE FROM events WHERE received < ?;

-- name: decisions
DELETE FROM decisions WHERE received < ?;

-- name: steps
DELETE FROM steps WHERE run_id IN (SELECT run_id FROM ends WHERE ended < ?);

-- name: attempts
DELETE FROM attempts WHERE run_id IN (SELECT run_id FROM ends WHERE ended < ?);

-- name: run_events
DELETE FROM run_events WHERE run_id IN (SELECT run_id FROM ends WHERE ended < ?);

-- name: runs
DELETE FROM runs WHERE run_id IN (SELECT run_id FROM ends WHERE ended < ?);

-- name: ends
DELETE FROM ends WHERE ended < ?;

-- name: idempotency
DELETE FROM idempotency WHERE expires < ?;

-- name: ticks
DELETE FROM ticks WHERE at < ?;
