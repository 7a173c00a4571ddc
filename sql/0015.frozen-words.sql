-- What the corpus said of a query's words when its test set was frozen: the counts move with the code, and a set that is
-- measured again has to rank as it did. Null where the cosine alone ranks; a set of before that ranks by words, too, is
-- not measured again.
ALTER TABLE test_set_queries
    ADD COLUMN words          text[],             -- the rarest first
    ADD COLUMN word_documents int[],              -- in how many texts each stood
    ADD COLUMN word_weights   double precision[], -- its inverse document frequency
    ADD COLUMN mean_length    double precision,   -- of a text, in words
    ADD CHECK (num_nulls(words, word_documents, word_weights, mean_length) IN (0, 4)),
    ADD CHECK (cardinality(words) = cardinality(word_documents) AND cardinality(words) = cardinality(word_weights));
