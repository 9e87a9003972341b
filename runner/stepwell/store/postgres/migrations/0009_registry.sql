-- The registry: functions, schedules and what waits listen on, as one version. Writers take its lock alone, commits share it.

create function register(
    p_owner text, f_id text[], f_revision text[], f_pool text[], f_spec bytea[],
    c_id text[], c_function text[], c_cron bytea[], c_int bigint[]
) returns bigint
language plpgsql set search_path from current set lock_timeout = '5s' as $$
-- Make these the owner's functions and schedules; the version moves only if something changed. `c_int`: created, last_due, next_due.
declare
    v_changed integer := 0;
    v_count integer;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema(), 0));
    update functions f set active = false where f.owner = p_owner and f.active and f.function_id <> all (f_id);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    insert into functions (function_id, revision, pool, owner, spec)
    select n.function_id, n.revision, n.pool, p_owner, n.spec
    from unnest(f_id, f_revision, f_pool, f_spec) n (function_id, revision, pool, spec)
    on conflict (function_id) do update
    set revision = excluded.revision, pool = excluded.pool, owner = excluded.owner, spec = excluded.spec, active = true
    where (functions.revision, functions.pool, functions.owner, functions.spec, functions.active)
          is distinct from (excluded.revision, excluded.pool, excluded.owner, excluded.spec, true);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    update schedules c set active = false where c.owner = p_owner and c.active and c.schedule_id <> all (c_id);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    insert into schedules (schedule_id, function_id, owner, cron, created, last_due, next_due)
    select n.schedule_id, n.function_id, p_owner, n.cron, n.created, n.last_due, n.next_due
    from unnest(c_id, c_function, c_cron, c_int[1:1], c_int[2:2], c_int[3:3])
        n (schedule_id, function_id, cron, created, last_due, next_due)
    on conflict (schedule_id) do update
    set function_id = excluded.function_id, owner = excluded.owner, cron = excluded.cron, active = true,
        -- One that was away begins anew: what fell due meanwhile was nobody's.
        created = case when schedules.active then schedules.created else excluded.created end,
        last_due = case when schedules.active then schedules.last_due else excluded.last_due end,
        next_due = case when schedules.active then schedules.next_due else excluded.next_due end
    where (schedules.function_id, schedules.owner, schedules.cron, schedules.active)
          is distinct from (excluded.function_id, excluded.owner, excluded.cron, true);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    if v_changed > 0 then
        update registry set version = version + 1;
    end if;
    return (select g.version from registry g);
end $$;

create function listen_on(p_name text[], p_path text[]) returns bigint
language plpgsql set search_path from current set lock_timeout = '5s' as $$
declare
    v_count integer;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema(), 0));
    insert into listens (name, path) select distinct n.name, n.path from unnest(p_name, p_path) n (name, path)
    on conflict do nothing;
    get diagnostics v_count = row_count;
    if v_count > 0 then
        update registry set version = version + 1;
    end if;
    return (select g.version from registry g);
end $$;

create function enrol(
    p_runner text, p_pools text[], p_functions text[], p_slots integer, p_lease bigint, p_draining boolean, p_now bigint
) returns void
language sql set search_path from current as $$
    insert into runners (runner_id, pools, functions, slots, expires, draining)
    values (p_runner, p_pools, p_functions, p_slots,
            coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint) + p_lease, p_draining)
    on conflict (runner_id) do update
    set pools = excluded.pools, functions = excluded.functions, slots = excluded.slots, expires = excluded.expires,
        draining = excluded.draining
$$;

create function leave(p_runner text, p_now bigint) returns integer
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
    perform unblock(v_keys);
    return v_freed;
end $$;

create function hand_back(p_runner text, p_runs text[], p_epochs bigint[], p_now bigint) returns integer
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
    perform unblock(v_keys);
    return v_freed;
end $$;
