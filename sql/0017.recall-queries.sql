-- Vectors of the queries that the recall of a model's index is measured with: making them is a tenth of the time of a
-- run in which one file changed.
CREATE TABLE recall_queries (
    model_version text NOT NULL REFERENCES model_versions,
    query_hash    bytea NOT NULL, -- SHA-256 of the query
    vector        bytea NOT NULL, -- float32, little-endian, as many as the model's vectors have
    PRIMARY KEY (model_version, query_hash)
);
