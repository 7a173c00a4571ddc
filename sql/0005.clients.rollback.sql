-- The filters keep what the column knew.
UPDATE searches SET filters = filters || jsonb_build_object('client', client) WHERE client IS NOT NULL;
ALTER TABLE searches DROP COLUMN client;
