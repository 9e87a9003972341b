-- What the steps under way in a runner tell of how far they are, as of its last beat. Never history: it goes with the row.

-- json and not jsonb: it is kept as it was written, whatever characters its escapes stand for, so that no word can cost a runner its
-- beat.
alter table runners add column told json not null default '[]';
comment on column runners.told is '[run, step, occurrence, attempt, ratio, note, when] for each, newest first';
