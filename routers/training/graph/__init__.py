"""Training of the `graph` router kind: its network, what it learns from, the loop, and the folding into arrays."""
