-- Who may send, and who did what. Keys are kept as digests (a webhook's secret as it is, for it has to sign); the audit is only added to.

create table access_keys (
    key_id text collate "C" primary key,
    name text collate "C" not null,
    kind text collate "C" not null check (kind in ('send', 'webhook')),
    proof bytea not null,
    events text not null,
    created bigint not null,
    created_by text not null,
    revoked bigint,
    revoked_by text
);
comment on column access_keys.events is 'a JSON list of event names, wildcards among them';

create function add_key(
    p_key_id text, p_name text, p_kind text, p_proof bytea, p_events text, p_created bigint, p_by text, p_most integer
) returns boolean
language plpgsql set search_path from current set lock_timeout = '5s' as $$
-- Add a key, unless its name has that many live ones already. One at a time, so that two can't both be the last.
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || ':keys', 0));
    if (select count(*) from access_keys k where k.name = p_name and k.revoked is null) >= p_most then
        return false;
    end if;
    insert into access_keys (key_id, name, kind, proof, events, created, created_by)
    values (p_key_id, p_name, p_kind, p_proof, p_events, p_created, p_by);
    return true;
end $$;

create table audit (
    audit_id bigint generated always as identity primary key,
    at bigint not null,
    actor text not null,
    verb text collate "C" not null,
    object text collate "C" not null,
    decision text collate "C" not null,
    request_id text,
    detail text not null
);
create index audit_object on audit (object, audit_id);

create function keep_audit() returns trigger
language plpgsql set search_path from current as $$
-- What happened stays as it was told, for ninety days at least.
begin
    if tg_op = 'DELETE' and old.at < ((extract(epoch from clock_timestamp()) - 90 * 86400) * 1000000)::bigint then
        return old;
    end if;
    raise exception 'the audit is only added to';
end $$;
create trigger audit_stays before update or delete on audit for each row execute function keep_audit();

create function prune_audit(p_before bigint, p_most integer) returns integer
language sql set search_path from current as $$
    with gone as (
        delete from audit where audit_id in (
            select a.audit_id from audit a
            where a.at < least(p_before, ((extract(epoch from clock_timestamp()) - 91 * 86400) * 1000000)::bigint)
            order by a.audit_id limit p_most)
        returning 1
    ) select count(*)::integer from gone
$$;

create function audit_spec() returns trigger
language plpgsql set search_path from current as $$
-- A changed function is a row in the transaction that changes it, whoever registers.
begin
    insert into audit (at, actor, verb, object, decision, detail)
    values ((extract(epoch from clock_timestamp()) * 1000000)::bigint, new.owner,
            case when not new.active then 'retire' when tg_op = 'INSERT' then 'register' else 'change' end,
            'functions/' || new.function_id, 'allowed', jsonb_build_object('revision', new.revision)::text);
    return null;
end $$;
create trigger functions_audited_new after insert on functions for each row execute function audit_spec();
create trigger functions_audited after update on functions for each row
when ((old.revision, old.owner, old.spec, old.active) is distinct from (new.revision, new.owner, new.spec, new.active))
execute function audit_spec();
