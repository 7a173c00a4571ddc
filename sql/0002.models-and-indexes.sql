-- Model versions, the vectors they made, and the index versions that serve them.

CREATE TABLE model_versions (
    version         text PRIMARY KEY CHECK (version ~ '^[0-9a-f]{64}$'), -- fingerprint
    name            text NOT NULL,            -- preset name, or <base name>-<first 12 of the version>
    spec            jsonb NOT NULL,           -- EncoderSpec
    dims            int NOT NULL CHECK (dims > 0),
    location        text NOT NULL,            -- what load_encoder takes: preset, directory, checkpoint
    state           text NOT NULL CHECK (state IN ('base', 'candidate', 'approved', 'serving', 'retired', 'rejected')),
    base_version    text REFERENCES model_versions,      -- lineage: NULL for a base encoder
    training_set_id bigint,
    lineage         jsonb NOT NULL DEFAULT '{}', -- seed, settings, code version, device, loss and metric history
    metrics         jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Every change of state, with its reasons: the gate's verdict, a manual promotion, a rollback.
CREATE TABLE model_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version    text NOT NULL REFERENCES model_versions,
    from_state text,
    to_state   text NOT NULL,
    actor      text NOT NULL,                 -- gate, index, person
    reasons    jsonb NOT NULL DEFAULT '[]',
    at         timestamptz NOT NULL DEFAULT now()
);

-- The vectors a model version made, one table each: all rows of a table come from one model version,
-- and the column's type carries that model's dimensions.
CREATE TABLE embedding_tables (
    model_version text PRIMARY KEY REFERENCES model_versions,
    table_name    text NOT NULL UNIQUE,
    dims          int NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE index_versions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_version text NOT NULL REFERENCES model_versions,
    table_name    text UNIQUE,                -- NULL once dropped
    state         text NOT NULL CHECK (state IN ('building', 'ready', 'serving', 'retired', 'failed', 'dropped')),
    dims          int NOT NULL,
    row_count     bigint NOT NULL DEFAULT 0,
    recall_at_10  double precision,           -- HNSW against exact search
    recall_sample int,
    build_seconds double precision,
    parameters    jsonb NOT NULL DEFAULT '{}',
    previous_id   bigint REFERENCES index_versions, -- what served before it: where a rollback goes
    created_at    timestamptz NOT NULL DEFAULT now(),
    served_from   timestamptz,
    served_until  timestamptz
);
-- At most one index serves; the flip keeps this true in one transaction.
CREATE UNIQUE INDEX index_versions_one_serving ON index_versions ((true)) WHERE state = 'serving';
CREATE UNIQUE INDEX model_versions_one_serving ON model_versions ((true)) WHERE state = 'serving';

-- Two models' vectors may well have the same number of dimensions, and then the column's type cannot tell
-- them apart. Loading therefore states whose vectors come (SET LOCAL honeloop.model_version), and each table
-- of vectors has a trigger with this function that compares; a query states it as an argument.
CREATE FUNCTION only_vectors_of() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('honeloop.model_version', true) IS DISTINCT FROM TG_ARGV[0] THEN
        RAISE EXCEPTION 'table % holds vectors of model version % only; these are of %', TG_TABLE_NAME, TG_ARGV[0],
            coalesce(nullif(current_setting('honeloop.model_version', true), ''), 'a model version not stated')
            USING ERRCODE = 'HL001', HINT = 'Load vectors into the table of the model version that made them.';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION vectors_are_of(vectors text, version text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE made_by text;
BEGIN
    SELECT model_version INTO made_by FROM (
        SELECT table_name, model_version FROM index_versions
        UNION ALL SELECT table_name, model_version FROM embedding_tables) AS known
    WHERE known.table_name = vectors;
    IF made_by IS DISTINCT FROM version THEN
        RAISE EXCEPTION 'table % holds vectors of model version %; the query''s vector is of %', vectors,
            coalesce(made_by, 'unknown'), coalesce(version, 'a model version not stated')
            USING ERRCODE = 'HL001', HINT = 'Embed the query with the model version that made the table.';
    END IF;
    RETURN true;
END $$;
