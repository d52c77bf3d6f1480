"""What of the keys and values is kept, and in how many bits."""
