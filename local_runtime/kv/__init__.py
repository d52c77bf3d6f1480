"""Where keys and values of past tokens live."""
