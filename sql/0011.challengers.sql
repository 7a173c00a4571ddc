-- Which model version's results searches may be interleaved with, now and formerly.
CREATE TABLE challengers (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_version text NOT NULL REFERENCES model_versions,
    since         timestamptz NOT NULL DEFAULT now(),
    until         timestamptz                 -- NULL: still
);
CREATE UNIQUE INDEX challengers_one ON challengers ((true)) WHERE until IS NULL;
-- What the way back put aside.
INSERT INTO challengers (model_version, since, until)
SELECT m.version, aside.since, aside.until
FROM model_versions m, jsonb_to_recordset(m.metrics -> 'challenges') AS aside (since timestamptz, until timestamptz)
WHERE m.metrics ? 'challenges' ORDER BY aside.since;
UPDATE model_versions SET metrics = metrics - 'challenges' WHERE metrics ? 'challenges';
