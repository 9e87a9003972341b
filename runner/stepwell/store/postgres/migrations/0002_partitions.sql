-- History is cut by UTC day: created ahead, dropped whole. A DEFAULT partition catches what lies outside.

create function ulid_floor(at_ms bigint) returns text
language plpgsql immutable strict as $$
-- The smallest run id of that millisecond: ten characters of Crockford's base 32, highest first.
declare
    alphabet constant text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    rest bigint := at_ms;
    made text := '';
begin
    for place in 1..10 loop
        made := substr(alphabet, (rest % 32)::integer + 1, 1) || made;
        rest := rest / 32;
    end loop;
    return made;
end $$;

create table days (
    day date primary key
);
comment on table days is 'the days that have partitions of their own';

create function partitioned_tables(out name text, out by_received boolean) returns setof record
language sql immutable as $$
    select * from (values ('events', true), ('decisions', true), ('runs', false), ('run_events', false), ('steps', false),
                          ('attempts', false), ('ends', false)) t
$$;

create function make_day(wanted date) returns boolean
language plpgsql set search_path from current set lock_timeout = '2s' as $$
-- Make the day's partitions; rows of that day that the DEFAULT partition caught meanwhile move into them.
declare
    t record;
    part text;
    from_us constant bigint := (wanted - date '1970-01-01') * 86400000000::bigint;
    upto_us constant bigint := from_us + 86400000000;
    low text;
    high text;
    key_column text;
begin
    if exists (select from days where day = wanted) then
        return false;
    end if;
    for t in select * from partitioned_tables() loop
        part := format('%s_%s', t.name, to_char(wanted, 'YYYYMMDD'));
        key_column := case when t.by_received then 'received' else 'run_id' end;
        low := case when t.by_received then from_us::text else ulid_floor(from_us / 1000) end;
        high := case when t.by_received then upto_us::text else ulid_floor(upto_us / 1000) end;
        execute format('create table %I (like %I including defaults including constraints)', part, t.name);
        execute format('with moved as (delete from only %I where %I >= %L and %I < %L returning *) insert into %I select * from moved',
                       t.name || '_default', key_column, low, key_column, high, part);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', t.name, part, low, high);
        execute format('alter table %I set (autovacuum_vacuum_insert_scale_factor = 0.5)', part);
    end loop;
    insert into days values (wanted);
    return true;
end $$;

create function drop_day(unwanted date) returns integer
language plpgsql set search_path from current set lock_timeout = '2s' as $$
declare
    t record;
    dropped integer := 0;
begin
    delete from days where day = unwanted;
    if not found then
        return 0;
    end if;
    for t in select * from partitioned_tables() loop
        execute format('drop table %I', format('%s_%s', t.name, to_char(unwanted, 'YYYYMMDD')));
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;

create table events_default partition of events default;
create table decisions_default partition of decisions default;
create table runs_default partition of runs default;
create table run_events_default partition of run_events default;
create table steps_default partition of steps default;
create table attempts_default partition of attempts default;
create table ends_default partition of ends default;
