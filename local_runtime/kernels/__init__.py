"""The arithmetic of models in C++, and what it takes to call it."""
