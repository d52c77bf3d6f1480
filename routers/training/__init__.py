"""Learning from outcomes, offline: data, training, evaluation, off-policy judgement. Never loaded by the gateway."""
