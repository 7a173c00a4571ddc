-- Words are weighed in another way from now on: what was learned is put aside, and counts 0 until it is learned anew.
UPDATE ranking_weights SET weight = 0,
    evidence = evidence || jsonb_build_object('aside', jsonb_build_object('words', weight, 'crowding', crowding))
WHERE crowding IS NOT NULL;
ALTER TABLE ranking_weights DROP COLUMN crowding;
