-- Weights and moments of expiry are put aside; promises to people and counts of what is gone are not dropped.
DO $$ BEGIN
    IF EXISTS (SELECT FROM forgotten) THEN
        RAISE EXCEPTION 'refusing to drop the promise to keep % people forgotten', (SELECT count(*) FROM forgotten)
            USING HINT = 'An import could bring them back. Empty the table forgotten first if that is meant.';
    END IF;
    IF EXISTS (SELECT FROM search_days) THEN
        RAISE EXCEPTION 'refusing to drop the counts of % searches that expired',
            (SELECT sum(searches) FROM search_days)
            USING HINT = 'They cannot be counted again. Dump search_days and search_day_ranks and empty them first.';
    END IF;
END $$;
DROP TABLE forgotten;
DROP TABLE search_day_ranks;
DROP TABLE search_days;
DROP INDEX searches_to_expire;
UPDATE searches SET filters = filters || jsonb_build_object('expired_at', expired_at) WHERE expired_at IS NOT NULL;
ALTER TABLE searches DROP COLUMN expired_at;
UPDATE training_sets s SET counts = s.counts || jsonb_build_object('negative_weights', aside.weights)
FROM (
    SELECT p.training_set_id, jsonb_agg(jsonb_build_object(
        'pair_id', n.pair_id, 'negative_hash', encode(n.negative_hash, 'hex'), 'weight', n.weight)) AS weights
    FROM training_negatives n JOIN training_pairs p ON p.id = n.pair_id
    WHERE n.weight <> 1 GROUP BY p.training_set_id
) AS aside
WHERE s.id = aside.training_set_id;
ALTER TABLE training_negatives DROP COLUMN weight;
