-- Vectors and indexes are made again from the snippets. Fine-tuned models are not.
DO $$
DECLARE t text;
BEGIN
    IF EXISTS (SELECT FROM model_versions WHERE base_version IS NOT NULL) THEN
        RAISE EXCEPTION 'refusing to drop the registry of % fine-tuned model versions',
            (SELECT count(*) FROM model_versions WHERE base_version IS NOT NULL)
            USING HINT = 'Their checkpoints would no longer be known. Dump model_versions and empty it first.';
    END IF;
    FOR t IN SELECT table_name FROM embedding_tables
             UNION ALL SELECT table_name FROM index_versions WHERE table_name IS NOT NULL LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', t);
    END LOOP;
END $$;
DROP FUNCTION vectors_are_of(text, text);
DROP FUNCTION only_vectors_of();
DROP TABLE index_versions;
DROP TABLE embedding_tables;
DROP TABLE model_events;
DROP TABLE model_versions;
