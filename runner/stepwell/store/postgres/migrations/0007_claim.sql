-- Leases: what ran out is freed, what is due is claimed, within the limits of each concurrency key.

create function sweep(
    v_now bigint, cl_functions text[], li_function text[], li_first integer[], li_second integer[],
    out recovered integer, out ready text[], out overdue jsonb, out outbox_runs text[]
) language plpgsql as $$
-- Free what expired leases hold (rows that a last write has locked wait for the next sweep), lift blocks, report the overdue.
declare
    v_dead text[];
    v_freed text[];
begin
    recovered := 0;
    ready := '{}';
    select array_agg(r.runner_id) into v_dead from runners r where r.expires <= v_now;
    if v_dead is not null then
        with held as materialized (
            select q.run_id, q.ctid as place from queue q where q.runner_id = any (v_dead) order by q.run_id for update skip locked
        ), counted as materialized (
            select h.place, (select count(*)::integer from steps s where s.run_id = h.run_id) as steps from held h
        ), freed as (
            update queue q
            set runner_id = null, due = v_now, since = v_now,
                recoveries = case when c.steps > q.recovered_steps then 1 else q.recoveries + 1 end,
                recovered_steps = greatest(q.recovered_steps, c.steps)
            from counted c where q.ctid = c.place
            returning q.pool, q.key1, q.key2
        )
        select count(*), coalesce(array_agg(distinct f.pool), '{}'),
               array_agg(f.key1) filter (where f.key1 is not null) || array_agg(f.key2) filter (where f.key2 is not null)
        into recovered, ready, v_freed from freed f;
        ready := ready || unblock(v_freed);
        -- Lock, then look: a claim that is on its way holds a share of the lease row.
        select array_agg(d.runner_id) into v_dead from (
            select r.runner_id from runners r where r.runner_id = any (v_dead) and r.expires <= v_now for update skip locked) d;
        delete from runners r
        where r.runner_id = any (v_dead) and not exists (select from queue q where q.runner_id = r.runner_id);
    end if;
    ready := ready || lift_blocks(cl_functions, li_function, li_first, li_second, 10000);
    select jsonb_agg(jsonb_build_array(o.run_id, o.function_id, o.reason)) into overdue from (
        (select q.run_id, q.function_id, case q.deadline_kind when 0 then 'start' else 'finish' end as reason
         from queue q where q.deadline is not null and q.deadline <= v_now order by q.deadline limit 100)
        union all
        (select q.run_id, q.function_id, 'poison' from queue q
         where q.recoveries >= 5 and q.runner_id is null and (q.deadline is null or q.deadline > v_now) limit 100)
    ) o;
    select array_agg(o.run_id) into outbox_runs from (select b.run_id from outbox b order by b.run_id limit 100) o;
end $$;

create function lift_blocks(
    cl_functions text[], li_function text[], li_first integer[], li_second integer[], most integer
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
        if found and k.function_id = any (cl_functions || li_function) then
            select coalesce(nullif(max(case when k.key1 = v_key then l.first else l.second end), 0), 1000) into v_room
            from unnest(li_function, li_first, li_second) l (function_id, first, second) where l.function_id = k.function_id;
            v_room := v_room - leases_under(v_key, '{}');
            if v_room > 0 then
                v_pools := v_pools || unblock(array_fill(v_key, array[least(v_room, 1000)]));
            end if;
        end if;
        select min(q.blocked_on) into v_key from queue q where q.blocked_on > v_key;
    end loop;
    return v_pools;
end $$;

create function leases_under(wanted text, picked text[]) returns integer
language sql volatile as $$
-- How many leases count under a key, those included that this very claim is about to take.
    select ((select count(*) from queue q where q.key1 = wanted and q.runner_id is not null)
          + (select count(*) from queue q where q.key2 = wanted and q.key1 is distinct from wanted and q.runner_id is not null)
          + (select count(*) from queue q where q.run_id = any (picked) and (q.key1 = wanted or q.key2 = wanted)))::integer
$$;

create function admit(
    p_run text[], p_function text[], p_key1 text[], p_key2 text[], li_function text[], li_first integer[], li_second integer[],
    p_picked text[]
) returns text[]
language plpgsql as $$
-- Of these locked candidates, in order, those that their keys have room for; the others are blocked on the first full key.
-- The keys are locked in order and nothing is waited for afterwards, so that counting and claiming is one act.
declare
    v_keys text[];
    v_left integer[];
    v_limit record;
    v_one integer;
    v_two integer;
    v_taken text[] := '{}';
    v_blocked text[] := '{}';
    v_on text[] := '{}';
    v_key text;
begin
    select array_agg(k.key order by k.key) into v_keys from (
        select unnest(p_key1) as key union select unnest(p_key2)
    ) k where k.key is not null;
    v_left := array_fill(null::integer, array[cardinality(v_keys)]);
    foreach v_key in array v_keys loop
        perform pg_advisory_xact_lock(hashtextextended(current_schema() || ':key:' || v_key, 0));
    end loop;
    for place in 1..cardinality(p_run) loop
        if p_key1[place] is null and p_key2[place] is null then
            v_taken := v_taken || p_run[place];
            continue;
        end if;
        select nullif(l.first, 0) as first, nullif(l.second, 0) as second into v_limit
        from unnest(li_function, li_first, li_second) l (function_id, first, second) where l.function_id = p_function[place];
        v_one := case when v_limit.first is null then null else array_position(v_keys, p_key1[place]) end;
        v_two := case when v_limit.second is null then null else array_position(v_keys, p_key2[place]) end;
        if v_one is not null and v_left[v_one] is null then
            v_left[v_one] := v_limit.first - leases_under(v_keys[v_one], p_picked);
        end if;
        if v_two is not null and v_left[v_two] is null then
            v_left[v_two] := v_limit.second - leases_under(v_keys[v_two], p_picked);
        end if;
        if v_one is not null and v_left[v_one] <= 0 then
            v_blocked := v_blocked || p_run[place];
            v_on := v_on || v_keys[v_one];
        elsif v_two is not null and v_left[v_two] <= 0 then
            v_blocked := v_blocked || p_run[place];
            v_on := v_on || v_keys[v_two];
        else
            v_taken := v_taken || p_run[place];
            if v_one is not null then
                v_left[v_one] := v_left[v_one] - 1;
            end if;
            if v_two is not null and v_two is distinct from v_one then
                v_left[v_two] := v_left[v_two] - 1;
            end if;
        end if;
    end loop;
    if cardinality(v_blocked) > 0 then
        update queue q set blocked_on = b.key
        from (
            select u.key, l.place from unnest(v_blocked, v_on) u (run_id, key)
            cross join lateral (select l.ctid as place from queue l where l.run_id = u.run_id offset 0) l
        ) b
        where q.ctid = b.place;
    end if;
    return v_taken;
end $$;

create function pick(
    cl_pools text[], cl_functions text[], v_room integer, li_function text[], li_first integer[], li_second integer[], v_now bigint
) returns text[]
language plpgsql as $$
-- Lock up to `v_room` due runs in the order of their due times, and leave out those whose concurrency key is full.
declare
    p_run text[];
    p_function text[];
    p_key1 text[];
    p_key2 text[];
    v_keyed boolean;
    v_picked text[] := '{}';
    v_left integer := v_room;
begin
    for round in 1..100 loop
        -- Bare sub-select on the partial index: anything more would lock rows that are not returned.
        select array_agg(c.run_id), array_agg(c.function_id), array_agg(c.key1), array_agg(c.key2),
               bool_or(c.key1 is not null or c.key2 is not null)
        into p_run, p_function, p_key1, p_key2, v_keyed
        from (
            select d.* from unnest(cl_pools) p (pool) cross join lateral (
                select q.run_id, q.due, q.function_id, q.key1, q.key2 from queue q
                where q.pool = p.pool and q.runner_id is null and q.blocked_on is null and q.due <= v_now
                  and q.recoveries < 5 and q.function_id = any (cl_functions)
                  and (round = 1 or q.run_id <> all (v_picked))
                order by q.due, q.run_id limit v_left for update skip locked
            ) d
            order by d.due, d.run_id limit v_left
        ) c;
        exit when p_run is null;
        if not v_keyed then
            return v_picked || p_run;
        end if;
        v_picked := v_picked || admit(p_run, p_function, p_key1, p_key2, li_function, li_first, li_second, v_picked);
        v_left := v_room - cardinality(v_picked);
        exit when v_left <= 0;
    end loop;
    return v_picked;
end $$;
