-- Functions that somebody paused: their runs wait. What is due of them is blocked on `!FUNCTION`, a key that no limit has, so that it lies
-- outside the index of what may be claimed, however much it is; a claim leaves out what fell due since.

CREATE TABLE pauses (
    function_id TEXT PRIMARY KEY, since INTEGER NOT NULL, paused_by TEXT NOT NULL, reason TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('api', 'manifest'))
) STRICT, WITHOUT ROWID;
