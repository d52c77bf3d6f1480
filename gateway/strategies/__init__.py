"""How several calls make one answer: one strategy a file, found by the name of its file."""
