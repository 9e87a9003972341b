-- New runs: the history row, the queue row, the events it stands for, its cancel listeners (those come with the waits).

create function start_runs(
    st_run text[], st_function text[], st_revision text[], st_pool text[], st_trigger integer[], st_input bytea[],
    st_created bigint[], st_due bigint[], st_lease text[], st_more_text text[], st_more_int bigint[], st_events text[],
    re_start integer[], re_event text[], st_off integer[], v_now bigint, v_version bigint,
    out made text[], out unleased text[]
) language plpgsql as $$
-- Create these runs, but for those in `st_off` and those that are there (sent again); `made` is null if all of them are new, else
-- which, and `unleased` tells which runs couldn't be leased as was asked.
-- `st_more_text` holds key1, key2, idempotency key, rerun_of; `st_more_int` priority, idempotency until, start_by, finish_within.
declare
    v_made text[];
    v_missing integer;
    v_leases text[];
begin
    with made as (
        insert into runs (run_id, created, registry_version, trigger, function_id, revision, pool, rerun_of, event_ids, input)
        select s.run_id, s.created, v_version, s.trigger, s.function_id, s.revision, s.pool, s.rerun_of, s.event_ids, s.input
        from unnest(st_run, st_function, st_revision, st_pool, st_trigger, st_input, st_created, st_events, st_more_text[4:4])
            with ordinality s (run_id, function_id, revision, pool, trigger, input, created, event_ids, rerun_of, n)
        where st_off is null or s.n <> all (st_off)
        on conflict do nothing
        returning run_id
    )
    select array_agg(m.run_id) into v_made from made m;
    v_missing := cardinality(st_run) - coalesce(cardinality(st_off), 0) - coalesce(cardinality(v_made), 0);
    if st_lease is not null then
        -- A lease that has run out can't be given; epoch 1 is used up all the same, so that whoever believes in it is fenced.
        select array_agg(r.runner_id) into v_leases from (
            select r.runner_id from runners r where r.runner_id = any (st_lease) and r.expires > v_now for key share
        ) r;
        select array_agg(s.run_id) into unleased from unnest(st_run, st_lease) s (run_id, lease)
        where s.lease is not null and (v_leases is null or s.lease <> all (v_leases)) and (v_missing = 0 or s.run_id = any (v_made));
    end if;
    insert into queue (run_id, due, created, since, started, deadline, finish_within, epoch, priority, trigger, deadline_kind,
                       function_id, revision, pool, runner_id, key1, key2, input)
    select s.run_id, s.due, s.created, v_now, case when s.lease is not null then v_now end,
           case when s.lease is null then s.start_by else v_now + s.finish_within end,
           s.finish_within, case when s.lease is null then 0 else 1 end, coalesce(s.priority, 0), s.trigger,
           case when s.lease is null then 0 else 1 end,
           s.function_id, s.revision, s.pool, case when s.lease = any (v_leases) then s.lease end, s.key1, s.key2, s.input
    from unnest(st_run, st_function, st_revision, st_pool, st_trigger, st_input, st_created, st_due, st_lease,
                st_more_text[1:1], st_more_text[2:2], st_more_int[1:1], st_more_int[3:3], st_more_int[4:4])
        with ordinality s (run_id, function_id, revision, pool, trigger, input, created, due, lease,
                           key1, key2, priority, start_by, finish_within, n)
    where (st_off is null or s.n <> all (st_off)) and (v_missing = 0 or s.run_id = any (v_made))
    on conflict do nothing;
    insert into run_events (event_id, run_id)
    select e.event_id, st_run[e.start] from unnest(re_start, re_event) e (start, event_id)
    where (st_off is null or e.start <> all (st_off)) and (v_missing = 0 or st_run[e.start] = any (v_made))
    on conflict do nothing;
    made := case when v_missing > 0 or st_off is not null then coalesce(v_made, '{}') end;
end $$;

create function claim_keys(
    st_run text[], st_function text[], st_more_text text[], st_more_int bigint[], st_off integer[], v_now bigint,
    out standins text[], out taken integer[]
) language plpgsql as $$
-- Idempotency: for every start with a key, the run that stands for it (null without one), and the places of those that lost.
-- A start that was sent again gets the answer it had, which is written where it was skipped: its key may be somebody else's by now.
declare
    v_known integer[];
    v_off integer[];
begin
    select array_agg(s.n) into v_known
    from unnest(st_run, st_more_text[3:3]) with ordinality s (run_id, key, n)
    where s.key is not null and (st_off is null or s.n <> all (st_off))
      and (select count(*) from runs r where r.run_id = s.run_id) > 0;
    select array_agg(s.n) into v_off
    from unnest(st_more_text[3:3]) with ordinality s (key, n)
    where s.key is null or s.n = any (st_off) or s.n = any (v_known);
    insert into idempotency (function_id, key, run_id, expires)
    select distinct on (s.function_id, s.key) s.function_id, s.key, s.run_id, s.expires
    from unnest(st_run, st_function, st_more_text[3:3], st_more_int[2:2]) with ordinality s (run_id, function_id, key, expires, n)
    where v_off is null or s.n <> all (v_off)
    order by s.function_id, s.key, s.n
    on conflict (function_id, key) do update set run_id = excluded.run_id, expires = excluded.expires
    where idempotency.expires <= v_now;
    select array_agg(i.run_id order by s.n), array_agg(s.n) filter (where i.run_id <> s.run_id) into standins, taken
    from unnest(st_run, st_function, st_more_text[3:3]) with ordinality s (run_id, function_id, key, n)
    left join lateral (
        select i.run_id from idempotency i
        where i.function_id = s.function_id and i.key = s.key and (v_off is null or s.n <> all (v_off))
        union all
        select convert_from(e.value, 'UTF8')::jsonb ->> 'run_id' from ends e
        where s.n = any (v_known) and e.run_id = s.run_id and e.status = 'skipped' offset 0) i on true;
end $$;

create function skip_runs(
    st_run text[], st_function text[], st_revision text[], st_pool text[], st_trigger integer[], st_input bytea[],
    st_created bigint[], st_more_text text[], st_events text[], re_start integer[], re_event text[], skipped integer[],
    standins text[], v_now bigint, v_version bigint
) returns void
language plpgsql as $$
-- Record refused starts as runs that have ended, naming the run that stands for them.
begin
    insert into runs (run_id, created, registry_version, trigger, function_id, revision, pool, rerun_of, event_ids, input)
    select s.run_id, s.created, v_version, s.trigger, s.function_id, s.revision, s.pool, s.rerun_of, s.event_ids, s.input
    from unnest(st_run, st_function, st_revision, st_pool, st_trigger, st_input, st_created, st_events, st_more_text[4:4])
        with ordinality s (run_id, function_id, revision, pool, trigger, input, created, event_ids, rerun_of, n)
    where s.n = any (skipped)
    on conflict do nothing;
    insert into ends (run_id, ended, seq, epoch, status, value)
    select st_run[n], v_now, 0, 0, 'skipped',
           convert_to(format(
               '{"name":"Skipped","message":"run %s has the same idempotency key","rule":"idempotency","run_id":"%1$s"}', standins[n]), 'UTF8')
    from unnest(skipped) s (n)
    on conflict do nothing;
    insert into run_events (event_id, run_id)
    select e.event_id, st_run[e.start] from unnest(re_start, re_event) e (start, event_id)
    where e.start = any (skipped)
    on conflict do nothing;
end $$;
