-- When a runner beat last, so that recoveries are counted with the time that they took; 0: not since this column was made.
ALTER TABLE runners ADD COLUMN beaten INTEGER NOT NULL DEFAULT 0;
