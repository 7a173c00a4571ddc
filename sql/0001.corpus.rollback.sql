-- Everything here is cut out of the sources again by the next run, except which sources there are.
DO $$ BEGIN
    IF EXISTS (SELECT FROM repositories) THEN
        RAISE EXCEPTION 'refusing to drop % registered repositories', (SELECT count(*) FROM repositories)
            USING HINT = 'Remove them first with `honeloop source remove NAME`.';
    END IF;
END $$;
DROP TABLE snippets;
DROP TABLE contents;
DROP TABLE files;
DROP TABLE repositories;
