"""The one schema of policies and of the model catalogue; knows no HTTP, no SQL and no torch."""
