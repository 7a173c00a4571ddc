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
