-- What one run's end or one event does to other runs.
--
-- How statements are written here and in the next files: never an open join with a table. Plans are made once and kept, often while
-- a table is empty, and then a planner reads all of it for every element of an array. So arrays are looked up by `= any`, by
-- `lateral (… offset 0)`, which can't be turned round, or by a ctid that was found that way (its row is locked).

create function resolve_waits(
    r_run text[], r_kind integer[], r_id text[], r_occ integer[], r_ok boolean[], r_value bytea[], v_now bigint, v_seq bigint,
    out ready text[], out touched text[]
) language plpgsql as $$
-- Take these open waits, record their steps, and wake their runs. What is no longer open is left alone; the first of two wins.
begin
    perform 1 from queue q where q.run_id = any (r_run) order by q.run_id for update;
    with wanted as (
        select distinct on (r.run_id, r.kind, r.step_id, r.occurrence) r.*
        from unnest(r_run, r_kind, r_id, r_occ, r_ok, r_value) with ordinality r (run_id, kind, step_id, occurrence, ok, value, n)
        order by r.run_id, r.kind, r.step_id, r.occurrence, r.n
    ), open as (
        select r.*, w.place from wanted r cross join lateral (
            select w.ctid as place from waits w
            where w.run_id = r.run_id and w.kind = r.kind and w.step_id = r.step_id and w.occurrence = r.occurrence offset 0) w
    ), taken as (
        delete from waits w using open r where w.ctid = r.place
        returning w.run_id, w.kind, w.step_id, w.occurrence, w.opened, r.ok, r.value, r.n
    ), recorded as (
        insert into steps (run_id, step_id, occurrence, kind, ok, attempts, epoch, seq, started, ended, value)
        select t.run_id, t.step_id, t.occurrence, t.kind, t.ok, 1, q.epoch, v_seq + t.n, t.opened, v_now, t.value
        from taken t cross join lateral (select q.epoch from queue q where q.run_id = t.run_id offset 0) q
        on conflict do nothing
    ), woken as (
        update queue q
        set inbox = q.inbox + t.many,
            due = case when q.runner_id is null then least(q.due, v_now) else q.due end
        from (
            select g.many, l.place from (select t.run_id, count(*)::integer as many from taken t group by t.run_id) g
            cross join lateral (select l.ctid as place from queue l where l.run_id = g.run_id offset 0) l
        ) t
        where q.ctid = t.place
        returning q.run_id, q.pool, q.runner_id
    )
    select array_agg(distinct w.pool) filter (where w.runner_id is null), array_agg(w.run_id) filter (where w.runner_id is not null)
    into ready, touched
    from woken w;
end $$;

create function child_result(child text, status text, value bytea) returns bytea
language sql immutable as $$
-- What an ended run is to the step that invoked it: its value, or an error that tells of its error.
    select case status when 'completed' then value else
        convert_to(format('{"name":"InvokedFunction%s","message":"run %s is %s","attempts":1,"run_id":"%2$s","cause":',
                          initcap(status), child, status), 'UTF8') || value || convert_to('}', 'UTF8') end
$$;

create function end_runs(
    x_run text[], x_status text[], x_value bytea[], v_now bigint, v_seq bigint, v_system boolean,
    out ready text[], out touched text[], out leased text[], out freed text[]
) language plpgsql as $$
-- End live runs, whose queue rows the caller has locked: their waits go, and whoever invoked them hears of it.
declare
    p_run text[];
    p_kind integer[];
    p_id text[];
    p_occ integer[];
    p_ok boolean[];
    p_value bytea[];
begin
    insert into ends (run_id, started, ended, seq, epoch, status, value)
    select x.run_id, q.started, v_now, v_seq, q.epoch, x.status, x.value
    from unnest(x_run, x_status, x_value) x (run_id, status, value)
    cross join lateral (select q.started, q.epoch from queue q where q.run_id = x.run_id offset 0) q
    on conflict do nothing;
    with gone as (
        delete from queue q where q.run_id = any (x_run) returning q.run_id, q.runner_id, q.key1, q.key2
    ), noted as (
        insert into outbox (run_id, at) select g.run_id, v_now from gone g where v_system
        on conflict do nothing
    )
    select array_agg(g.run_id) filter (where g.runner_id is not null),
           array_agg(g.key1) filter (where g.key1 is not null and g.runner_id is not null)
           || array_agg(g.key2) filter (where g.key2 is not null and g.runner_id is not null)
    into leased, freed
    from gone g;
    delete from waits w where w.run_id = any (x_run);
    select array_agg(w.run_id), array_agg(w.kind), array_agg(w.step_id), array_agg(w.occurrence),
           array_agg(x.status = 'completed'), array_agg(child_result(x.run_id, x.status, x.value))
    into p_run, p_kind, p_id, p_occ, p_ok, p_value
    from unnest(x_run, x_status, x_value) x (run_id, status, value)
    cross join lateral (select w.* from waits w where w.target_run = x.run_id offset 0) w;
    if p_run is not null then
        select * into ready, touched from resolve_waits(p_run, p_kind, p_id, p_occ, p_ok, p_value, v_now, v_seq);
    end if;
end $$;

create function unblock(freed text[]) returns text[]
language plpgsql as $$
-- As many blocked runs as slots were freed become claimable, oldest due first; the claim checks the limit again.
declare
    k record;
    woken text[];
    pools text[] := '{}';
begin
    for k in select key, count(*)::integer as many from unnest(freed) f (key) group by key order by key loop
        with lifted as (
            update queue q set blocked_on = null
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
