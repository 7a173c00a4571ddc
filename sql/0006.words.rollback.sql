-- All of this is made again from the texts and the feedback.
DROP INDEX snippets_live_path;
DROP TABLE ranking_weights;
DROP TABLE word_corpus;
DROP TABLE word_documents;
DROP TRIGGER words_of_new_contents ON contents;
DROP FUNCTION words_of_new_contents();
DROP TABLE content_words;
DROP FUNCTION code_words(text);
