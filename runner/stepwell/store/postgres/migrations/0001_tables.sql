-- The tables of a well. Each migration runs with search_path set to the well's schema and nothing else.
--
-- Small and mutable: registry, functions, listens, schedules, runners, queue (live runs only), waits, idempotency, outbox.
-- Append-only history: events, decisions, by the time they were received; runs, run_events, steps, attempts, ends, by the
-- time in their run's id. Nothing on the hot path reads history. Instants are µs since 1970; payloads are JSON as bytes.

create table registry (
    only_row boolean primary key default true check (only_row),
    version bigint not null
);
insert into registry (version) values (1);

create table functions (
    function_id text collate "C" primary key,
    revision text collate "C" not null,
    pool text collate "C" not null,
    owner text collate "C" not null,
    spec bytea not null,
    active boolean not null default true
);

create table listens (
    name text collate "C" not null,
    path text collate "C" not null,
    primary key (name, path)
);

create table schedules (
    schedule_id text collate "C" primary key,
    function_id text collate "C" not null,
    owner text collate "C" not null,
    cron bytea not null,
    created bigint not null,
    last_due bigint not null,
    next_due bigint not null,
    last_run text collate "C",
    active boolean not null default true
);

create table ticks (
    schedule_id text collate "C" not null,
    due bigint not null,
    outcome smallint not null,
    reason text not null,
    run_id text collate "C",
    at bigint not null,
    primary key (schedule_id, due)
);

create table runners (
    runner_id text collate "C" primary key,
    pools text[] not null,
    functions text[] not null,
    slots integer not null,
    expires bigint not null,
    draining boolean not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

-- A row lives from a run's start to its end. `input` lies here too, so that a claim reads nothing else.
create table queue (
    run_id text collate "C" primary key,
    due bigint not null,
    created bigint not null,
    since bigint not null,
    started bigint,
    deadline bigint,
    finish_within bigint,
    epoch integer not null default 0,
    inbox integer not null default 0,
    attempt integer not null default 0,
    attempt_steps integer not null default 0,
    recoveries integer not null default 0,
    recovered_steps integer not null default 0,
    priority integer not null default 0,
    trigger smallint not null,
    state smallint not null default 0,
    deadline_kind smallint not null default 0,
    function_id text collate "C" not null,
    revision text collate "C" not null,
    pool text collate "C" not null,
    runner_id text collate "C",
    key1 text collate "C",
    key2 text collate "C",
    blocked_on text collate "C",
    input bytea not null,
    check (length(run_id) between 1 and 128)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on column queue.deadline_kind is '0: none or to be claimed by it (start); 1: to be finished by it';

-- What may be claimed, in the order of claims; the other indexes hold only the rows that need them.
create index queue_claimable on queue (pool, due, run_id) where runner_id is null and blocked_on is null;
create index queue_blocked on queue (blocked_on, due, run_id) where blocked_on is not null;
create index queue_leased_key1 on queue (key1) where key1 is not null and runner_id is not null;
create index queue_leased_key2 on queue (key2) where key2 is not null and runner_id is not null;
create index queue_deadline on queue (deadline) where deadline is not null;
create index queue_poisoned on queue (run_id) where recoveries >= 5;

create table waits (
    run_id text collate "C" not null,
    kind smallint not null,
    step_id text collate "C" not null,
    occurrence integer not null,
    due bigint not null,
    opened bigint not null,
    attempt integer not null default 0,
    name text,
    match_key text collate "C",
    residual text,
    context bytea,
    target_run text collate "C",
    detail bytea,
    primary key (run_id, kind, step_id, occurrence)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index waits_match_key on waits (match_key) where match_key is not null;
create index waits_target_run on waits (target_run) where target_run is not null;

create table idempotency (
    function_id text collate "C" not null,
    key text collate "C" not null,
    run_id text collate "C" not null,
    expires bigint not null,
    primary key (function_id, key)
);
create index idempotency_expires on idempotency (expires);

create table outbox (
    run_id text collate "C" primary key,
    at bigint not null
) with (autovacuum_vacuum_scale_factor = 0.01);

create table event_ids (
    id text collate "C" primary key,
    body_hash bytea not null,
    received bigint not null
);

create table events (
    received bigint not null,
    seq bigint not null,
    ts bigint not null,
    registry_version bigint not null,
    id text collate "C" not null,
    name text collate "C" not null,
    data bytea not null,
    primary key (received, seq, id)
) partition by range (received);
create index events_id on events (id);

create table decisions (
    received bigint not null,
    event_id text collate "C" not null,
    function_id text collate "C" not null,
    decision text not null,
    detail text not null
) partition by range (received);
create index decisions_event_id on decisions (event_id);

create table runs (
    run_id text collate "C" primary key,
    created bigint not null,
    registry_version bigint not null,
    trigger smallint not null,
    function_id text collate "C" not null,
    revision text collate "C" not null,
    pool text collate "C" not null,
    rerun_of text collate "C",
    event_ids text not null,
    input bytea not null
) partition by range (run_id);
create index runs_function on runs (function_id, run_id);
comment on column runs.event_ids is 'a JSON list of text, in the order of input';

create table run_events (
    event_id text collate "C" not null,
    run_id text collate "C" not null,
    primary key (event_id, run_id)
) partition by range (run_id);

-- `seq` orders a run's steps: µs of the real clock at the write, which the queue row's lock makes ascend within a run.
create table steps (
    run_id text collate "C" not null,
    step_id text collate "C" not null,
    occurrence integer not null,
    kind smallint not null,
    ok boolean not null,
    attempts integer not null,
    epoch integer not null,
    seq bigint not null,
    started bigint not null,
    ended bigint not null,
    value bytea not null,
    primary key (run_id, step_id, occurrence)
) partition by range (run_id);

create table attempts (
    run_id text collate "C" not null,
    step_id text collate "C" not null,
    occurrence integer not null,
    attempt integer not null,
    started bigint not null,
    ended bigint not null,
    retry_at bigint,
    error bytea not null,
    primary key (run_id, step_id, occurrence, attempt, started)
) partition by range (run_id);

create table ends (
    run_id text collate "C" primary key,
    started bigint,
    ended bigint not null,
    seq bigint not null,
    epoch integer not null,
    status text collate "C" not null,
    value bytea not null
) partition by range (run_id);
create index ends_not_completed on ends (status, run_id) where status <> 'completed';
