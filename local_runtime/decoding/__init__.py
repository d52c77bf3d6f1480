"""How the next token is picked; one strategy a file."""
