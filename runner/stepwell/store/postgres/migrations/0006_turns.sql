-- What executions commit for their own runs. Arrays run parallel; `*_turn` is the place (from 1) of the turn a row belongs to.
-- `v_fenced` lists the turns that don't land; it is null nearly always, and every statement here is one pass over the pile.

create function send_signals(
    t_run text[], g_turn integer[], g_key text[], g_value bytea[], g_step integer[], s_id text[], s_occ integer[],
    v_fenced integer[], v_now bigint, v_seq bigint,
    out signalled integer[], out ready text[], out touched text[]
) language plpgsql as $$
-- Give each signal to the wait that has been open longest. One that was sent before (its step is recorded) is not sent twice.
declare
    g record;
    w record;
    r record;
    v_before bytea;
begin
    signalled := '{}';
    ready := '{}';
    touched := '{}';
    for g in
        select * from unnest(g_turn, g_key, g_value, g_step) with ordinality o (turn, key, value, step, n)
        where v_fenced is null or o.turn <> all (v_fenced)
        order by o.n
    loop
        select s.value into v_before from steps s
        where s.run_id = t_run[g.turn] and s.step_id = s_id[g.step] and s.occurrence = s_occ[g.step];
        if found then
            if v_before = 'true'::bytea then
                signalled := signalled || g.turn;
            end if;
            continue;
        end if;
        select o.* into w from waits o where o.match_key = g.key and o.kind = 6 order by o.opened, o.run_id limit 1 for update;
        if found then
            signalled := signalled || g.turn;
            select * into r from resolve_waits(
                array[w.run_id], array[6], array[w.step_id], array[w.occurrence], array[true], array[g.value], v_now, v_seq + g.n);
            ready := ready || r.ready;
            touched := touched || r.touched;
        end if;
    end loop;
end $$;

create function open_waits(
    o_int bigint[], o_text text[], o_bytes bytea[], v_made text[], v_fenced integer[], v_now bigint, v_seq bigint,
    out refused integer[], out ready text[], out touched text[]
) language plpgsql as $$
-- Upsert waits. `o_int`: turn, kind, occurrence, due, opened, attempt; `o_text`: run, step, name, match_key, residual, target_run;
-- `o_bytes`: context, detail. Turn 0 stands for a start's own listeners (`v_made`: of these starts only). A signal that another
-- step waits for is refused.
declare
    k record;
    p_run text[];
    p_kind integer[];
    p_id text[];
    p_occ integer[];
    p_ok boolean[];
    p_value bytea[];
begin
    if 6 = any (o_int[2:2]) then
        for k in
            select distinct o.match_key from unnest(o_int[2:2], o_text[4:4]) o (kind, match_key) where o.kind = 6 order by 1
        loop
            perform pg_advisory_xact_lock(hashtextextended(current_schema() || ':signal:' || k.match_key, 0));
        end loop;
        select array_agg(o.n) into refused
        from (
            select o.*, row_number() over (partition by o.match_key order by o.n) as rank
            from unnest(o_int[1:1], o_int[2:2], o_int[3:3], o_text[1:1], o_text[2:2], o_text[4:4])
                with ordinality o (turn, kind, occurrence, run_id, step_id, match_key, n)
            where o.kind = 6 and (v_fenced is null or o.turn <> all (v_fenced))
              and (select count(*) from steps s where s.run_id = o.run_id and s.step_id = o.step_id and s.occurrence = o.occurrence) = 0
        ) o
        where o.rank > 1 or exists (
            select from waits w where w.match_key = o.match_key and w.kind = 6
            and (w.run_id, w.step_id, w.occurrence) is distinct from (o.run_id, o.step_id, o.occurrence));
    end if;
    insert into waits (run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail)
    select distinct on (o.run_id, o.kind, o.step_id, o.occurrence)
           o.run_id, o.kind, o.step_id, o.occurrence, o.due, o.opened, o.attempt, o.name, o.match_key, o.residual, o.context,
           o.target_run, o.detail
    from unnest(o_int[1:1], o_int[2:2], o_int[3:3], o_int[4:4], o_int[5:5], o_int[6:6], o_text[1:1], o_text[2:2], o_text[3:3],
                o_text[4:4], o_text[5:5], o_text[6:6], o_bytes[1:1], o_bytes[2:2])
        with ordinality o (turn, kind, occurrence, due, opened, attempt, run_id, step_id, name, match_key, residual, target_run,
                           context, detail, n)
    where (v_fenced is null or o.turn <> all (v_fenced)) and (refused is null or o.n <> all (refused))
      and (o.turn > 0 or v_made is null or o.run_id = any (v_made))
      -- A turn that is sent again opens nothing that was resolved meanwhile.
      and (o.kind = 9 or (select count(*) from steps s where s.run_id = o.run_id and s.step_id = o.step_id
                                and s.occurrence = o.occurrence) = 0)
    order by o.run_id, o.kind, o.step_id, o.occurrence, o.n desc
    on conflict (run_id, kind, step_id, occurrence) do update
    set due = excluded.due, attempt = greatest(waits.attempt, excluded.attempt), name = excluded.name,
        match_key = excluded.match_key, residual = excluded.residual, context = excluded.context,
        target_run = excluded.target_run, detail = excluded.detail;
    if 4 = any (o_int[2:2]) then
        -- The invoked run's row, locked, tells that it has not ended behind our back; one that has ended answers at once.
        perform 1 from queue q where q.run_id = any (o_text[6:6]) order by q.run_id for update;
        select array_agg(o.run_id), array_agg(4), array_agg(o.step_id), array_agg(o.occurrence::integer),
               array_agg(e.status = 'completed'), array_agg(child_result(e.run_id, e.status, e.value))
        into p_run, p_kind, p_id, p_occ, p_ok, p_value
        from unnest(o_int[1:1], o_int[2:2], o_int[3:3], o_text[1:1], o_text[2:2], o_text[6:6])
            o (turn, kind, occurrence, run_id, step_id, target_run)
        cross join lateral (select e.run_id, e.status, e.value from ends e where e.run_id = o.target_run offset 0) e
        where o.kind = 4 and (v_fenced is null or o.turn <> all (v_fenced));
        if p_run is not null then
            select * into ready, touched from resolve_waits(p_run, p_kind, p_id, p_occ, p_ok, p_value, v_now, v_seq);
        end if;
    end if;
end $$;

create function record_steps(
    t_run text[], t_epoch integer[], s_turn integer[], s_id text[], s_occ integer[], s_kind integer[], s_ok boolean[],
    s_value bytea[], s_attempts integer[], s_started bigint[], s_ended bigint[], c_int integer[], c_text text[],
    v_fenced integer[], v_seq bigint
) returns integer[]
language plpgsql as $$
-- Close waits, then write the journal. Return the places of the steps that are lost: their wait was taken by somebody else, or
-- something else is recorded under their key. `c_int`: turn, kind, occurrence, place of the step (0: none); `c_text`: step.
declare
    v_closed integer;
    v_gone integer[];
    v_open integer[];
    v_lost integer[];
    v_count integer;
begin
    if c_int is not null then
        with closed as (
            delete from waits w using (
                select c.step, o.place
                from unnest(c_int[1:1], c_int[2:2], c_int[3:3], c_int[4:4], c_text) c (turn, kind, occurrence, step, step_id)
                cross join lateral (
                    select o.ctid as place from waits o
                    where o.run_id = t_run[c.turn] and o.kind = c.kind and o.step_id = c.step_id and o.occurrence = c.occurrence
                    offset 0) o
                where v_fenced is null or c.turn <> all (v_fenced)
            ) c
            where w.ctid = c.place
            returning c.step
        )
        select array_agg(c.step), count(*) into v_open, v_closed from closed c;
        if v_closed < cardinality(c_text) then
            -- Nobody else takes a retry (kind 1): its wait may be missing because it was never worth writing.
            select array_agg(c.step) into v_gone from unnest(c_int[2:2], c_int[4:4]) c (kind, step)
            where c.step > 0 and c.kind <> 1 and (v_open is null or c.step <> all (v_open));
        end if;
    end if;
    insert into steps (run_id, step_id, occurrence, kind, ok, attempts, epoch, seq, started, ended, value)
    select t_run[s.turn], s.id, s.occ, s.kind, s.ok, s.attempts, t_epoch[s.turn], v_seq + s.n, s.started, s.ended, s.value
    from unnest(s_turn, s_id, s_occ, s_kind, s_ok, s_value, s_attempts, s_started, s_ended)
        with ordinality s (turn, id, occ, kind, ok, value, attempts, started, ended, n)
    where (v_fenced is null or s.turn <> all (v_fenced)) and (v_gone is null or s.n <> all (v_gone))
    on conflict do nothing;
    get diagnostics v_count = row_count;
    if v_count < cardinality(s_turn) then
        select array_agg(s.n) into v_lost
        from unnest(s_turn, s_id, s_occ, s_value) with ordinality s (turn, id, occ, value, n)
        left join lateral (
            select r.run_id, r.epoch, r.value from steps r
            where r.run_id = t_run[s.turn] and r.step_id = s.id and r.occurrence = s.occ offset 0) r on true
        where (v_fenced is null or s.turn <> all (v_fenced))
          and (r.run_id is null or r.epoch <> t_epoch[s.turn] or r.value <> s.value);
    end if;
    return v_lost;
end $$;
