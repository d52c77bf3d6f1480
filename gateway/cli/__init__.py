"""The command line: one file a command group; every command works without a running server unless it says so."""
