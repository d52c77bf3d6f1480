"""What happened, in SQL: tables, a writer that never waits, and reports."""
