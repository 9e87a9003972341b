-- What a runner has been asked to execute and can't load: [function, revision, why] for each, so that its runs can say so.

ALTER TABLE runners ADD COLUMN broken TEXT NOT NULL DEFAULT '[]';
