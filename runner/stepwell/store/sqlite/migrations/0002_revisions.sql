-- Revisions: what runs may be pinned to, and where the code of each lies. They stay until no run needs them any more.

CREATE TABLE revisions (
    function_id TEXT NOT NULL, revision TEXT NOT NULL, pool TEXT NOT NULL, code BLOB NOT NULL, created INTEGER NOT NULL,
    PRIMARY KEY (function_id, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX revisions_pool ON revisions (pool);
