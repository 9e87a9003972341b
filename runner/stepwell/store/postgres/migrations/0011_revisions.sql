-- Revisions: what runs may be pinned to, and where the code of each lies. They stay until no run needs them any more.

create table revisions (
    function_id text collate "C" not null,
    revision text collate "C" not null,
    pool text collate "C" not null,
    code bytea not null,
    created bigint not null,
    primary key (function_id, revision)
);
create index revisions_pool on revisions (pool);

-- Beside the `register` of before, which programs of before go on to call.
create function register(
    p_owner text, f_id text[], f_revision text[], f_pool text[], f_spec bytea[], f_active boolean[],
    c_id text[], c_function text[], c_cron bytea[], c_int bigint[],
    r_function text[], r_revision text[], r_pool text[], r_code bytea[], r_created bigint[]
) returns bigint
language plpgsql set search_path from current set lock_timeout = '5s' as $$
-- Make these the owner's functions and schedules, and add revisions; the version moves only if something changed.
-- `c_int`: created, last_due, next_due.
declare
    v_changed integer := 0;
    v_count integer;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema(), 0));
    update functions f set active = false where f.owner = p_owner and f.active and f.function_id <> all (f_id);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    insert into functions (function_id, revision, pool, owner, spec, active)
    select n.function_id, n.revision, n.pool, p_owner, n.spec, n.active
    from unnest(f_id, f_revision, f_pool, f_spec, f_active) n (function_id, revision, pool, spec, active)
    on conflict (function_id) do update
    set revision = excluded.revision, pool = excluded.pool, owner = excluded.owner, spec = excluded.spec, active = excluded.active
    where (functions.revision, functions.pool, functions.owner, functions.spec, functions.active)
          is distinct from (excluded.revision, excluded.pool, excluded.owner, excluded.spec, excluded.active);
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
    insert into revisions (function_id, revision, pool, code, created)
    select n.function_id, n.revision, n.pool, n.code, n.created
    from unnest(r_function, r_revision, r_pool, r_code, r_created) n (function_id, revision, pool, code, created)
    on conflict (function_id, revision) do update set pool = excluded.pool, code = excluded.code
    where (revisions.pool, revisions.code) is distinct from (excluded.pool, excluded.code);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    if v_changed > 0 then
        update registry set version = version + 1;
    end if;
    return (select g.version from registry g);
end $$;

create function is_needed(p_function text, p_revision text) returns boolean
language sql volatile set search_path from current as $$
-- Whether a revision is what an active function starts runs with, or what a live run is pinned to.
    select exists (select from functions f
                   where f.function_id in (p_function, p_function || '-failure') and f.revision = p_revision and f.active)
        or exists (select from queue q where q.function_id in (p_function, p_function || '-failure') and q.revision = p_revision)
$$;

create function forget_revision(p_function text, p_revision text) returns boolean
language plpgsql volatile set search_path from current set lock_timeout = '5s' as $$
-- Looked at twice, for with the registry locked no run starts: first without, then, if it seems to be over, with.
begin
    if is_needed(p_function, p_revision) then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended(current_schema(), 0));
    if is_needed(p_function, p_revision) then
        return false;
    end if;
    delete from revisions r where r.function_id = p_function and r.revision = p_revision;
    if found then
        update registry set version = version + 1;
    end if;
    return true;
end $$;
