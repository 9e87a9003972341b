-- What the steps under way in a runner tell of how far they are, as of its last beat: [run, step, occurrence, attempt, ratio, note,
-- when] for each, newest first. Never history: it goes with the row.
ALTER TABLE runners ADD COLUMN told TEXT NOT NULL DEFAULT '[]';
