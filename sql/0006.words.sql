-- The words of code, for ranking by words beside ranking by meaning, and how much they count for each model.

-- The words of a code or of a query, with their positions: identifiers split where camelCase, snake_case and
-- digits say so, English words stemmed; and each identifier of several words whole as well, in lower case and
-- without underscores, so that getHTTPResponse and get_http_response meet. Separators are named one by one
-- (ASCII), so that letters of other scripts count as letters under any locale. What is beyond 50,000
-- characters is left out: a tsvector has a limit of 1 MB.
CREATE FUNCTION code_words(code text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN
    to_tsvector('pg_catalog.english', regexp_replace(
        regexp_replace(left(code, 50000), '[\x01-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+', ' ', 'g'),
        '(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])',
        ' ', 'g'))
    || to_tsvector('pg_catalog.simple', replace(regexp_replace(
        -- Underscores stay for now; then every identifier of one word goes.
        regexp_replace(left(code, 50000), '[\x01-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]+', ' ', 'g'),
        '(?:^|(?<= ))_*(?:[A-Z]?[^ A-Z0-9_]+|[A-Z]+|[0-9]+)?_*(?= |$)', '', 'g'), '_', ''));

-- Beside `contents`, not in it: whoever reads texts need not read past their words.
CREATE TABLE content_words (
    content_hash bytea PRIMARY KEY REFERENCES contents ON DELETE CASCADE,
    words        tsvector NOT NULL,
    length       int NOT NULL                 -- how many words, repeated ones counted each time
);

CREATE FUNCTION words_of_new_contents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO content_words (content_hash, words, length)
    SELECT n.content_hash, w.words, (SELECT coalesce(sum(cardinality(positions)), 0) FROM unnest(w.words))
    -- OFFSET 0 keeps the planner from writing the function into both places, and so from running it twice.
    FROM added n CROSS JOIN LATERAL (SELECT code_words(n.text) AS words OFFSET 0) AS w;
    RETURN NULL;
END $$;
-- A text never changes: its key is its hash.
CREATE TRIGGER words_of_new_contents AFTER INSERT ON contents REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION words_of_new_contents();

INSERT INTO content_words (content_hash, words, length)
SELECT c.content_hash, w.words, (SELECT coalesce(sum(cardinality(positions)), 0) FROM unnest(w.words))
FROM contents c CROSS JOIN LATERAL (SELECT code_words(c.text) AS words OFFSET 0) AS w;
CREATE INDEX content_words_words ON content_words USING gin (words);

-- What BM25 knows of the corpus, counted over the live texts when an index is built: in how many of them a
-- word stands. A word that is not listed stands in one, or in none.
CREATE TABLE word_documents (
    word      text COLLATE "C" PRIMARY KEY,
    documents int NOT NULL CHECK (documents > 1)
);
CREATE TABLE word_corpus (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    documents   bigint NOT NULL CHECK (documents > 0),
    mean_length double precision NOT NULL CHECK (mean_length > 0),
    counted_at  timestamptz NOT NULL DEFAULT now()
);

-- How much words count in a model version's ranking: learned from feedback, and 0 unless it was proven on
-- queries that took no part in choosing it. The newest row of a model version is in force.
CREATE TABLE ranking_weights (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_version text NOT NULL REFERENCES model_versions,
    weight        double precision NOT NULL CHECK (weight >= 0 AND weight <= 1),
    evidence      jsonb NOT NULL,             -- what it was learned from, what was measured, why it is what it is
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ranking_weights_newest ON ranking_weights (model_version, id);

-- A path filter that names a folder (src/**) finds its snippets by the beginning of their paths.
CREATE INDEX snippets_live_path ON snippets (path text_pattern_ops) WHERE vanished_at IS NULL;
