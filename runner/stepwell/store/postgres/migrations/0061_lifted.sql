-- Since when what a limit or a pause had held back may be claimed again, so that the time before isn't taken for a wait for a runner.
--
-- `since` can't say it: it tells people how long a run has been blocked, and one that needs two keys is let go by the one and blocked
-- by the other with each sweep.

alter table queue add column lifted bigint not null default 0;
comment on column queue.lifted is 'when it was last let go by a limit or a pause; 0: never';

-- The two that had no instant stay beside these, for what is under way while this migration is applied.
create function unblock(freed text[], v_now bigint) returns text[]
language plpgsql as $$
-- As many blocked runs as slots were freed become claimable, oldest due first; the claim checks the limit again.
declare
    k record;
    woken text[];
    pools text[] := '{}';
begin
    for k in select key, count(*)::integer as many from unnest(freed) f (key) group by key order by key loop
        with lifted as (
            update queue q set blocked_on = null, lifted = v_now
            where q.run_id = any (array(
                select b.run_id from queue b where b.blocked_on = k.key
                order by b.due, b.run_id limit k.many for update skip locked))
            returning q.pool
        )
        select array_agg(distinct l.pool) into woken from lifted l;
        pools := pools || coalesce(woken, '{}');
    end loop;
    return pools;
end $$;

create function lift_blocks(
    cl_functions text[], li_function text[], li_first integer[], li_second integer[], most integer, v_now bigint
) returns text[]
language plpgsql as $$
-- Unblock as many runs as their keys have room for; of functions that this runner knows, for others it has no limits.
declare
    k record;
    v_key text;
    v_room integer;
    v_pools text[] := '{}';
    v_seen integer := 0;
begin
    select min(q.blocked_on) into v_key from queue q where q.blocked_on is not null;
    while v_key is not null and v_seen < most loop
        v_seen := v_seen + 1;
        select q.function_id, q.key1 into k from queue q where q.blocked_on = v_key order by q.due, q.run_id limit 1;
        if found and k.function_id = any (cl_functions || li_function) and not starts_with(v_key, '!') then
            select coalesce(nullif(max(case when k.key1 = v_key then l.first else l.second end), 0), 1000) into v_room
            from unnest(li_function, li_first, li_second) l (function_id, first, second) where l.function_id = k.function_id;
            v_room := v_room - leases_under(v_key, '{}');
            if v_room > 0 then
                v_pools := v_pools || unblock(array_fill(v_key, array[least(v_room, 1000)]), v_now);
            end if;
        end if;
        select min(q.blocked_on) into v_key from queue q where q.blocked_on > v_key;
    end loop;
    return v_pools;
end $$;

-- All that follows is as before, but for that instant.
create or replace function hold_paused(v_now bigint, most integer) returns text[]
language plpgsql set search_path from current as $$
-- Block what is due of paused functions, and let go what is blocked of those that are paused no longer; the pools that have news.
declare
    v_function text;
    v_key text;
    v_pools text[] := '{}';
    v_woken text[];
begin
    for v_function in select p.function_id from pauses p order by p.function_id loop
        update queue q set blocked_on = '!' || v_function
        where q.run_id = any (array(
            select c.run_id from (select distinct f.pool from functions f where f.function_id = v_function
                                  union select r.pool from revisions r where r.function_id = v_function) p
            cross join lateral (
                select d.run_id from queue d
                where d.pool = p.pool and d.runner_id is null and d.blocked_on is null and d.due <= v_now and d.function_id = v_function
                order by d.due, d.run_id limit most for update skip locked) c));
    end loop;
    select min(q.blocked_on) into v_key from queue q where q.blocked_on >= '!' and q.blocked_on < '"';
    while v_key is not null loop
        if not exists (select from pauses p where p.function_id = substr(v_key, 2)) then
            with lifted as (
                update queue q set blocked_on = null, lifted = v_now
                where q.run_id = any (array(
                    select b.run_id from queue b where b.blocked_on = v_key
                    order by b.due, b.run_id limit most for update skip locked))
                returning q.pool
            )
            select array_agg(distinct l.pool) into v_woken from lifted l;
            v_pools := v_pools || coalesce(v_woken, '{}');
        end if;
        select min(q.blocked_on) into v_key from queue q where q.blocked_on > v_key and q.blocked_on < '"';
    end loop;
    return v_pools;
end $$;

create or replace function sweep_leases(
    v_now bigint, cl_functions text[], li_function text[], li_first integer[], li_second integer[],
    out recovered integer, out ready text[], out overdue jsonb, out outbox_runs text[]
) language plpgsql as $$
-- Free what expired leases hold (rows that a last write has locked wait for the next sweep), lift blocks, report the overdue.
-- What was freed is among the overdue, with its cause (`lease_expired`, or `restart` for a lease that was ended) and the last beat.
declare
    v_dead text[];
    v_freed text[];
    v_lost jsonb;
begin
    recovered := 0;
    ready := '{}';
    select array_agg(r.runner_id) into v_dead from runners r where r.expires <= v_now;
    if v_dead is not null then
        with held as materialized (
            select q.run_id, q.ctid as place, r.beaten, r.expires
            from queue q join runners r on r.runner_id = q.runner_id
            where q.runner_id = any (v_dead) order by q.run_id for update of q skip locked
        ), counted as materialized (
            select h.*, (select count(*)::integer from steps s where s.run_id = h.run_id) as steps from held h
        ), freed as (
            update queue q
            set runner_id = null, due = v_now, since = v_now,
                recoveries = case when c.steps > q.recovered_steps then 1 else q.recoveries + 1 end,
                recovered_steps = greatest(q.recovered_steps, c.steps)
            from counted c where q.ctid = c.place
            returning q.run_id, q.function_id, q.pool, q.key1, q.key2, c.beaten, c.expires
        )
        select count(*), coalesce(array_agg(distinct f.pool), '{}'),
               array_agg(f.key1) filter (where f.key1 is not null) || array_agg(f.key2) filter (where f.key2 is not null),
               jsonb_agg(jsonb_build_array(f.run_id, f.function_id, case f.expires when 0 then 'restart' else 'lease_expired' end, f.beaten)
                         order by f.run_id)
        into recovered, ready, v_freed, v_lost from freed f;
        ready := ready || unblock(v_freed, v_now);
        -- Lock, then look: a claim that is on its way holds a share of the lease row.
        select array_agg(d.runner_id) into v_dead from (
            select r.runner_id from runners r where r.runner_id = any (v_dead) and r.expires <= v_now for update skip locked) d;
        delete from runners r
        where r.runner_id = any (v_dead) and not exists (select from queue q where q.runner_id = r.runner_id);
    end if;
    ready := ready || lift_blocks(cl_functions, li_function, li_first, li_second, 10000, v_now);
    select jsonb_agg(jsonb_build_array(o.run_id, o.function_id, o.reason, 0)) into overdue from (
        (select q.run_id, q.function_id, case q.deadline_kind when 0 then 'start' else 'finish' end as reason
         from queue q where q.deadline is not null and q.deadline <= v_now order by q.deadline limit 100)
        union all
        (select q.run_id, q.function_id, 'poison' from queue q
         where q.recoveries >= 5 and q.runner_id is null and (q.deadline is null or q.deadline > v_now) limit 100)
    ) o;
    if v_lost is not null then
        overdue := coalesce(overdue, '[]') || v_lost;
    end if;
    select array_agg(o.run_id) into outbox_runs from (select b.run_id from outbox b order by b.run_id limit 100) o;
end $$;

create or replace function fire_ticks(
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
                ready := ready || e.ready || unblock(e.freed, v_now);
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

create or replace function cancel_runs(
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
        ready := e.ready || unblock(e.freed, v_now);
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

create or replace function leave(p_runner text, p_now bigint) returns integer
language plpgsql set search_path from current set lock_timeout = '5s' as $$
-- A drained runner's last act: nothing that it still holds is counted as a failure of the run.
declare
    v_now constant bigint := coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    v_keys text[];
    v_freed integer;
begin
    -- The lease row first: a claim that is on its way holds a share of it.
    perform 1 from runners r where r.runner_id = p_runner for update;
    perform 1 from queue q where q.runner_id = p_runner order by q.run_id for update;
    select array_agg(k.key) filter (where k.key is not null) into v_keys
    from queue q cross join lateral (values (q.key1), (q.key2)) k (key) where q.runner_id = p_runner;
    update queue q set runner_id = null, due = v_now, since = v_now, state = 0 where q.runner_id = p_runner;
    get diagnostics v_freed = row_count;
    delete from runners r where r.runner_id = p_runner;
    perform unblock(v_keys, v_now);
    return v_freed;
end $$;

create or replace function hand_back(p_runner text, p_runs text[], p_epochs bigint[], p_now bigint) returns integer
language plpgsql set search_path from current set lock_timeout = '5s' as $$
-- For a runner that was leased runs it knows nothing of, since the answer to its claim was lost.
declare
    v_now constant bigint := coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    v_keys text[];
    v_freed integer;
begin
    perform 1 from queue q where q.run_id = any (p_runs) and q.runner_id = p_runner order by q.run_id for update;
    with freed as (
        update queue q set runner_id = null, due = v_now, since = v_now, state = 0
        from unnest(p_runs, p_epochs) g (run_id, epoch)
        where q.run_id = g.run_id and q.epoch = g.epoch and q.runner_id = p_runner
        returning q.run_id, q.key1, q.key2
    )
    select count(distinct f.run_id), array_agg(k.key) filter (where k.key is not null) into v_freed, v_keys
    from freed f cross join lateral (values (f.key1), (f.key2)) k (key);
    perform unblock(v_keys, v_now);
    return v_freed;
end $$;
