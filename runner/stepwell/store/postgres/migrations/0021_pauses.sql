-- Functions that somebody paused: their runs wait. What is due of them is blocked on `!FUNCTION`, a key that no limit has, so that it lies
-- outside the index of what may be claimed, however much it is; a claim leaves out what fell due since.

create table pauses (
    function_id text collate "C" primary key,
    since bigint not null,
    paused_by text not null,
    reason text not null,
    source text collate "C" not null check (source in ('api', 'manifest'))
);

create function pause_function(p_function text, p_since bigint, p_by text, p_reason text, p_source text) returns boolean
language plpgsql set search_path from current set lock_timeout = '5s' as $$
-- The registry's version moves, so that no start is planned, and claimed in one, without knowing of the pause.
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema(), 0));
    insert into pauses (function_id, since, paused_by, reason, source) values (p_function, p_since, p_by, p_reason, p_source)
    on conflict do nothing;
    if found then
        update registry set version = version + 1;
    end if;
    return found;
end $$;

create function resume_function(p_function text) returns boolean
language plpgsql set search_path from current set lock_timeout = '5s' as $$
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema(), 0));
    delete from pauses p where p.function_id = p_function;
    if found then
        update registry set version = version + 1;
        return true;
    end if;
    return false;
end $$;

create function hold_paused(v_now bigint, most integer) returns text[]
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
                update queue q set blocked_on = null
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

-- The claim of before, of functions that are not paused.
alter function pick(text[], text[], integer, text[], integer[], integer[], bigint) rename to pick_of;

create function pick(
    cl_pools text[], cl_functions text[], v_room integer, li_function text[], li_first integer[], li_second integer[], v_now bigint
) returns text[]
language plpgsql as $$
begin
    if exists (select from pauses) then
        cl_functions := array(
            select f.function_id from unnest(cl_functions) f (function_id)
            where not exists (select from pauses p where p.function_id = f.function_id));
    end if;
    return pick_of(cl_pools, cl_functions, v_room, li_function, li_first, li_second, v_now);
end $$;

-- The sweep of before, and what is paused.
alter function sweep(bigint, text[], text[], integer[], integer[]) rename to sweep_leases;

create function sweep(
    v_now bigint, cl_functions text[], li_function text[], li_first integer[], li_second integer[],
    out recovered integer, out ready text[], out overdue jsonb, out outbox_runs text[]
) language plpgsql as $$
begin
    select * into recovered, ready, overdue, outbox_runs
    from sweep_leases(v_now, cl_functions, li_function, li_first, li_second);
    ready := ready || hold_paused(v_now, 10000);
end $$;

-- As before, but for keys that pauses have.
create or replace function lift_blocks(
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
        if found and k.function_id = any (cl_functions || li_function) and not starts_with(v_key, '!') then
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
