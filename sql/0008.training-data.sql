-- What commits say of the functions they changed, why each pair is one, and what is a copy of what.

-- How far the history of a git repository was read. What was found in it is kept while it is its history.
CREATE TABLE commit_histories (
    repository_id bigint PRIMARY KEY REFERENCES repositories ON DELETE CASCADE,
    tip           text NOT NULL,              -- the newest commit that was looked at
    depth         int NOT NULL,               -- from there, so many were
    rules         text NOT NULL,              -- what decides what a commit gives; others read all of it again
    read_at       timestamptz NOT NULL DEFAULT now()
);

-- One row per commit looked at: what it says, or why it is left out. Who wrote it is not stored.
CREATE TABLE commits (
    repository_id bigint NOT NULL REFERENCES commit_histories ON DELETE CASCADE,
    commit_id     text NOT NULL,
    committed_at  timestamptz NOT NULL,
    query         text,                       -- its message, cleaned
    left_out      text,                       -- the reason
    PRIMARY KEY (repository_id, commit_id),
    CHECK ((query IS NULL) <> (left_out IS NULL))
);

-- The functions that a commit changed, as it left them.
CREATE TABLE commit_functions (
    repository_id bigint NOT NULL,
    commit_id     text NOT NULL,
    path          text NOT NULL,
    symbol        text NOT NULL,
    code          text NOT NULL,              -- without its documentation
    change        double precision NOT NULL CHECK (change >= 0 AND change <= 1), -- share of it; 1: it is new
    aside         boolean NOT NULL,           -- of a test or an example: no answer, and no negative
    PRIMARY KEY (repository_id, commit_id, path, symbol),
    FOREIGN KEY (repository_id, commit_id) REFERENCES commits ON DELETE CASCADE
);

-- because: what a pair rests on; names nobody. copy_group: 32 bytes that near-duplicates share; NULL: a content is
-- its own. spared: groups that are no negatives for the pair's query.
ALTER TABLE training_pairs ADD COLUMN because jsonb NOT NULL DEFAULT '{}';
ALTER TABLE training_pairs ADD COLUMN copy_group bytea;
ALTER TABLE training_pairs ADD COLUMN spared bytea[] NOT NULL DEFAULT '{}';
ALTER TABLE training_negatives ADD COLUMN copy_group bytea;
-- What the way back put aside.
UPDATE training_pairs p SET because = aside.because, copy_group = decode(aside.copy_group, 'hex'),
    spared = ARRAY(SELECT decode(each, 'hex') FROM jsonb_array_elements_text(aside.spared) AS each)
FROM training_sets s, jsonb_to_recordset(s.counts -> 'pair_reasons')
    AS aside (pair_id bigint, because jsonb, copy_group text, spared jsonb)
WHERE s.counts ? 'pair_reasons' AND p.id = aside.pair_id;
UPDATE training_negatives n SET copy_group = decode(aside.copy_group, 'hex')
FROM training_sets s, jsonb_to_recordset(s.counts -> 'negative_copies')
    AS aside (pair_id bigint, negative_hash text, copy_group text)
WHERE s.counts ? 'negative_copies'
    AND n.pair_id = aside.pair_id AND n.negative_hash = decode(aside.negative_hash, 'hex');
UPDATE training_sets SET counts = counts - 'pair_reasons' - 'negative_copies'
WHERE counts ?| ARRAY['pair_reasons', 'negative_copies'];
