-- Through what a search was asked: cli, api, web, mcp. NULL where that was not recorded.
ALTER TABLE searches ADD COLUMN client text;
-- What the way back put aside.
UPDATE searches SET client = filters ->> 'client', filters = filters - 'client' WHERE filters ? 'client';
