"""One decoder-only transformer and the loaders that fill it."""
