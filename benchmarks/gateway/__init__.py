"""Measures the proxy path from outside, over HTTP, beside a bare nginx proxy and a bare FastAPI proxy."""
