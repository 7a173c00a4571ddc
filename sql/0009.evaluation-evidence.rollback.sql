-- Rankings and verdicts are put aside. Frozen test sets and interleaved searches cannot be made again.
DO $$ BEGIN
    IF EXISTS (SELECT FROM interleavings) THEN
        RAISE EXCEPTION 'refusing to drop which model the results of % interleaved searches came from',
            (SELECT count(*) FROM interleavings)
            USING HINT = 'It cannot be found out again. Dump interleavings and impressions, then empty interleavings.';
    END IF;
    IF EXISTS (SELECT FROM test_sets) THEN
        RAISE EXCEPTION 'refusing to drop % frozen test sets', (SELECT count(*) FROM test_sets)
            USING HINT = 'Models could no longer be measured on them. Dump and empty general_test_sets and test_sets first.';
    END IF;
END $$;
ALTER TABLE impressions DROP COLUMN team;
DROP TABLE interleavings;
UPDATE model_versions m SET metrics = m.metrics || jsonb_build_object('verdicts', aside.said)
FROM (
    SELECT model_version, jsonb_agg(content || jsonb_build_object('at', at) ORDER BY id) AS said
    FROM verdicts GROUP BY model_version
) AS aside
WHERE m.version = aside.model_version;
DROP TABLE verdicts;
UPDATE evaluations e SET metrics = e.metrics || jsonb_build_object('rankings', aside.rankings)
FROM (
    SELECT evaluation_id, jsonb_agg(jsonb_build_object(
        'query_key', encode(query_key, 'hex'), 'repository', repository, 'words', words,
        'answer', encode(answer, 'hex'),
        'top', (SELECT coalesce(jsonb_agg(encode(hash, 'hex') ORDER BY place), '[]')
                FROM unnest(top) WITH ORDINALITY AS t (hash, place)))) AS rankings
    FROM evaluation_queries WHERE answer IS NOT NULL OR words > 0 OR repository <> ''
    GROUP BY evaluation_id
) AS aside
WHERE e.id = aside.evaluation_id;
ALTER TABLE evaluation_queries DROP COLUMN top;
ALTER TABLE evaluation_queries DROP COLUMN answer;
ALTER TABLE evaluation_queries DROP COLUMN words;
ALTER TABLE evaluation_queries DROP COLUMN repository;
DROP TABLE general_test_sets;
DROP TABLE test_set_queries;
DROP TABLE test_sets;
DROP TABLE measured_texts;
DROP TABLE measured_corpora;
