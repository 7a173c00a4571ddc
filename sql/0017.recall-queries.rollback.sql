-- They are made again.
DROP TABLE recall_queries;
