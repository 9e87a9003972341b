-- Every statement that is not commit_pile. `well` stands for the schema, and is written out when this file is read.

-- name: enrol
-- Make or renew a lease row.
select well.enrol($1, $2, $3, $4, $5, $6, $7, $8)

-- name: beat
-- Renew a lease, if it is still there, and carry along what its steps tell, if that is any news.
update well.runners set expires = c.now + $2::bigint, beaten = c.now, told = coalesce($4::json, told)
from (select coalesce($3::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now) c
where runner_id = $1 returning true

-- name: leave
-- Give everything back and end the lease.
select well.leave($1, $2)

-- name: held
-- What a runner has claimed.
select run_id, epoch from well.queue where runner_id = $1 order by run_id

-- name: hand_back
-- Give some runs back.
select well.hand_back($1, $2, $3, $4)

-- name: expire_all
-- End every lease.
with ended as (update well.runners set expires = 0 where expires > 0 returning 1) select count(*) from ended

-- name: register
-- Replace an owner's functions and schedules, and add revisions.
select well.register($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: listen
-- Add what waits listen on.
select well.listen_on($1, $2)

-- name: registry
-- One whole version: one statement, so one snapshot. What starts nothing is known while it has a revision.
select (select version from well.registry) as version,
       (select jsonb_agg(jsonb_build_array(function_id, revision, pool, owner, active, since, encode(spec, 'base64'))
                         order by function_id)
        from well.functions
        where active or function_id in (select r.function_id from well.revisions r
                                        union all select r.function_id || '-failure' from well.revisions r)) as functions,
       (select jsonb_agg(jsonb_build_array(name, path) order by name, path) from well.listens) as listens,
       (select jsonb_agg(jsonb_build_array(schedule_id, function_id, encode(cron, 'base64'), created, last_due, next_due)
                         order by schedule_id)
        from well.schedules where active) as schedules,
       (select jsonb_agg(jsonb_build_array(function_id, since, paused_by, reason, source) order by function_id)
        from well.pauses) as pauses

-- name: registry_version
-- The number of the registry's version.
select version from well.registry

-- name: forget_revision
-- Drop a revision that nothing needs.
select well.forget_revision($1, $2)

-- name: move_runs
-- Pin live runs to another revision.
with moved as (
    update well.queue set revision = $2, pool = $3
    where function_id in ($1, $1 || '-failure') and (revision, pool) is distinct from ($2, $3) returning 1
) select count(*) from moved

-- name: revisions
-- The revisions of one pool, or all.
select function_id, revision, pool, code, created from well.revisions where $1::text is null or pool = $1
order by function_id, created, revision

-- name: work
-- What lives, by function, revision and pool.
select q.function_id, q.revision, q.pool, count(*) as live,
       count(*) filter (where q.runner_id is null and (q.state = 0 or q.due <= n.now)) as queued,
       count(*) filter (where q.runner_id is null and q.blocked_on is null and q.due <= n.now) as due,
       count(*) filter (where q.runner_id is not null) as running,
       min(q.due) filter (where q.runner_id is null and q.due > n.now and q.due < $2) as next_due
from well.queue q,
     (select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now) n
group by q.function_id, q.revision, q.pool order by q.function_id, q.revision, q.pool

-- name: live_runs
-- A function's unfinished runs, oldest first.
select run_id from well.queue where function_id = $1 order by run_id limit $2

-- name: journal_heads
-- The inboxes of live runs.
select run_id, inbox from well.queue where run_id = any ($1::text[])

-- name: journal_steps
-- The journals of runs between two ids (which partitions to look in), in the order recorded.
select run_id, step_id, occurrence, kind, ok, value, attempts, started, ended from well.steps
where run_id = any ($1::text[]) and run_id >= $2 and run_id <= $3 order by run_id, seq

-- name: journal_waits
-- What runs wait for; listeners that cancel are not theirs to see.
select run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail
from well.waits where run_id = any ($1::text[]) order by run_id, opened, kind, step_id, occurrence

-- name: run
-- One run as people look at it.
select r.run_id, r.function_id, r.revision, r.trigger, r.created, r.event_ids, r.input, r.rerun_of, r.pool,
       coalesce(q.started, e.started) as started, q.due, q.since, q.runner_id, q.blocked_on, q.attempt, q.state,
       q.due <= coalesce($2::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as is_due,
       q.run_id is not null as live, e.status, e.ended, e.value
from well.runs r left join well.queue q on q.run_id = r.run_id left join well.ends e on e.run_id = $1
where r.run_id = $1

-- name: run_waits
-- The open waits of one run.
select run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail
from well.waits where run_id = $1 order by opened, kind, step_id, occurrence

-- name: progress
-- What the last beat of a run's runner carried of its attempts that are not over.
select json_agg(w.word) as told
from well.queue q join well.runners l on l.runner_id = q.runner_id cross join json_array_elements(l.told) w (word)
where q.run_id = $1 and w.word ->> 0 = $1
  and not exists (select from well.steps s where s.run_id = $1 and s.step_id = w.word ->> 1 and s.occurrence = (w.word ->> 2)::integer)
  and not exists (select from well.attempts a where a.run_id = $1 and a.step_id = w.word ->> 1
                  and a.occurrence = (w.word ->> 2)::integer and a.attempt = (w.word ->> 3)::integer)

-- name: runs
-- Runs, newest first, by any of the filters.
select r.run_id, r.function_id, r.revision, r.trigger, r.created, r.event_ids, r.input, r.rerun_of, r.pool,
       coalesce(q.started, e.started) as started, q.due, q.since, q.runner_id, q.blocked_on, q.attempt, q.state,
       q.due <= coalesce($6::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as is_due,
       q.run_id is not null as live, e.status, e.ended, e.value
from well.runs r left join well.queue q on q.run_id = r.run_id left join well.ends e on e.run_id = r.run_id
where ($1::text is null or r.function_id = $1)
  and ($2::text is null or r.run_id < $2)
  and ($3::bigint is null or r.created >= $3)
  and ($4::bigint is null or r.created < $4)
order by r.run_id desc limit $5

-- name: runs_live
-- Live runs of one status, newest first.
select r.run_id, r.function_id, r.revision, r.trigger, r.created, r.event_ids, r.input, r.rerun_of, r.pool,
       q.started, q.due, q.since, q.runner_id, q.blocked_on, q.attempt, q.state,
       q.due <= n.now as is_due, true as live,
       null::text as status, null::bigint as ended, null::bytea as value
from well.queue q join well.runs r on r.run_id = q.run_id,
     (select coalesce($7::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now) n
where case when q.runner_id is not null then 'running' when q.state = 0 or q.due <= n.now then 'queued'
           when q.state = 1 then 'sleeping' else 'waiting' end = $6
  and ($1::text is null or q.function_id = $1)
  and ($2::text is null or q.run_id < $2)
  and ($3::bigint is null or q.created >= $3)
  and ($4::bigint is null or q.created < $4)
order by q.run_id desc limit $5

-- name: runs_ended
-- Runs that ended with one status, newest first.
select r.run_id, r.function_id, r.revision, r.trigger, r.created, r.event_ids, r.input, r.rerun_of, r.pool,
       e.started, null::bigint as due, null::bigint as since, null::text as runner_id, null::text as blocked_on,
       0 as attempt, 0 as state, false as is_due, false as live, e.status, e.ended, e.value
from well.ends e join well.runs r on r.run_id = e.run_id
where e.status = $6
  and ($1::text is null or r.function_id = $1)
  and ($2::text is null or e.run_id < $2)
  and ($3::bigint is null or r.created >= $3)
  and ($4::bigint is null or r.created < $4)
order by e.run_id desc limit $5

-- name: runs_of_event
-- The runs that an event is the input of, newest first.
select r.run_id, r.function_id, r.revision, r.trigger, r.created, r.event_ids, r.input, r.rerun_of, r.pool,
       coalesce(q.started, e.started) as started, q.due, q.since, q.runner_id, q.blocked_on, q.attempt, q.state,
       q.due <= coalesce($8::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as is_due,
       q.run_id is not null as live, e.status, e.ended, e.value
from well.run_events v join well.runs r on r.run_id = v.run_id
left join well.queue q on q.run_id = r.run_id left join well.ends e on e.run_id = r.run_id
where v.event_id = $6
  and ($7::text is null or $7 = coalesce(e.status, case when q.runner_id is not null then 'running'
           when q.state = 0 or q.due <= coalesce($8::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) then 'queued'
           when q.state = 1 then 'sleeping' else 'waiting' end))
  and ($1::text is null or r.function_id = $1)
  and ($2::text is null or r.run_id < $2)
  and ($3::bigint is null or r.created >= $3)
  and ($4::bigint is null or r.created < $4)
order by r.run_id desc limit $5

-- name: steps
-- A run's journal, in the order recorded.
select step_id, occurrence, kind, ok, value, attempts, started, ended from well.steps where run_id = $1 order by seq

-- name: attempts
-- A run's failed tries.
select step_id, occurrence, attempt, started, ended, error, retry_at from well.attempts
where run_id = $1 order by started, attempt

-- name: event
-- One event.
select id, name, data, ts, received, registry_version from well.events where id = $1 order by received limit 1

-- name: event_place
-- Where an event stands in the order of events.
select received, seq from well.events where id = $1 order by received limit 1

-- name: events
-- Events, newest first.
select id, name, data, ts, received, registry_version from well.events
where ($1::text is null or name = $1) and ($2::bigint is null or (received, seq) < ($2, $3::bigint))
order by received desc, seq desc limit $4

-- name: decisions
-- Why an event started nothing, though its name matched.
select function_id, decision, detail from well.decisions
where event_id = $1 and decision not in ('ended wait', 'cancelled run') order by function_id, decision, detail

-- name: ended_by
-- The waits that an event ended and the runs that it cancelled: what was decided as it came in, where the run's rows name it.
select r.function_id, d.run_id, d.step_id from (
    select distinct split_part(o.detail, ' ', 1) as run_id,
           case o.decision when 'ended wait' then substr(o.detail, strpos(o.detail, ' ') + 1) end as step_id
    from well.decisions o where o.event_id = $1 and o.decision in ('ended wait', 'cancelled run')
    order by 1, 2 limit $2) d
cross join lateral (select r.function_id from well.runs r where r.run_id = d.run_id offset 0) r
where case when d.step_id is null
    then exists (select from well.ends e where e.run_id = d.run_id and e.status = 'cancelled'
                 and strpos(convert_from(e.value, 'UTF8')::json ->> 'message', '(' || $1 || ')') > 0)
    else exists (select from well.steps s where s.run_id = d.run_id and s.step_id = d.step_id and s.kind = 3 and s.ok
                 and convert_from(s.value, 'UTF8')::json ->> 'id' = $1) end
order by 2, 3

-- name: key_holders
-- Whose unexpired leases count under a concurrency key.
select q.run_id from well.queue q join well.runners r on r.runner_id = q.runner_id
where (q.key1 = $1 or q.key2 = $1) and q.runner_id is not null
  and r.expires > coalesce($2::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
order by q.run_id

-- name: ledger
-- A schedule's ticks, newest first.
select due, outcome, reason, run_id from well.ticks where schedule_id = $1 order by due desc limit $2

-- name: stats
-- The live figures in one statement, so of one snapshot. What a pause holds isn't due; whose time has come is queued:
-- {now, functions: [id, queued, running, sleeping, waiting, oldest due, queued due, queued later, held by a pause],
-- limits: [function, place, in use, blocked, oldest blocked], revisions: [function, revision, due, later], runners,
-- overdue: [function, leases under the first key, under the second, runs], next,
-- horizon: [the oldest transaction id that vacuum has to keep rows for, when who holds it began, if this role may know] or null
-- where that id lies behind no other (any role may see ids of others' transactions, but not when they began), dead}.
with clock as (select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now),
keyed as materialized (
    select q.function_id, q.run_id, k.place, k.key, q.due, q.blocked_on is not distinct from k.key as blocked,
           r.runner_id is not null as leased
    from clock cross join well.queue q
    cross join lateral (values (1, q.key1), (2, q.key2)) k (place, key)
    left join well.runners r on r.runner_id = q.runner_id and r.expires > clock.now
    where k.key is not null and (k.place = 1 or q.key2 is distinct from q.key1)
),
used as (select k.key, count(*) as leases from keyed k where k.leased group by k.key)
select json_build_object(
    'now', clock.now,
    'functions', (select json_agg(json_build_array(f.function_id, f.queued, f.running, f.sleeping, f.waiting, f.oldest, f.due, f.later, f.paused)
                                  order by f.function_id) from (
        select q.function_id,
               count(*) filter (where q.runner_id is null and (q.state = 0 or q.due <= clock.now)),
               count(*) filter (where q.runner_id is not null),
               count(*) filter (where q.runner_id is null and q.state = 1 and q.due > clock.now),
               count(*) filter (where q.runner_id is null and q.state = 2 and q.due > clock.now),
               min(q.due) filter (where q.runner_id is null and q.blocked_on is null and q.due <= clock.now and p.function_id is null),
               count(*) filter (where q.runner_id is null and q.blocked_on is null and q.due <= clock.now and p.function_id is null),
               count(*) filter (where q.runner_id is null and q.state = 0 and q.due > clock.now),
               count(*) filter (where q.runner_id is null and q.due <= clock.now and p.function_id is not null)
        from well.queue q left join well.pauses p on p.function_id = q.function_id
        group by q.function_id) f (function_id, queued, running, sleeping, waiting, oldest, due, later, paused)),
    'limits', (select json_agg(json_build_array(l.function_id, l.place, l.used, l.blocked, l.oldest) order by l.function_id, l.place) from (
        select k.function_id, k.place, coalesce(max(u.leases), 0), count(*) filter (where k.blocked),
               min(k.due) filter (where k.blocked)
        from keyed k left join used u on u.key = k.key group by k.function_id, k.place) l (function_id, place, used, blocked, oldest)),
    'revisions', (select json_agg(json_build_array(v.function_id, v.revision, v.due, v.later) order by v.function_id, v.revision) from (
        select q.function_id, q.revision, count(*) filter (where q.due <= clock.now and p.function_id is null),
               count(*) filter (where q.due > clock.now)
        from well.queue q left join well.pauses p on p.function_id = q.function_id where q.runner_id is null group by q.function_id, q.revision) v (function_id, revision, due, later)),
    'runners', (select json_agg(json_build_array(r.runner_id, r.pools, r.functions, r.slots, r.expires, r.draining, r.broken)
                                order by r.runner_id)
        from well.runners r where r.expires > clock.now),
    'overdue', (select json_agg(json_build_array(o.function_id, o.first, o.second, o.runs) order by o.function_id, o.first, o.second) from (
        select q.function_id, coalesce(one.leases, 0), coalesce(two.leases, 0), count(*)
        from well.queue q left join used one on one.key = q.key1 left join used two on two.key = q.key2
        where q.runner_id is null and q.blocked_on is null and q.state <> 0 and q.recoveries < 5 and q.due <= clock.now - 1000000
          and not exists (select from well.pauses p where p.function_id = q.function_id)
        group by 1, 2, 3) o (function_id, first, second, runs)),
    'next', (select json_agg(json_build_array(s.function_id, s.due) order by s.function_id) from (
        select s.function_id, min(s.next_due) from well.schedules s
        where s.active and s.next_due > 0 group by s.function_id) s (function_id, due)),
    'horizon', (select json_build_array(pg_snapshot_xmax(pg_current_snapshot())::text::bigint - o.behind, o.began) from (
        select age(h.xid) - age(pg_snapshot_xmax(pg_current_snapshot())::xid) as behind,
               (extract(epoch from min(h.began)) * 1000000)::bigint as began
        from (
            select unnest(array[a.backend_xid, a.backend_xmin]), a.xact_start from pg_stat_activity a
            where a.pid <> pg_backend_pid() and (a.datname is null or a.datname = current_database())
              and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid)  -- a vacuum holds no other one back
            union all select p.transaction, p.prepared from pg_prepared_xacts p where p.database = current_database()
            union all select unnest(array[s.xmin, s.catalog_xmin]), null from pg_replication_slots s
        ) h (xid, began) where h.xid is not null group by 1 order by 1 desc limit 1) o
        where o.behind > 0),
    'dead', (select json_agg(json_build_array(t.relname, t.n_dead_tup) order by t.relname) from pg_stat_user_tables t
        where t.schemaname = $2 and t.relname in ('queue', 'waits', 'runners', 'outbox', 'idempotency'))
)::text
from clock

-- name: stats_runners
-- Every lease.
select runner_id, pools, functions, slots, expires, draining, broken::text as broken from well.runners
where expires > coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) order by runner_id

-- name: clock
-- The store's clock.
select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)

-- name: make_day
-- Make the partitions of the day that lies so many days ahead of today.
select well.make_day((now() at time zone 'UTC')::date + $1::integer)

-- name: old_days
-- Days with partitions of their own that ended before an instant (µs) and that no live run lies in.
select d.day from well.days d
where (d.day + 1 - date '1970-01-01') * 86400000000::bigint <= $1
  and not exists (
      select from well.queue q
      where q.run_id >= well.ulid_floor((d.day - date '1970-01-01') * 86400000::bigint)
        and q.run_id < well.ulid_floor((d.day + 1 - date '1970-01-01') * 86400000::bigint))
order by d.day

-- name: drop_day
-- Drop the partitions of one day.
select well.drop_day($1)

-- name: prune
-- One batch of rows that only age tells to go; how many went.
select well.prune($1, $2, $3)

-- name: keys
-- Every key that was given out.
select key_id, name, kind, proof, events, created, created_by, revoked, revoked_by from well.access_keys
order by created desc, key_id

-- name: add_key
-- Add a key, if its name has room for one.
select well.add_key($1, $2, $3, $4, $5, $6, $7, $8)

-- name: revoke_key
-- End a live key.
update well.access_keys set revoked = $3, revoked_by = $2 where key_id = $1 and revoked is null returning true

-- name: note
-- Add an act to the audit.
insert into well.audit (at, actor, verb, object, decision, request_id, detail) values ($1, $2, $3, $4, $5, $6, $7) returning true

-- name: audit
-- Acts, newest first.
select at, actor, verb, object, decision, request_id, detail, audit_id from well.audit
where ($1::text is null or actor = $1) and ($2::text is null or verb = $2) and ($3::text is null or object = $3)
  and ($4::bigint is null or audit_id < $4)
order by audit_id desc limit $5

-- name: prune_audit
-- One batch of the audit that is old enough to go.
select well.prune_audit($1, $2)

-- name: pause
-- Let no run of a function be claimed.
select well.pause_function($1, $2, $3, $4, $5)

-- name: resume
-- Let them be claimed again.
select well.resume_function($1)

-- name: hold_paused
-- Take what is due of paused functions out of what may be claimed, and put back what is paused no longer.
select coalesce(cardinality(well.hold_paused(coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint), $2)), 0)
