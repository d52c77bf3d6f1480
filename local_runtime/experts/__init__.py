"""Mixture-of-experts models bigger than memory: where experts lie, which are here, and which are fetched next."""
