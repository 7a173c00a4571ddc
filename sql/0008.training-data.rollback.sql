-- Histories can be read again; what training sets know beyond their texts is put aside.
DROP TABLE commit_functions;
DROP TABLE commits;
DROP TABLE commit_histories;
UPDATE training_sets s SET counts = s.counts || jsonb_build_object('pair_reasons', aside.reasons)
FROM (
    SELECT training_set_id, jsonb_agg(jsonb_build_object(
        'pair_id', id, 'because', because, 'copy_group', encode(copy_group, 'hex'),
        'spared', (SELECT coalesce(jsonb_agg(encode(each, 'hex')), '[]') FROM unnest(spared) AS each))) AS reasons
    FROM training_pairs WHERE because <> '{}' OR copy_group IS NOT NULL OR spared <> '{}'
    GROUP BY training_set_id
) AS aside
WHERE s.id = aside.training_set_id;
UPDATE training_sets s SET counts = s.counts || jsonb_build_object('negative_copies', aside.copies)
FROM (
    SELECT p.training_set_id, jsonb_agg(jsonb_build_object(
        'pair_id', n.pair_id, 'negative_hash', encode(n.negative_hash, 'hex'),
        'copy_group', encode(n.copy_group, 'hex'))) AS copies
    FROM training_negatives n JOIN training_pairs p ON p.id = n.pair_id
    WHERE n.copy_group IS NOT NULL GROUP BY p.training_set_id
) AS aside
WHERE s.id = aside.training_set_id;
ALTER TABLE training_negatives DROP COLUMN copy_group;
ALTER TABLE training_pairs DROP COLUMN spared;
ALTER TABLE training_pairs DROP COLUMN copy_group;
ALTER TABLE training_pairs DROP COLUMN because;
