-- Training sets, and what the models did on the test set, query by query.

CREATE TABLE training_sets (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint   text NOT NULL UNIQUE,       -- SHA-256 over its pairs and triplets: same data, same name
    pairs_fingerprint text NOT NULL,          -- SHA-256 over its pairs alone: unchanged pairs are not mined again
    model_version text NOT NULL REFERENCES model_versions, -- whose index the negatives were mined from
    counts        jsonb NOT NULL,             -- by split and origin; what was dropped and why
    settings      jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE training_pairs (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    training_set_id bigint NOT NULL REFERENCES training_sets ON DELETE CASCADE,
    split           text NOT NULL CHECK (split IN ('train', 'validation', 'test')),
    origin          text NOT NULL CHECK (origin IN ('feedback', 'docstring', 'commit')),
    query           text NOT NULL CHECK (query <> ''),
    positive_hash   bytea NOT NULL REFERENCES contents,
    positive_text   text NOT NULL CHECK (positive_text <> ''), -- documentation cut out for origin docstring
    weight          double precision NOT NULL CHECK (weight > 0 AND weight <= 1),
    language        text NOT NULL,
    group_key       bytea NOT NULL            -- what the split is the hash of
);
CREATE INDEX training_pairs_set ON training_pairs (training_set_id, split);

CREATE TABLE training_negatives (
    pair_id        bigint NOT NULL REFERENCES training_pairs ON DELETE CASCADE,
    negative_hash  bytea NOT NULL REFERENCES contents,
    negative_text  text NOT NULL CHECK (negative_text <> ''),
    reason         text NOT NULL CHECK (reason IN ('rejected', 'passed-over', 'mined')),
    positive_score double precision,          -- cosine to the query under the mining model
    negative_score double precision,
    PRIMARY KEY (pair_id, negative_hash)
);

ALTER TABLE model_versions
    ADD FOREIGN KEY (training_set_id) REFERENCES training_sets;

CREATE TABLE evaluations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_version text NOT NULL REFERENCES model_versions,
    test_set      text NOT NULL,              -- SHA-256 over the test queries and the corpus they rank
    queries       int NOT NULL,
    corpus        int NOT NULL,
    metrics       jsonb NOT NULL,             -- overall, per origin, per language, with confidence intervals
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model_version, test_set)
);

CREATE TABLE evaluation_queries (
    evaluation_id bigint NOT NULL REFERENCES evaluations ON DELETE CASCADE,
    query_key     bytea NOT NULL,             -- the same query has the same key under every model
    query         text NOT NULL,
    origin        text NOT NULL,
    language      text NOT NULL,
    rank          int,                        -- of the first relevant snippet, from 1
    metrics       jsonb NOT NULL,
    PRIMARY KEY (evaluation_id, query_key)
);
