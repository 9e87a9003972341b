-- The one write of 0008, where its order of locks and its arrays are told: it lets go with the instant, and tells the claim, of each
-- run that was let go after it was due, when that was.

create or replace function commit_pile(
    p_version bigint, p_locked boolean, p_now bigint, p_system boolean, p_keys text[],
    t_run text[], t_epoch integer[], t_also text[],
    s_turn integer[], s_id text[], s_occ integer[], s_kind integer[], s_ok boolean[], s_value bytea[], s_attempts integer[],
    s_started bigint[], s_ended bigint[],
    c_int integer[], c_text text[],
    e_turn integer[], e_status text[], e_value bytea[],
    k_turn integer[], k_due bigint[], k_state integer[], k_attempt integer[], k_steps integer[], k_inbox integer[],
    o_int bigint[], o_text text[], o_bytes bytea[],
    a_int bigint[], a_step text[], a_error bytea[],
    g_turn integer[], g_key text[], g_value bytea[], g_step integer[],
    n_id text[], n_name text[], n_data bytea[], n_hash bytea[], n_ts bigint[], n_turn integer[], n_tick integer[],
    st_run text[], st_function text[], st_revision text[], st_pool text[], st_trigger integer[], st_input bytea[],
    st_created bigint[], st_due bigint[], st_event integer[], st_turn integer[], st_lease text[], st_more_text text[],
    st_more_int bigint[], st_events text[], re_start integer[], re_event text[],
    d_event integer[], d_text text[],
    m_int integer[], m_text text[], m_value bytea[],
    x_run text[], x_value bytea[], x_status text[], x_event integer[], x_unclaimed boolean[],
    tk_text text[], tk_int bigint[],
    p_wakes text[], p_outbox_done text[],
    cl_runner text, cl_pools text[], cl_functions text[], cl_room integer, cl_sweep boolean,
    li_function text[], li_first integer[], li_second integer[], w_run text[], w_int integer[],
    out out_now bigint, out out_version bigint, out out_stale boolean, out out_rest jsonb, out out_recovered integer,
    out out_ready text[], out out_touched text[], out out_next_due bigint,
    out cd_run text[], out cd_function text[], out cd_revision text[], out cd_epoch integer[], out cd_inbox integer[],
    out cd_attempt integer[], out cd_steps integer[], out cd_due bigint[], out cd_created bigint[], out cd_trigger integer[],
    out cd_input bytea[], out cd_recovered boolean[]
) language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan set lock_timeout = '2s'
set search_path from current
as $$
declare
    r record;
    v_seq bigint;
    v_landed integer[];
    v_again integer[];
    v_fenced integer[];
    v_late integer[];
    v_ended text[];
    v_also text[] := t_also;
    v_ticks integer[];
    v_fates integer[];
    v_off integer[];
    v_standins text[];
    v_lost integer[];
    v_signalled integer[];
    v_skipped integer[];
    v_picked text[];
    v_value bytea[] := s_value;
    v_target text[] := o_text;
    v_made text[];
    v_json jsonb;
    v_pools text[];
    v_e_run text[];
    v_e_status text[];
    v_e_value bytea[];
begin
    out_stale := false;
    out_recovered := 0;
    out_now := coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    -- 0: one whole version of the registry
    if p_locked then
        perform pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 0));
    end if;
    select g.version into out_version from registry g where g.only_row;
    if p_version >= 0 and p_version <> out_version then
        out_stale := true;
        return;
    end if;
    -- 1: waits that the events may match
    if p_keys is not null then
        select jsonb_build_object('candidates', jsonb_agg(jsonb_build_array(
            w.run_id, w.kind, w.step_id, w.occurrence, w.due, w.opened, w.attempt, w.name, w.match_key, w.residual,
            encode(w.context, 'base64'), w.target_run, encode(w.detail, 'base64'))))
        into out_rest
        from waits w where w.match_key = any (p_keys) and w.kind in (3, 9) having count(*) > 0;
        if out_rest is not null then
            return;
        end if;
    end if;
    -- 3: fences, after all queue rows that we know of are locked in order
    if e_turn is not null or x_run is not null then
        v_also := v_also || array(
            select w.run_id from waits w where w.target_run = any (x_run)
            union all
            select w.run_id from waits w where w.target_run = any (array(select t_run[e.turn] from unnest(e_turn) e (turn))));
    end if;
    if g_key is not null then
        v_also := v_also || array(select w.run_id from waits w where w.match_key = any (g_key));
    end if;
    if tk_text is not null then
        v_also := v_also || array(select c.last_run from schedules c where c.schedule_id = any (tk_text[1:1]) and c.last_run is not null);
    end if;
    if cardinality(v_also) > 0 then
        perform 1 from queue q where q.run_id = any (t_run || v_also) order by q.run_id for update;
    end if;
    if t_run is not null then
        select array_agg(l.n) into v_landed from (
            select t.n::integer as n
            from (select * from unnest(t_run, t_epoch) with ordinality u (run_id, epoch, n) order by u.run_id) t
            cross join lateral (
                select from queue q where q.run_id = t.run_id and q.epoch = t.epoch and q.runner_id is not null for update
            ) q
        ) l;
        if coalesce(cardinality(v_landed), 0) < cardinality(t_run) then
            -- An end that was sent again: it landed, and has nothing more to do.
            select array_agg(e.turn) into v_again from unnest(e_turn) with ordinality e (turn, n)
            cross join lateral (
                select from ends d where d.run_id = t_run[e.turn] and d.epoch = t_epoch[e.turn]
                and d.status = e_status[e.n] and d.value = e_value[e.n] offset 0) d;
            select array_agg(t.n) into v_fenced from generate_series(1, cardinality(t_run)) t (n)
            where v_landed is null or t.n <> all (v_landed);
            v_late := v_fenced;
            if v_again is not null then
                select array_agg(f.n) into v_fenced from unnest(v_fenced) f (n) where f.n <> all (v_again);
            end if;
        end if;
    end if;
    -- 2: the instant, and the order of what is written for one run
    v_seq := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    out_now := coalesce(p_now, v_seq);
    -- 4: ticks
    if tk_text is not null then
        select * into r from fire_ticks(tk_text, tk_int, out_now, v_seq, p_system);
        v_ticks := r.outcomes;
        out_ready := out_ready || r.ready;
        out_touched := out_touched || r.touched;
        v_ended := v_ended || r.ended;
        out_rest := coalesce(out_rest, '{}') || jsonb_build_object('ticks', v_ticks);
        v_seq := v_seq + cardinality(v_ticks);
    end if;
    -- 5: events
    if n_id is not null then
        if n_turn is not null or n_tick is not null then
            select array_agg(e.n) into v_off
            from unnest(n_id, n_turn, n_tick) with ordinality e (id, turn, tick, n)
            where e.turn = any (v_fenced) or (e.tick > 0 and v_ticks[e.tick] is distinct from 1);
        end if;
        v_fates := accept_events(n_id, n_name, n_data, n_hash, n_ts, v_off, out_now, v_seq, out_version);
        if v_fates is not null then
            out_rest := coalesce(out_rest, '{}') || jsonb_build_object('fates', v_fates);
        end if;
        v_seq := v_seq + cardinality(n_id);
    end if;
    if d_event is not null then
        insert into decisions (received, event_id, function_id, decision, detail)
        select out_now, n_id[d.event], d.function_id, d.decision, d.detail
        from unnest(d_event, d_text[1:1], d_text[2:2], d_text[3:3]) d (event, function_id, decision, detail)
        where v_fates is null or v_fates[d.event] = 1;
    end if;
    -- 6: events that end waits
    if m_int is not null then
        select array_agg(m.run_id) as run, array_agg(m.kind) as kind, array_agg(m.step_id) as id, array_agg(m.occurrence) as occ,
               array_agg(true) as ok, array_agg(m.value) as value
        into r
        from unnest(m_int[1:1], m_int[2:2], m_int[3:3], m_text[1:1], m_text[2:2], m_value)
            m (event, kind, occurrence, run_id, step_id, value)
        where m.event = 0 or v_fates is null or v_fates[m.event] = 1;
        if r.run is not null then
            select * into r from resolve_waits(r.run, r.kind, r.id, r.occ, r.ok, r.value, out_now, v_seq);
            out_ready := out_ready || r.ready;
            out_touched := out_touched || r.touched;
        end if;
        v_seq := v_seq + cardinality(m_value);
    end if;
    -- 7: cancels
    if x_run is not null then
        v_off := null;
        if v_fates is not null and x_event is not null then
            select array_agg(x.n) into v_off from unnest(x_event) with ordinality x (event, n)
            where x.event > 0 and v_fates[x.event] <> 1;
        end if;
        select * into r from cancel_runs(x_run, x_value, x_status, x_unclaimed, v_off, out_now, v_seq, p_system);
        out_ready := out_ready || r.ready;
        out_touched := out_touched || r.touched;
        v_ended := v_ended || r.ended;
        out_rest := coalesce(out_rest, '{}') || jsonb_build_object('cancels', r.outcomes);
        v_seq := v_seq + cardinality(x_run);
    end if;
    if t_run is not null and v_ended is not null then
        -- A run that this very pile cancelled records nothing more.
        select array_agg(t.n) into v_off from unnest(t_run) with ordinality t (run_id, n)
        where t.run_id = any (v_ended) and (v_late is null or t.n <> all (v_late));
        v_fenced := v_fenced || v_off;
        v_late := v_late || v_off;
    end if;
    if v_fenced is not null then
        out_rest := coalesce(out_rest, '{}') || jsonb_build_object('fenced', v_fenced);
    end if;
    -- 8: starts
    if st_run is not null then
        v_off := null;
        if v_fates is not null or v_fenced is not null then
            select array_agg(s.n) into v_off
            from unnest(st_run, st_event, st_turn) with ordinality s (run_id, event, turn, n)
            where (s.event > 0 and v_fates[s.event] <> 1) or s.turn = any (v_fenced);
            if v_off is not null then
                out_rest := coalesce(out_rest, '{}') || jsonb_build_object('not_started', v_off);
            end if;
        end if;
        if st_more_text is not null then
            select * into r from claim_keys(st_run, st_function, st_more_text, st_more_int, v_off, out_now);
            v_standins := r.standins;
            if r.taken is not null then
                out_rest := coalesce(out_rest, '{}') || jsonb_build_object('taken', (
                    select jsonb_agg(jsonb_build_array(t.n, v_standins[t.n])) from unnest(r.taken) t (n)));
                select array_agg(t.n) into v_skipped from unnest(r.taken) t (n)
                where coalesce(st_turn[t.n], 0) = 0 and st_trigger[t.n] <> 3;
                if v_skipped is not null then
                    perform skip_runs(st_run, st_function, st_revision, st_pool, st_trigger, st_input, st_created, st_more_text,
                                      st_events, re_start, re_event, v_skipped, v_standins, out_now, out_version);
                end if;
                v_off := v_off || r.taken;
                if o_text is not null then
                    -- A wait for a run that never came about waits for the one that stands for it; a skipped one listens for nothing.
                    select array[array_agg(o.run_id order by o.n), array_agg(o.step_id order by o.n), array_agg(o.name order by o.n),
                                 array_agg(o.match_key order by o.n), array_agg(o.residual order by o.n),
                                 array_agg(coalesce(v_standins[array_position(st_run, o.target_run)], o.target_run) order by o.n)]
                    into v_target
                    from unnest(o_text[1:1], o_text[2:2], o_text[3:3], o_text[4:4], o_text[5:5], o_text[6:6])
                        with ordinality o (run_id, step_id, name, match_key, residual, target_run, n);
                end if;
            end if;
        end if;
        select * into r from start_runs(st_run, st_function, st_revision, st_pool, st_trigger, st_input, st_created, st_due, st_lease,
                                        st_more_text, st_more_int, st_events, re_start, re_event, v_off, out_now, out_version);
        v_made := r.made;
        if v_made is not null or r.unleased is not null then
            out_rest := coalesce(out_rest, '{}') || jsonb_build_object('made', v_made, 'unleased', r.unleased);
        end if;
    end if;
    -- 9: turns
    if g_turn is not null then
        select * into r from send_signals(t_run, g_turn, g_key, g_value, g_step, s_id, s_occ, v_late, out_now, v_seq);
        v_signalled := r.signalled;
        out_ready := out_ready || r.ready;
        out_touched := out_touched || r.touched;
        out_rest := coalesce(out_rest, '{}') || jsonb_build_object('signalled', v_signalled);
        select array_agg(case when g.turn is null then s.value
                              when g.turn = any (v_signalled) then 'true'::bytea else 'false'::bytea end order by s.n)
        into v_value
        from unnest(s_value) with ordinality s (value, n) left join unnest(g_turn, g_step) g (turn, step) on g.step = s.n;
        -- One more: the wait that the last one ends is counted from its place.
        v_seq := v_seq + cardinality(g_turn) + 1;
    end if;
    if a_step is not null then
        insert into attempts (run_id, step_id, occurrence, attempt, started, ended, retry_at, error)
        select t_run[a.turn], a.step_id, a.occurrence, a.attempt, a.started, a.ended, a.retry_at, a.error
        from unnest(a_int[1:1], a_int[2:2], a_int[3:3], a_int[4:4], a_int[5:5], a_int[6:6], a_step, a_error)
            a (turn, occurrence, attempt, started, ended, retry_at, step_id, error)
        where v_late is null or a.turn <> all (v_late)
        on conflict do nothing;
    end if;
    if s_turn is not null or c_int is not null then
        v_lost := record_steps(t_run, t_epoch, s_turn, s_id, s_occ, s_kind, s_ok, v_value, s_attempts, s_started, s_ended,
                               c_int, c_text, v_late, v_seq);
        if v_lost is not null then
            out_rest := coalesce(out_rest, '{}') || jsonb_build_object('lost', v_lost);
        end if;
        v_seq := v_seq + coalesce(cardinality(s_turn), 0);
    end if;
    if o_text is not null then
        select * into r from open_waits(o_int, v_target, o_bytes, v_made, v_late, out_now, v_seq);
        out_ready := out_ready || r.ready;
        out_touched := out_touched || r.touched;
        if r.refused is not null then
            out_rest := coalesce(out_rest, '{}') || jsonb_build_object('refused', r.refused);
        end if;
        v_seq := v_seq + cardinality(o_int);
    end if;
    if k_turn is not null then
        with parked as (
            update queue q
            set runner_id = null, state = k.state, since = out_now,
                due = case when q.inbox > k.inbox then out_now else greatest(k.due, out_now) end,
                attempt = k.attempt, attempt_steps = k.steps
            from (
                select u.*, l.place
                from unnest(k_turn, k_due, k_state, k_attempt, k_steps, k_inbox) u (turn, due, state, attempt, steps, inbox)
                cross join lateral (select l.ctid as place from queue l where l.run_id = t_run[u.turn] offset 0) l
                where v_late is null or u.turn <> all (v_late)
            ) k
            where q.ctid = k.place
            returning q.pool, q.due, q.key1, q.key2
        )
        select array_agg(distinct p.pool) filter (where p.due <= out_now) as ready,
               array_agg(p.key1) filter (where p.key1 is not null) || array_agg(p.key2) filter (where p.key2 is not null) as freed
        into r from parked p;
        out_ready := out_ready || r.ready;
        if r.freed is not null then
            out_ready := out_ready || unblock(r.freed, out_now);
        end if;
    end if;
    if e_turn is not null then
        select array_agg(t_run[e.turn]), array_agg(e.status), array_agg(e.value) into v_e_run, v_e_status, v_e_value
        from unnest(e_turn, e_status, e_value) e (turn, status, value)
        where v_late is null or e.turn <> all (v_late);
        if v_e_run is not null then
            select * into r from end_runs(v_e_run, v_e_status, v_e_value, out_now, v_seq, p_system);
            out_ready := out_ready || r.ready;
            out_touched := out_touched || r.touched;
            if r.freed is not null then
                out_ready := out_ready || unblock(r.freed, out_now);
            end if;
        end if;
    end if;
    -- 10: runs that are wanted at once, and system events that are out
    if p_wakes is not null then
        select array_agg(q.run_id) filter (where q.runner_id is not null) as touched,
               array_agg(q.pool) filter (where q.runner_id is null) as ready
        into r from queue q where q.run_id = any (p_wakes);
        out_ready := out_ready || r.ready;
        out_touched := out_touched || r.touched;
        update queue q set due = out_now where q.run_id = any (p_wakes) and q.runner_id is null and q.due > out_now;
    end if;
    if p_outbox_done is not null then
        delete from outbox b where b.run_id = any (p_outbox_done);
    end if;
    -- 11: leases
    if cl_pools is null then
        return;
    end if;
    if cl_sweep then
        select * into r from sweep(out_now, cl_functions, li_function, li_first, li_second);
        out_recovered := r.recovered;
        out_ready := out_ready || r.ready;
        if r.overdue is not null or r.outbox_runs is not null then
            out_rest := coalesce(out_rest, '{}') || jsonb_build_object('overdue', r.overdue, 'outbox', r.outbox_runs);
        end if;
    end if;
    if cl_room > 0 then
        perform 1 from runners l where l.runner_id = cl_runner and l.expires > out_now and not l.draining;
        if found then
            v_picked := pick(cl_pools, cl_functions, cl_room, li_function, li_first, li_second, out_now);
            if cardinality(v_picked) = 0 and not cl_sweep then
                -- Nothing is due: look whether a slot was freed while its run was being blocked.
                v_pools := lift_blocks(cl_functions, li_function, li_first, li_second, 50, out_now);
                if cardinality(v_pools) > 0 then
                    out_ready := out_ready || v_pools;
                    v_picked := pick(cl_pools, cl_functions, cl_room, li_function, li_first, li_second, out_now);
                end if;
            end if;
            if cardinality(v_picked) > 0 then
                -- A share of the lease row, so that no sweep removes it before it sees what is claimed here.
                perform 1 from runners l where l.runner_id = cl_runner and l.expires > out_now and not l.draining for key share;
            end if;
            if cardinality(v_picked) > 0 and found then
                with claimed as (
                    update queue q
                    set runner_id = cl_runner, epoch = q.epoch + 1, started = coalesce(q.started, out_now), state = 0, since = out_now,
                        deadline = case when q.started is null then out_now + q.finish_within else q.deadline end,
                        deadline_kind = 1
                    where q.run_id = any (v_picked)
                    returning q.run_id, q.function_id, q.revision, q.epoch, q.inbox, q.attempt, q.attempt_steps, q.due, q.created,
                              q.trigger, q.input, q.recoveries, q.lifted
                )
                select array_agg(c.run_id), array_agg(c.function_id), array_agg(c.revision), array_agg(c.epoch),
                       array_agg(c.inbox), array_agg(c.attempt), array_agg(c.attempt_steps), array_agg(c.due),
                       array_agg(c.created), array_agg(c.trigger), array_agg(c.input), array_agg(c.recoveries > 0),
                       jsonb_object_agg(c.run_id, c.lifted) filter (where c.lifted > c.due)
                into cd_run, cd_function, cd_revision, cd_epoch, cd_inbox, cd_attempt, cd_steps, cd_due, cd_created, cd_trigger,
                     cd_input, cd_recovered, v_json
                from claimed c;
                if v_json is not null then
                    out_rest := coalesce(out_rest, '{}') || jsonb_build_object('lifted', v_json);
                end if;
            end if;
        end if;
    end if;
    if w_run is not null then
        select jsonb_agg(jsonb_build_array(w.run_id, case when q.run_id is null then -1 else q.inbox end)) into v_json
        from unnest(w_run, w_int[1:1], w_int[2:2]) w (run_id, epoch, inbox)
        left join lateral (
            select q.run_id, q.inbox from queue q
            where q.run_id = w.run_id and q.epoch = w.epoch and q.runner_id = cl_runner offset 0) q on true
        where q.run_id is null or q.inbox > w.inbox;
        if v_json is not null then
            out_rest := coalesce(out_rest, '{}') || jsonb_build_object('news', v_json);
        end if;
    end if;
    select least(min(d.due), (select min(q.deadline) from queue q where q.deadline > out_now)) into out_next_due
    from unnest(cl_pools) p (pool) cross join lateral (
        select q.due from queue q
        where q.pool = p.pool and q.runner_id is null and q.blocked_on is null and q.due > out_now
        order by q.due limit 1
    ) d;
end $$;
