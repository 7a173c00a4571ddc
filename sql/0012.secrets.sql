-- How many secrets (keys, tokens) were recognised in a file and left out of what is kept of it.
ALTER TABLE files ADD COLUMN secrets int NOT NULL DEFAULT 0;
