"""Weights in, tokens out: an in-process runtime and embedders that could be lifted out of this project tomorrow."""
