"""Embedders, one a file; `base` states the contract."""
