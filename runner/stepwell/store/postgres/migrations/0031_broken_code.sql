-- What a runner has been asked to execute and can't load: [function, revision, why] for each, so that its runs can say so.

alter table runners add column broken jsonb not null default '[]';

-- Beside the `enrol` of before, which programs of before go on to call.
create function enrol(
    p_runner text, p_pools text[], p_functions text[], p_slots integer, p_lease bigint, p_draining boolean, p_broken text,
    p_now bigint
) returns void
language sql set search_path from current as $$
    insert into runners (runner_id, pools, functions, slots, expires, draining, broken)
    values (p_runner, p_pools, p_functions, p_slots,
            coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint) + p_lease, p_draining, p_broken::jsonb)
    on conflict (runner_id) do update
    set pools = excluded.pools, functions = excluded.functions, slots = excluded.slots, expires = excluded.expires,
        draining = excluded.draining, broken = excluded.broken
$$;
