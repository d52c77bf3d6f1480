"""Categories of queries and, by category, what may be answered from memory."""
