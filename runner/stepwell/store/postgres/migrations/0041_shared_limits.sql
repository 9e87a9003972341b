-- Functions that share a concurrency key may have different limits: what counts is the leases under it, not what one of them left.

create or replace function admit(
    p_run text[], p_function text[], p_key1 text[], p_key2 text[], li_function text[], li_first integer[], li_second integer[],
    p_picked text[]
) returns text[]
language plpgsql as $$
-- Of these locked candidates, in order, those that their keys have room for; the others are blocked on the first full key.
-- Each is held to the limits of its own function: several may share a key.
-- The keys are locked in order and nothing is waited for afterwards, so that counting and claiming is one act.
declare
    v_keys text[];
    v_used integer[];
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
    v_used := array_fill(null::integer, array[cardinality(v_keys)]);
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
        if v_one is not null and v_used[v_one] is null then
            v_used[v_one] := leases_under(v_keys[v_one], p_picked);
        end if;
        if v_two is not null and v_used[v_two] is null then
            v_used[v_two] := leases_under(v_keys[v_two], p_picked);
        end if;
        if v_one is not null and v_used[v_one] >= v_limit.first then
            v_blocked := v_blocked || p_run[place];
            v_on := v_on || v_keys[v_one];
        elsif v_two is not null and v_used[v_two] >= v_limit.second then
            v_blocked := v_blocked || p_run[place];
            v_on := v_on || v_keys[v_two];
        else
            v_taken := v_taken || p_run[place];
            if v_one is not null then
                v_used[v_one] := v_used[v_one] + 1;
            end if;
            if v_two is not null and v_two is distinct from v_one then
                v_used[v_two] := v_used[v_two] + 1;
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
