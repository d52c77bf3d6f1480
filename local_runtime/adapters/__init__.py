"""What is added to a base model's weights for some requests: low-rank adapters and their mixtures."""
