-- Who lost its lease, and since when: so that recoveries are counted by function and cause, with the time that they took.

alter table runners add column beaten bigint not null default 0;
comment on column runners.beaten is 'the last beat; 0: none since this column was made';

create or replace function enrol(
    p_runner text, p_pools text[], p_functions text[], p_slots integer, p_lease bigint, p_draining boolean, p_now bigint
) returns void
language sql set search_path from current as $$
    insert into runners (runner_id, pools, functions, slots, expires, draining, beaten)
    select p_runner, p_pools, p_functions, p_slots, c.now + p_lease, p_draining, c.now
    from (select coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now) c
    on conflict (runner_id) do update
    set pools = excluded.pools, functions = excluded.functions, slots = excluded.slots, expires = excluded.expires,
        draining = excluded.draining, beaten = excluded.beaten
$$;

create or replace function enrol(
    p_runner text, p_pools text[], p_functions text[], p_slots integer, p_lease bigint, p_draining boolean, p_broken text,
    p_now bigint
) returns void
language sql set search_path from current as $$
    insert into runners (runner_id, pools, functions, slots, expires, draining, broken, beaten)
    select p_runner, p_pools, p_functions, p_slots, c.now + p_lease, p_draining, p_broken::jsonb, c.now
    from (select coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now) c
    on conflict (runner_id) do update
    set pools = excluded.pools, functions = excluded.functions, slots = excluded.slots, expires = excluded.expires,
        draining = excluded.draining, broken = excluded.broken, beaten = excluded.beaten
$$;

-- What `sweep` calls before it holds what is paused.
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
        ready := ready || unblock(v_freed);
        -- Lock, then look: a claim that is on its way holds a share of the lease row.
        select array_agg(d.runner_id) into v_dead from (
            select r.runner_id from runners r where r.runner_id = any (v_dead) and r.expires <= v_now for update skip locked) d;
        delete from runners r
        where r.runner_id = any (v_dead) and not exists (select from queue q where q.runner_id = r.runner_id);
    end if;
    ready := ready || lift_blocks(cl_functions, li_function, li_first, li_second, 10000);
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
