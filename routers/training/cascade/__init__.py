"""Training of cascades: outcomes as a simulator of rounds, fitted values of calls, and baselines to beat."""
