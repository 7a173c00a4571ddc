-- What negatives weigh, how long searches are kept as they were made, and who asked to be forgotten.

-- A snippet that somebody rejected counts whole; one that was passed over counts by how likely it was looked at.
ALTER TABLE training_negatives ADD COLUMN weight double precision NOT NULL DEFAULT 1
    CHECK (weight > 0 AND weight <= 1);
-- What the way back put aside.
UPDATE training_negatives n SET weight = aside.weight
FROM training_sets s, jsonb_to_recordset(s.counts -> 'negative_weights')
    AS aside (pair_id bigint, negative_hash text, weight double precision)
WHERE s.counts ? 'negative_weights'
    AND n.pair_id = aside.pair_id AND n.negative_hash = decode(aside.negative_hash, 'hex');
UPDATE training_sets SET counts = counts - 'negative_weights' WHERE counts ? 'negative_weights';

-- When a search lost its person's name and all it showed below what was judged; NULL while it is whole.
ALTER TABLE searches ADD COLUMN expired_at timestamptz;
UPDATE searches SET expired_at = (filters ->> 'expired_at')::timestamptz, filters = filters - 'expired_at'
WHERE filters ? 'expired_at';
CREATE INDEX searches_to_expire ON searches (at) WHERE source = 'search' AND expired_at IS NULL;

-- What stays of searches that expired: counts by day (UTC) and client.
CREATE TABLE search_days (
    day      date NOT NULL,
    client   text NOT NULL,                   -- 'unknown' where it was not recorded
    searches bigint NOT NULL,
    users    bigint NOT NULL,                 -- different names that day
    clicks   bigint NOT NULL,                 -- impressions clicked, accepted, rejected, copied
    accepts  bigint NOT NULL,
    rejects  bigint NOT NULL,
    copies   bigint NOT NULL,
    PRIMARY KEY (day, client)
);
CREATE TABLE search_day_ranks (
    day    date NOT NULL,
    client text NOT NULL,
    rank   int NOT NULL CHECK (rank >= 1),
    shown  bigint NOT NULL,
    chosen bigint NOT NULL,                   -- clicked, copied or accepted
    PRIMARY KEY (day, client, rank),
    FOREIGN KEY (day, client) REFERENCES search_days ON DELETE CASCADE
);

-- People who asked to be forgotten, so that an old file does not bring them back: a salted hash of the name.
CREATE TABLE forgotten (
    salt      bytea NOT NULL CHECK (length(salt) = 16),
    name_hash bytea PRIMARY KEY CHECK (length(name_hash) = 32),
    at        timestamptz NOT NULL DEFAULT now()
);
