-- A test set that is measured in another order is another test set: it cannot be kept as one of the cosine alone.
DO $$ BEGIN
    IF EXISTS (SELECT FROM test_sets WHERE words > 0 OR crowding > 0) THEN
        RAISE EXCEPTION 'refusing to forget how % frozen test sets rank',
            (SELECT count(*) FROM test_sets WHERE words > 0 OR crowding > 0)
            USING HINT = 'Models could no longer be measured on them. Dump and delete them from test_sets first.';
    END IF;
END $$;
ALTER TABLE test_sets DROP COLUMN crowding;
ALTER TABLE test_sets DROP COLUMN words;
