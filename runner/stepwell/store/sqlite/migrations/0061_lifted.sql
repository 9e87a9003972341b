-- Since when what a limit or a pause had held back may be claimed again (0: it never did), so that the time before isn't taken for a
-- wait for a runner.
--
-- `since` can't say it: it tells people how long a run has been blocked, and one that needs two keys is let go by the one and blocked
-- by the other with each sweep.

ALTER TABLE queue ADD COLUMN lifted INTEGER NOT NULL DEFAULT 0;
