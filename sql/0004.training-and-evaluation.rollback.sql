-- A model that was fine-tuned must stay explainable by the data it learned from.
DO $$ BEGIN
    IF EXISTS (SELECT FROM model_versions WHERE training_set_id IS NOT NULL) THEN
        RAISE EXCEPTION 'refusing to drop the training sets of % model versions',
            (SELECT count(*) FROM model_versions WHERE training_set_id IS NOT NULL)
            USING HINT = 'Their lineage would be lost. Dump the tables and clear training_set_id first.';
    END IF;
END $$;
DROP TABLE evaluation_queries;
DROP TABLE evaluations;
ALTER TABLE model_versions DROP CONSTRAINT model_versions_training_set_id_fkey;
DROP TABLE training_negatives;
DROP TABLE training_pairs;
DROP TABLE training_sets;
