-- When which model was compared with what served is put aside. Its index stays, as one that was never flipped to.
UPDATE model_versions m SET metrics = m.metrics || jsonb_build_object('challenges', aside.said)
FROM (
    SELECT model_version, jsonb_agg(jsonb_build_object('since', since, 'until', until) ORDER BY id) AS said
    FROM challengers GROUP BY model_version
) AS aside
WHERE m.version = aside.model_version;
DROP TABLE challengers;
