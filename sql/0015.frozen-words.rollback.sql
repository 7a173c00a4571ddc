-- Without the counts, models that come later could not be measured as those before them were.
DO $$ BEGIN
    IF EXISTS (SELECT FROM test_set_queries WHERE words IS NOT NULL) THEN
        RAISE EXCEPTION 'refusing to forget how rare the words of % frozen queries were',
            (SELECT count(*) FROM test_set_queries WHERE words IS NOT NULL)
            USING HINT = 'Their test sets could no longer be measured on. Dump and delete them from test_sets first.';
    END IF;
END $$;
ALTER TABLE test_set_queries
    DROP COLUMN words, DROP COLUMN word_documents, DROP COLUMN word_weights, DROP COLUMN mean_length;
