"""The history of the tables, one file a step, oldest first by file name."""
