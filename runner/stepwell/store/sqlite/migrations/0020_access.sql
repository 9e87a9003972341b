-- Who may send, and who did what. Keys are kept as digests (a webhook's secret as it is, for it has to sign); the audit is only added to.

CREATE TABLE access_keys (
    key_id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('send', 'webhook')), proof BLOB NOT NULL,
    events TEXT NOT NULL, created INTEGER NOT NULL, created_by TEXT NOT NULL, revoked INTEGER, revoked_by TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    audit_id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, actor TEXT NOT NULL, verb TEXT NOT NULL, object TEXT NOT NULL,
    decision TEXT NOT NULL, request_id TEXT, detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_object ON audit (object, audit_id);

-- What happened stays as it was told, for ninety days at least.
CREATE TRIGGER audit_is_told BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit WHEN old.at >= (unixepoch() - 90 * 86400) * 1000000
BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;

-- A changed function is a row in the transaction that changes it, whoever registers.
CREATE TRIGGER functions_audited_new AFTER INSERT ON functions
BEGIN
    INSERT INTO audit (at, actor, verb, object, decision, detail)
    VALUES (CAST(unixepoch('subsec') * 1000000 AS INTEGER), new.owner, CASE WHEN new.active THEN 'register' ELSE 'retire' END,
        'functions/' || new.function_id, 'allowed', json_object('revision', new.revision));
END;
CREATE TRIGGER functions_audited AFTER UPDATE ON functions
WHEN (old.revision, old.owner, old.spec, old.active) IS NOT (new.revision, new.owner, new.spec, new.active)
BEGIN
    INSERT INTO audit (at, actor, verb, object, decision, detail)
    VALUES (CAST(unixepoch('subsec') * 1000000 AS INTEGER), new.owner, CASE WHEN new.active THEN 'change' ELSE 'retire' END,
        'functions/' || new.function_id, 'allowed', json_object('revision', new.revision));
END;
