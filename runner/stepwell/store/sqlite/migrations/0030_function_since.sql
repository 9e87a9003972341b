-- Since which version of the registry a function has been what it is, so that an event can be asked about with certainty.

ALTER TABLE functions ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE functions SET since = (SELECT version FROM registry);

-- Every change of a row moves the registry's version by one, later in the same transaction.
CREATE TRIGGER function_added AFTER INSERT ON functions BEGIN
    UPDATE functions SET since = (SELECT version + 1 FROM registry) WHERE function_id = new.function_id;
END;
CREATE TRIGGER function_changed AFTER UPDATE OF revision, pool, owner, spec, active ON functions BEGIN
    UPDATE functions SET since = (SELECT version + 1 FROM registry) WHERE function_id = new.function_id;
END;
