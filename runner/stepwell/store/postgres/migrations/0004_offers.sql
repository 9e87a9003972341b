-- Cron ticks and events: the ledger and the dedupe say which of them count; what they bring about follows.

create function fire_ticks(
    k_text text[], k_int bigint[], v_now bigint, v_seq bigint, v_system boolean,
    out outcomes integer[], out ready text[], out touched text[], out ended text[]
) language plpgsql as $$
-- One ledger row per due instant, in order; null for one that was accounted for before. Ticks are rare, so a loop will do.
declare
    t record;
    s schedules%rowtype;
    e record;
    outcome integer;
begin
    outcomes := '{}';
    ready := '{}';
    touched := '{}';
    ended := '{}';
    perform 1 from schedules c where c.schedule_id = any (k_text[1:1]) order by c.schedule_id for update;
    for t in
        select * from unnest(k_text[1:1], k_text[2:2], k_text[3:3], k_int[1:1], k_int[2:2], k_int[3:3], k_int[4:4])
            with ordinality o (schedule_id, reason, run_id, due, outcome, next_due, overlap, n)
        order by o.n
    loop
        select * into s from schedules c where c.schedule_id = t.schedule_id;
        outcome := t.outcome;
        if outcome = 1 and t.overlap = 1 and exists (select from queue q where q.run_id = s.last_run) then
            outcome := 5;
        end if;
        insert into ticks (schedule_id, due, outcome, reason, run_id, at)
        values (t.schedule_id, t.due, outcome,
                case when outcome = t.outcome then t.reason else format('run %s was still going', s.last_run) end,
                case when outcome = 1 then t.run_id end, v_now)
        on conflict do nothing;
        if not found then
            outcomes := outcomes || null::integer;
            continue;
        end if;
        outcomes := outcomes || outcome;
        if outcome = 1 and t.overlap = 2 and s.last_run is not null then
            perform 1 from queue q where q.run_id = s.last_run for update;
            if found then
                select * into e from end_runs(
                    array[s.last_run], array['cancelled'],
                    array[convert_to('{"name":"Replaced","message":"a newer tick replaced this run"}', 'UTF8')],
                    v_now, v_seq, v_system);
                ready := ready || e.ready || unblock(e.freed);
                touched := touched || e.touched || e.leased;
                ended := ended || s.last_run;
            end if;
        end if;
        update schedules c
        set last_due = greatest(c.last_due, t.due),
            next_due = greatest(c.next_due, t.next_due),
            last_run = case when outcome = 1 then t.run_id else c.last_run end
        where c.schedule_id = t.schedule_id;
    end loop;
end $$;

create function accept_events(
    n_id text[], n_name text[], n_data bytea[], n_hash bytea[], n_ts bigint[], n_guarded integer[], v_now bigint, v_seq bigint,
    v_version bigint
) returns integer[]
language plpgsql as $$
-- Accept what is new; null when all of it was, else the fate of each (see EventFate). `n_guarded` lists the refused.
declare
    v_new text[];
    v_fates integer[];
begin
    with offered as (
        select e.id, e.hash from unnest(n_id, n_hash) with ordinality e (id, hash, n)
        where n_guarded is null or e.n <> all (n_guarded)
        order by e.id, e.n
    ), new as (
        insert into event_ids (id, body_hash, received) select o.id, o.hash, v_now from offered o
        on conflict do nothing
        returning id
    )
    select array_agg(n.id) into v_new from new n;
    if coalesce(cardinality(v_new), 0) < cardinality(n_id) then
        select array_agg(case
                when n_guarded is not null and e.n = any (n_guarded) then 4
                when e.first and e.id = any (v_new) then 1
                when i.body_hash = e.hash then 2
                else 3 end order by e.n)
        into v_fates
        from (
            select o.*, row_number() over (
                partition by o.id, n_guarded is not null and o.n = any (n_guarded) order by o.n) = 1 as first
            from unnest(n_id, n_hash) with ordinality o (id, hash, n)
        ) e left join lateral (select i.body_hash from event_ids i where i.id = e.id offset 0) i on true;
    end if;
    insert into events (received, seq, ts, registry_version, id, name, data)
    select v_now, v_seq + e.n, e.ts, v_version, e.id, e.name, e.data
    from unnest(n_id, n_name, n_data, n_ts) with ordinality e (id, name, data, ts, n)
    where v_fates is null or v_fates[e.n] = 1;
    return v_fates;
end $$;

create function cancel_runs(
    x_run text[], x_value bytea[], x_status text[], x_unclaimed boolean[], x_off integer[], v_now bigint, v_seq bigint,
    v_system boolean, out outcomes text[], out ready text[], out touched text[], out ended text[]
) language plpgsql as $$
-- End those that live; answer what each run's status is now (null: no such run, or in `x_off`: its guard didn't land).
declare
    e record;
    v_status text[];
    v_value bytea[];
begin
    ready := '{}';
    touched := '{}';
    perform 1 from queue q where q.run_id = any (x_run) order by q.run_id for update;
    select array_agg(c.run_id), array_agg(c.status), array_agg(c.value) into ended, v_status, v_value
    from (
        select distinct on (x.run_id) x.run_id, x.status, x.value
        from unnest(x_run, x_status, x_value, x_unclaimed) with ordinality x (run_id, status, value, only_unclaimed, n)
        cross join lateral (select q.epoch from queue q where q.run_id = x.run_id offset 0) q
        where (x_off is null or x.n <> all (x_off)) and (not x.only_unclaimed or q.epoch = 0)
        order by x.run_id, x.n
    ) c;
    if ended is not null then
        select * into e from end_runs(ended, v_status, v_value, v_now, v_seq, v_system);
        ready := e.ready || unblock(e.freed);
        touched := e.touched || e.leased;
    end if;
    select array_agg(case when x_off is not null and x.n = any (x_off) then null else coalesce(d.status, case
            when q.run_id is null then null
            when q.runner_id is not null then 'running'
            when q.state = 1 then 'sleeping'
            when q.state = 2 then 'waiting'
            else 'queued' end) end order by x.n)
    into outcomes
    from unnest(x_run) with ordinality x (run_id, n)
    left join lateral (select q.run_id, q.runner_id, q.state from queue q where q.run_id = x.run_id offset 0) q on true
    left join lateral (select d.status from ends d where d.run_id = x.run_id offset 0) d on true;
end $$;
