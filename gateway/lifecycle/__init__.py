"""Policies in force: where they come from and how a change reaches running requests."""
