-- Under which name somebody's expired searches go on, so that they are one person however often searches expire. Kept
-- only as long as others of theirs, under the name itself, have not expired.
CREATE TABLE expired_names (
    user_name text PRIMARY KEY,
    alias     text NOT NULL UNIQUE
);
-- What the way back put aside.
INSERT INTO expired_names (user_name, alias)
SELECT DISTINCT ON (key) key, value FROM searches, jsonb_each_text(filters -> 'expired_names') ORDER BY key;
UPDATE searches SET filters = filters - 'expired_names' WHERE filters ? 'expired_names';

-- Until now what was said of a search after it had expired kept the name of whoever said it.
INSERT INTO expired_names (user_name, alias)
SELECT DISTINCT ON (f.user_name) f.user_name, CASE WHEN starts_with(f.user_name, 'web:') THEN 'web:' ELSE '' END
    || 'expired-' || left(replace(gen_random_uuid()::text, '-', ''), 16)
FROM feedback f JOIN searches s ON s.id = f.search_id
WHERE s.source = 'search' AND s.expired_at IS NOT NULL AND f.user_name !~ '^(web:)?expired-'
ON CONFLICT (user_name) DO NOTHING;
UPDATE feedback f SET user_name = n.alias FROM searches s, expired_names n
WHERE s.id = f.search_id AND s.source = 'search' AND s.expired_at IS NOT NULL AND n.user_name = f.user_name;
