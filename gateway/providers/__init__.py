"""Providers, one protocol a file, found by stem; `base` states the contract."""
