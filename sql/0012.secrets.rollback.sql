-- The next extraction reads every file again, for it is another version's: the counts are found anew.
ALTER TABLE files DROP COLUMN secrets;
