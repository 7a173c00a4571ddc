-- What verdicts rest on: frozen test sets, rankings query by query, every verdict, and interleaved searches.

-- The contents that a test set ranks, each list of them once.
CREATE TABLE measured_corpora (
    corpus   bytea PRIMARY KEY CHECK (length(corpus) = 32), -- SHA-256 of hashes
    contents int NOT NULL,
    hashes   bytea NOT NULL,                  -- content hashes of 32 bytes each, ascending
    CHECK (length(hashes) = 32 * contents)
);
-- Texts that test sets rank or compare and that are no contents, such as code without its documentation.
CREATE TABLE measured_texts (
    text_hash bytea PRIMARY KEY CHECK (length(text_hash) = 32), -- SHA-256 of text
    text      text NOT NULL
);
CREATE TABLE test_sets (
    name       text PRIMARY KEY,              -- SHA-256 over the queries, their answers and the corpus
    rules      text NOT NULL,                 -- by which rules it is measured
    queries    int NOT NULL,
    corpus     bytea NOT NULL REFERENCES measured_corpora,
    forgotten  int NOT NULL DEFAULT 0,        -- queries taken out since, as their askers were forgotten
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX test_sets_corpus ON test_sets (corpus);
CREATE TABLE test_set_queries (
    test_set   text NOT NULL REFERENCES test_sets ON DELETE CASCADE,
    query_key  bytea NOT NULL,                -- as in evaluation_queries
    query      text NOT NULL,
    origin     text NOT NULL,
    language   text NOT NULL,
    repository text NOT NULL,
    relevant   bytea[] NOT NULL,              -- the contents that answer it
    ranked_by  bytea[] NOT NULL,              -- the text that each of them is ranked by
    triplets   bytea[] NOT NULL,              -- texts, two by two: a positive and a negative
    PRIMARY KEY (test_set, query_key)
);
CREATE INDEX test_set_queries_key ON test_set_queries (query_key);

-- The documentation queries that no candidate may get worse at. One is in force; it is replaced only when it
-- can no longer tell, and says why.
CREATE TABLE general_test_sets (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    test_set   text NOT NULL REFERENCES test_sets,
    reason     text NOT NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
CREATE UNIQUE INDEX general_test_set_in_force ON general_test_sets ((true)) WHERE retired_at IS NULL;

-- What each query looked like under each model.
ALTER TABLE evaluation_queries ADD COLUMN repository text NOT NULL DEFAULT '';
ALTER TABLE evaluation_queries ADD COLUMN words int NOT NULL DEFAULT 0; -- of the query; 0 where not counted
ALTER TABLE evaluation_queries ADD COLUMN answer bytea;  -- the relevant content that stands first
ALTER TABLE evaluation_queries ADD COLUMN top bytea[] NOT NULL DEFAULT '{}'; -- the first contents, best first
-- What the way back put aside.
UPDATE evaluation_queries q
SET repository = aside.repository, words = aside.words, answer = decode(aside.answer, 'hex'),
    top = ARRAY(SELECT decode(value, 'hex') FROM jsonb_array_elements_text(aside.top) WITH ORDINALITY ORDER BY ordinality)
FROM evaluations e, jsonb_to_recordset(e.metrics -> 'rankings')
    AS aside (query_key text, repository text, words int, answer text, top jsonb)
WHERE e.metrics ? 'rankings' AND q.evaluation_id = e.id AND q.query_key = decode(aside.query_key, 'hex');
UPDATE evaluations SET metrics = metrics - 'rankings' WHERE metrics ? 'rankings';

-- Every verdict of the gate, with its numbers, its reasons and the thresholds then in force.
CREATE TABLE verdicts (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_version   text NOT NULL REFERENCES model_versions,
    serving_version text NOT NULL,
    test_set        text NOT NULL,
    decision        text NOT NULL
        CHECK (decision IN ('approved', 'rejected', 'not enough evidence', 'already serving')),
    content         jsonb NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX verdicts_model ON verdicts (model_version, id);
INSERT INTO verdicts (model_version, serving_version, test_set, decision, content, at)
SELECT version, said ->> 'serving_version', said ->> 'test_set', said ->> 'decision', said - 'at',
    coalesce((said ->> 'at')::timestamptz, now())
FROM model_versions m,
    jsonb_array_elements(coalesce(m.metrics -> 'verdicts', jsonb_build_array(m.metrics -> 'verdict'))) AS said
WHERE m.metrics ? 'verdict' ORDER BY 6;
UPDATE model_versions SET metrics = metrics - 'verdicts' WHERE metrics ? 'verdicts';

-- Searches whose results were drafted from two models, and which of them each result is credited to.
CREATE TABLE interleavings (
    search_id         uuid PRIMARY KEY REFERENCES searches ON DELETE CASCADE,
    serving_version   text NOT NULL REFERENCES model_versions,
    candidate_version text NOT NULL REFERENCES model_versions,
    CHECK (serving_version <> candidate_version)
);
CREATE INDEX interleavings_models ON interleavings (candidate_version, serving_version);
ALTER TABLE impressions ADD COLUMN team text CHECK (team IN ('serving', 'candidate')); -- NULL: not interleaved
