"""Makes a mixture of experts of a dense model, without changing what it was trained on. Offline; torch."""
