-- How much the crowd around a text counts against it in a model version's ranking, beside its words; both in units
-- of cosine. Words were weighed on scales of each query before: what was learned so says nothing about the ranking of
-- now. It stays, with its evidence, and with NULL here: it is not in force, and the next index learns anew.
ALTER TABLE ranking_weights ADD COLUMN crowding double precision CHECK (crowding >= 0 AND crowding <= 1);
-- What the way back put aside.
UPDATE ranking_weights SET weight = (evidence #>> '{aside,words}')::double precision,
    crowding = (evidence #>> '{aside,crowding}')::double precision, evidence = evidence - 'aside'
WHERE evidence ? 'aside';
