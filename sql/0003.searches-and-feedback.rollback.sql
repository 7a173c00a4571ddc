-- Nothing here can be made again.
DO $$ BEGIN
    IF EXISTS (SELECT FROM searches) THEN
        RAISE EXCEPTION 'refusing to drop % searches and % pieces of feedback',
            (SELECT count(*) FROM searches), (SELECT count(*) FROM feedback)
            USING HINT = 'They cannot be recomputed. Dump them with pg_dump and empty the tables first.';
    END IF;
END $$;
DROP TABLE feedback;
DROP TABLE impressions;
DROP TABLE searches;
