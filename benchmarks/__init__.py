"""What the figures of the README come from; imports nothing of the product, drives it from outside."""
