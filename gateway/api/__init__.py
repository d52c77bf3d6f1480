"""Routes: one file a resource; the hot ones are bare ASGI, admin is FastAPI."""
