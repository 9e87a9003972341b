-- Since which version of the registry a function has been what it is, so that an event can be asked about with certainty.

alter table functions add column since bigint not null default 0;
update functions set since = (select version from registry);

create function function_since() returns trigger
language plpgsql set search_path from current as $$
-- Every change of a row moves the registry's version by one, later in the same transaction.
begin
    new.since := (select g.version + 1 from registry g);
    return new;
end $$;
create trigger function_since before insert or update on functions for each row execute function function_since();
