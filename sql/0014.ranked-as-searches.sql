-- In which order a test set ranks: what words and the crowd count beside the cosine, for every model alike; 0 and 0 is
-- the cosine alone, as all were until now.
ALTER TABLE test_sets ADD COLUMN words double precision NOT NULL DEFAULT 0 CHECK (words >= 0 AND words <= 1);
ALTER TABLE test_sets ADD COLUMN crowding double precision NOT NULL DEFAULT 0 CHECK (crowding >= 0 AND crowding <= 1);
