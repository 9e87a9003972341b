-- What has no partitions goes in small batches, so that no lock is held for long.

create function prune(p_what text, p_before bigint, p_most integer) returns integer
language plpgsql set search_path from current as $$
-- Delete up to `p_most` rows from before that instant (µs) and say how many went. Strays are rows of the DEFAULT partitions.
declare
    v_gone integer;
    v_floor text;
begin
    case p_what
    when 'event_ids' then
        delete from event_ids where id in (select i.id from event_ids i where i.received < p_before limit p_most);
    when 'idempotency' then
        delete from idempotency where (function_id, key) in (
            select i.function_id, i.key from idempotency i where i.expires <= p_before limit p_most);
    when 'ticks' then
        -- The newest of each schedule stays: the next one is computed from it.
        delete from ticks where (schedule_id, due) in (
            select t.schedule_id, t.due from ticks t
            where t.at < p_before and t.due < (select max(n.due) from ticks n where n.schedule_id = t.schedule_id) limit p_most);
    when 'ledger' then
        -- What is left of a schedule may be older than its run.
        update ticks t set run_id = null
        where t.at < p_before and t.run_id is not null and not exists (select from runs r where r.run_id = t.run_id);
        return 0;
    when 'schedules' then
        delete from schedules where schedule_id in (
            select c.schedule_id from schedules c
            where not c.active and greatest(c.last_due, c.created) < p_before
              and not exists (select from ticks t where t.schedule_id = c.schedule_id) limit p_most);
    when 'events', 'decisions' then
        execute format('delete from only %I where ctid = any (array(select ctid from only %1$I where received < $1 limit $2))',
                       p_what || '_default') using p_before, p_most;
    else
        v_floor := ulid_floor(greatest(p_before, 0) / 1000);
        execute format('delete from only %I where ctid = any (array(select h.ctid from only %1$I h where h.run_id < $1 '
                       'and not exists (select from queue q where q.run_id = h.run_id) limit $2))',
                       p_what || '_default') using v_floor, p_most;
    end case;
    get diagnostics v_gone = row_count;
    return v_gone;
end $$;
