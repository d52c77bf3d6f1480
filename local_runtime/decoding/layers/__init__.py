"""Which layers a prompt or a token is computed by; one policy a file. For torch, and for one row at a time."""
