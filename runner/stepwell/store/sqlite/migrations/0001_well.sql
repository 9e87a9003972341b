-- One well. Instants are µs since 1970 UTC, payloads JSON as BLOB. `queue`, `waits`, `idempotency`, `outbox` and `runners` hold what
-- lives; `events`, `runs`, `steps`, `attempts`, `ends` and `ticks` are written once.

CREATE TABLE registry (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL) STRICT;
INSERT INTO registry VALUES (1, 1);

CREATE TABLE functions (
    function_id TEXT PRIMARY KEY, revision TEXT NOT NULL, pool TEXT NOT NULL, owner TEXT NOT NULL, spec BLOB NOT NULL,
    active INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE listens (name TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (name, path)) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    schedule_id TEXT PRIMARY KEY, function_id TEXT NOT NULL, owner TEXT NOT NULL, cron BLOB NOT NULL, created INTEGER NOT NULL,
    last_due INTEGER NOT NULL, next_due INTEGER NOT NULL, last_run TEXT, active INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE ticks (
    schedule_id TEXT NOT NULL, due INTEGER NOT NULL, outcome INTEGER NOT NULL, reason TEXT NOT NULL, run_id TEXT, at INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, due)
) STRICT, WITHOUT ROWID;

CREATE TABLE runners (
    runner_id TEXT PRIMARY KEY, pools TEXT NOT NULL, functions TEXT NOT NULL, slots INTEGER NOT NULL, expires INTEGER NOT NULL,
    draining INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event_ids (
    id TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128), body_hash BLOB NOT NULL, received INTEGER NOT NULL, seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, ts INTEGER NOT NULL, received INTEGER NOT NULL,
    registry_version INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_name ON events (name, seq);
CREATE TABLE decisions (
    event_id TEXT NOT NULL, function_id TEXT NOT NULL, decision TEXT NOT NULL, detail TEXT NOT NULL, received INTEGER NOT NULL
) STRICT;
CREATE INDEX decisions_by_event ON decisions (event_id);

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY CHECK (length(run_id) = 26), function_id TEXT NOT NULL, revision TEXT NOT NULL, pool TEXT NOT NULL,
    trigger INTEGER NOT NULL, input BLOB NOT NULL, event_ids TEXT NOT NULL, created INTEGER NOT NULL, rerun_of TEXT,
    registry_version INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_function ON runs (function_id, run_id);
CREATE TABLE run_events (event_id TEXT NOT NULL, run_id TEXT NOT NULL, PRIMARY KEY (event_id, run_id)) STRICT, WITHOUT ROWID;
CREATE TABLE ends (
    run_id TEXT PRIMARY KEY, status TEXT NOT NULL, value BLOB NOT NULL, started INTEGER, ended INTEGER NOT NULL, epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ends_not_completed ON ends (status, run_id) WHERE status <> 'completed';
-- Rows are appended, so their rowids tell the order in which a run's steps were recorded.
CREATE TABLE steps (
    run_id TEXT NOT NULL, step_id TEXT NOT NULL, occurrence INTEGER NOT NULL, kind INTEGER NOT NULL, ok INTEGER NOT NULL,
    value BLOB NOT NULL, attempts INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL, epoch INTEGER NOT NULL,
    UNIQUE (run_id, step_id, occurrence)
) STRICT;
CREATE TABLE attempts (
    run_id TEXT NOT NULL, step_id TEXT NOT NULL, occurrence INTEGER NOT NULL, attempt INTEGER NOT NULL, started INTEGER NOT NULL,
    ended INTEGER NOT NULL, error BLOB NOT NULL, retry_at INTEGER, PRIMARY KEY (run_id, step_id, occurrence, attempt, started)
) STRICT, WITHOUT ROWID;

-- Live runs only; a row goes with its run's end.
CREATE TABLE queue (
    run_id TEXT PRIMARY KEY, function_id TEXT NOT NULL, revision TEXT NOT NULL, pool TEXT NOT NULL, priority INTEGER NOT NULL,
    due INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0, since INTEGER NOT NULL, created INTEGER NOT NULL, runner_id TEXT,
    epoch INTEGER NOT NULL DEFAULT 0, inbox INTEGER NOT NULL DEFAULT 0, key1 TEXT, key2 TEXT, blocked_on TEXT,
    attempt INTEGER NOT NULL DEFAULT 0, attempt_steps INTEGER NOT NULL DEFAULT 0, recoveries INTEGER NOT NULL DEFAULT 0,
    recovered_steps INTEGER NOT NULL DEFAULT 0, started INTEGER, deadline INTEGER,
    deadline_kind TEXT, finish_within INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_claimable ON queue (pool, due, run_id) WHERE runner_id IS NULL AND blocked_on IS NULL;
CREATE INDEX queue_blocked ON queue (blocked_on, due) WHERE blocked_on IS NOT NULL;
CREATE INDEX queue_key1 ON queue (key1) WHERE runner_id IS NOT NULL AND key1 IS NOT NULL;
CREATE INDEX queue_key2 ON queue (key2) WHERE runner_id IS NOT NULL AND key2 IS NOT NULL;
CREATE INDEX queue_deadline ON queue (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX queue_poisoned ON queue (run_id) WHERE recoveries >= 5;

CREATE TABLE waits (
    run_id TEXT NOT NULL, kind INTEGER NOT NULL, step_id TEXT NOT NULL, occurrence INTEGER NOT NULL, due INTEGER NOT NULL,
    opened INTEGER NOT NULL, attempt INTEGER NOT NULL, name TEXT, match_key TEXT, residual TEXT, context BLOB, target_run TEXT,
    detail BLOB, PRIMARY KEY (run_id, kind, step_id, occurrence)
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_by_key ON waits (match_key) WHERE match_key IS NOT NULL;
CREATE INDEX waits_by_target ON waits (target_run) WHERE target_run IS NOT NULL;

CREATE TABLE idempotency (
    function_id TEXT NOT NULL, key TEXT NOT NULL, run_id TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (function_id, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (run_id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- A run as people look at it.
CREATE VIEW run_rows AS
SELECT r.run_id, r.function_id, r.revision, r.trigger,
    coalesce(e.status, CASE WHEN q.runner_id IS NOT NULL THEN 'running' WHEN q.state = 1 THEN 'sleeping' WHEN q.state = 2 THEN 'waiting'
        ELSE 'queued' END) AS status,
    r.created, coalesce(q.started, e.started) AS started, e.ended, r.event_ids, r.input, e.value, r.rerun_of, q.due, q.since, r.pool,
    q.runner_id, q.blocked_on, q.attempt
FROM runs r LEFT JOIN ends e ON e.run_id = r.run_id LEFT JOIN queue q ON q.run_id = r.run_id;
