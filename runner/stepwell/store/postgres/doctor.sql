-- One query an invariant, returning what violates it; $1 is now, where one depends on it. The first line of each is its statement.
-- What speaks of change (I3, I5, I7, I8), of cron arithmetic (the rest of I14) or of other wells (I18, I19) rows can't show.

-- name: I1
-- every event id that was accepted has its event, until that has grown too old
select i.id from well.event_ids i
where (i.received >= (select min(e.received) from well.events_default e)
       or exists (select from well.days d where d.day = (to_timestamp(i.received / 1000000.0) at time zone 'UTC')::date))
  and not exists (select from well.events e where e.id = i.id and e.received = i.received)

-- name: I2
-- for every function and event there is at most one run that is neither a rerun nor skipped
select r.function_id || ' ' || v.event_id from well.run_events v join well.runs r on r.run_id = v.run_id
left join well.ends e on e.run_id = r.run_id
where r.rerun_of is null and e.status is distinct from 'skipped'
group by r.function_id, v.event_id having count(*) > 1

-- name: I4
-- for every run and step key there is at most one result
select run_id || ' ' || step_id || ' ' || occurrence from well.steps group by run_id, step_id, occurrence having count(*) > 1

-- name: I6
-- no result was recorded under a later epoch than its run has, or had at its end
select s.run_id || ' ' || s.step_id from well.steps s left join well.queue q on q.run_id = s.run_id
left join well.ends e on e.run_id = s.run_id
where s.epoch > coalesce(q.epoch, e.epoch, -1)

-- name: I9
-- a running run is leased to a runner that the store knows
select q.run_id from well.queue q
where q.runner_id is not null and not exists (select from well.runners r where r.runner_id = q.runner_id)

-- name: I10
-- a sleeping or waiting run that is not due has an open wait, and will be due no later than the first of them
select q.run_id from well.queue q
left join lateral (select count(*) as many, min(w.due) as due from well.waits w where w.run_id = q.run_id and w.kind <> 9) w on true
where q.runner_id is null and q.state in (1, 2) and q.due > $1::bigint and (w.many = 0 or q.due > w.due)

-- name: I11
-- a run that has ended has no queue row and no wait
select e.run_id from well.ends e
where exists (select from well.queue q where q.run_id = e.run_id) or exists (select from well.waits w where w.run_id = e.run_id)

-- name: I11_lost
-- every run is live or has ended
select r.run_id from well.runs r
where not exists (select from well.queue q where q.run_id = r.run_id) and not exists (select from well.ends e where e.run_id = r.run_id)

-- name: I12
-- no concurrency key has more unexpired leases than its limit
select k.key from (
    select k.key, q.function_id, k.place, count(*) over (partition by k.key) as leases
    from well.queue q join well.runners r on r.runner_id = q.runner_id and r.expires > $1::bigint
    cross join lateral (values (q.key1, 0), (q.key2, 1)) k (key, place)
    where k.key is not null
) k join well.functions f on f.function_id = k.function_id
where k.leases > (convert_from(f.spec, 'UTF8')::jsonb -> 'concurrency' -> k.place ->> 'limit')::integer
group by k.key

-- name: I13
-- every due instant of a schedule has at most one ledger row
select schedule_id || ' ' || due from well.ticks group by schedule_id, due having count(*) > 1

-- name: I14
-- no ledger row is later than what its schedule has accounted for, and the next one due lies after that
select c.schedule_id from well.schedules c
where (c.next_due > 0 and c.next_due <= c.last_due)
   or exists (select from well.ticks t where t.schedule_id = c.schedule_id and t.due > c.last_due and t.at >= c.created)

-- name: I15
-- every tick that fired has its run
select t.schedule_id || ' ' || t.due from well.ticks t
where t.outcome = 1 and t.run_id is not null and t.run_id >= (select min(r.run_id) from well.runs r)
  and not exists (select from well.runs r where r.run_id = t.run_id)

-- name: I16
-- a cancelled run has no result that was recorded after its cancellation
select s.run_id || ' ' || s.step_id from well.ends e join well.steps s on s.run_id = e.run_id
where e.status = 'cancelled' and s.seq > e.seq

-- name: I17
-- no run was recovered more than five times without progress
select run_id from well.queue where recoveries > 5

-- name: I20
-- no stored payload is over its limit
select 'event ' || id from well.events where octet_length(data) > 524288
union all
select 'step ' || run_id || ' ' || step_id from well.steps where octet_length(value) > 4194304
union all
select 'run ' || run_id from well.steps group by run_id having count(*) > 1000 or sum(octet_length(value)) > 33554432
